package resource

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Schema is the structure of a value in JSON: the part of JSON Schema that the
// API uses. It fills in defaults, checks input, and is published as OpenAPI and
// CRDs.
type Schema struct {
	Description string             `json:"description,omitempty"`
	Type        string             `json:"type,omitempty"` // object, array, string, integer, number, boolean
	Format      string             `json:"format,omitempty"`
	Properties  map[string]*Schema `json:"properties,omitempty"`
	Required    []string           `json:"required,omitempty"`
	// AdditionalProperties is the schema of a map's values.
	AdditionalProperties *Schema  `json:"additionalProperties,omitempty"`
	Items                *Schema  `json:"items,omitempty"`
	Enum                 []string `json:"enum,omitempty"`
	DefaultValue         any      `json:"default,omitempty"`
	Minimum              *float64 `json:"minimum,omitempty"`
	Maximum              *float64 `json:"maximum,omitempty"`
	MinLength            *int     `json:"minLength,omitempty"`
	MaxLength            *int     `json:"maxLength,omitempty"`
	MinItems             *int     `json:"minItems,omitempty"`
	MaxItems             *int     `json:"maxItems,omitempty"`
	Pattern              string   `json:"pattern,omitempty"`
	IntOrString          bool     `json:"x-kubernetes-int-or-string,omitempty"`
	// Open accepts anything, as the value of an extension's config.
	Open bool `json:"x-kubernetes-preserve-unknown-fields,omitempty"`
	// Check returns what is wrong with a string, beyond what JSON Schema can
	// say, or "". Nil accepts all. It is not published.
	Check func(string) string `json:"-"`
	// Unsigned says that the type in code holds no negative numbers, so that a
	// minimum of 0 is no rule of the API. It is not published.
	Unsigned bool `json:"-"`
	// Quoted accepts numbers that are written as strings, as protobuf does.
	Quoted bool `json:"-"`
}

// Schemer is implemented by types whose JSON is not what reflection would say,
// such as durations written as strings.
type Schemer interface{ JSONSchema() *Schema }

func schemaOf(v any) *Schema { return SchemaOf(reflect.TypeOf(v)) }

// SchemaOf derives the schema of a Go type from its JSON and schema tags. A
// field is required when its json tag has no omitempty or omitzero and it is no
// pointer.
// The schema tag is a list of enum=A|B, default=V, min=N, max=N, minLen=N,
// maxLen=N, minItems=N, maxItems=N, optional. Protobuf messages are described
// by their descriptors.
func SchemaOf(t reflect.Type) *Schema {
	if t.Implements(schemerType) {
		return reflect.New(deref(t)).Interface().(Schemer).JSONSchema()
	}
	if reflect.PointerTo(t).Implements(schemerType) {
		return reflect.New(t).Interface().(Schemer).JSONSchema()
	}
	if s := protoSchema(t); s != nil {
		return s
	}
	switch t {
	case timeType:
		return &Schema{Type: "string", Format: "date-time"}
	case rawType:
		return &Schema{Open: true}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return SchemaOf(t.Elem())
	case reflect.Struct:
		s := &Schema{Type: "object", Properties: map[string]*Schema{}}
		structFields(s, t)
		slices.Sort(s.Required)
		return s
	case reflect.Slice:
		return &Schema{Type: "array", Items: SchemaOf(t.Elem())}
	case reflect.Map:
		return &Schema{Type: "object", AdditionalProperties: SchemaOf(t.Elem())}
	case reflect.String:
		return &Schema{Type: "string"}
	case reflect.Bool:
		return &Schema{Type: "boolean"}
	case reflect.Int:
		return &Schema{Type: "integer"}
	case reflect.Int32, reflect.Int64:
		return &Schema{Type: "integer", Format: t.Kind().String()}
	case reflect.Uint16, reflect.Uint32, reflect.Uint64:
		zero := 0.0
		return &Schema{Type: "integer", Format: t.Kind().String()[1:], Minimum: &zero, Unsigned: true}
	case reflect.Float64:
		return &Schema{Type: "number"}
	case reflect.Interface:
		return &Schema{Open: true}
	}
	panic("resource: no schema for " + t.String())
}

var (
	schemerType = reflect.TypeFor[Schemer]()
	timeType    = reflect.TypeFor[time.Time]()
	rawType     = reflect.TypeFor[json.RawMessage]()
)

func deref(t reflect.Type) reflect.Type {
	if t.Kind() == reflect.Pointer {
		return t.Elem()
	}
	return t
}

func structFields(s *Schema, t reflect.Type) {
	for i := range t.NumField() {
		f := t.Field(i)
		tag := f.Tag.Get("json")
		name, opts, _ := strings.Cut(tag, ",")
		if name == "-" || !f.IsExported() && !f.Anonymous {
			continue
		}
		if name == "" && f.Anonymous {
			structFields(s, deref(f.Type))
			continue
		}
		p := SchemaOf(f.Type)
		optional := strings.Contains(opts, "omitempty") || strings.Contains(opts, "omitzero") || f.Type.Kind() == reflect.Pointer
		optional = applyTag(p, f.Tag.Get("schema")) || optional
		s.Properties[name] = p
		if !optional {
			s.Required = append(s.Required, name)
		}
	}
}

func applyTag(s *Schema, tag string) (optional bool) {
	if tag == "" {
		return false
	}
	number := func(v string) *float64 {
		f, err := strconv.ParseFloat(v, 64)
		if err != nil {
			panic("resource: bad schema tag " + tag)
		}
		return &f
	}
	count := func(v string) *int {
		n := int(*number(v))
		return &n
	}
	for _, part := range strings.Split(tag, ",") {
		key, v, _ := strings.Cut(part, "=")
		switch key {
		case "enum":
			s.Enum = strings.Split(v, "|")
		case "default":
			s.DefaultValue = v
			if s.Type == "integer" || s.Type == "number" {
				s.DefaultValue = *number(v)
			}
			if s.Type == "boolean" {
				s.DefaultValue = v == "true"
			}
		case "min":
			s.Minimum = number(v)
		case "max":
			s.Maximum = number(v)
		case "minLen":
			s.MinLength = count(v)
		case "maxLen":
			s.MaxLength = count(v)
		case "minItems":
			s.MinItems = count(v)
		case "maxItems":
			s.MaxItems = count(v)
		case "optional":
			optional = true
		default:
			panic("resource: unknown schema tag " + part)
		}
	}
	return optional
}

// Default returns v, the result of decoding JSON, with absent members that have
// a default filled in. It modifies maps in place.
func (s *Schema) Default(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for name, p := range s.Properties {
			if got, ok := v[name]; ok && got != nil {
				v[name] = p.Default(got)
			} else if p.DefaultValue != nil {
				v[name] = p.DefaultValue
			}
		}
		if s.AdditionalProperties != nil {
			for name, got := range v {
				v[name] = s.AdditionalProperties.Default(got)
			}
		}
	case []any:
		if s.Items != nil {
			for i := range v {
				v[i] = s.Items.Default(v[i])
			}
		}
	}
	return v
}

// Validate returns every structural violation of v, the result of decoding JSON
// with json.Number, whose path is given. Unknown members are no violation.
func (s *Schema) Validate(path string, v any) FieldErrors {
	var errs FieldErrors
	s.walk(path, v, func(s *Schema, path string, v any) { s.checkStructure(&errs, path, v) })
	errs.Sort()
	return errs
}

// Undecodable returns every value of v, which is structurally valid, that code
// cannot take: numbers beyond those of their type, and strings that Check refuses.
func (s *Schema) Undecodable(path string, v any) FieldErrors {
	var errs FieldErrors
	s.walk(path, v, func(s *Schema, path string, v any) { s.checkValue(&errs, path, v) })
	errs.Sort()
	return errs
}

// unknown returns the paths of members of v, the result of decoding JSON, that the
// schema does not have. Of specs in Go the case of letters does not count.
func (s *Schema) unknown(path string, v any, anyCase bool) []string {
	var out []string
	s.walk(path, v, func(s *Schema, path string, v any) {
		m, ok := v.(map[string]any)
		if !ok || len(s.Properties) == 0 || s.AdditionalProperties != nil {
			return
		}
		for name := range m {
			if s.Properties[name] == nil && !(anyCase && s.hasFold(name)) {
				out = append(out, join(path, name))
			}
		}
	})
	return out
}

func (s *Schema) hasFold(name string) bool {
	for p := range s.Properties {
		if strings.EqualFold(p, name) {
			return true
		}
	}
	return false
}

// walk calls visit for v and all that is in it and has a schema.
func (s *Schema) walk(path string, v any, visit func(s *Schema, path string, v any)) {
	if s.Open || v == nil {
		return
	}
	visit(s, path, v)
	switch v := v.(type) {
	case map[string]any:
		for name, p := range s.Properties {
			if got, ok := v[name]; ok {
				p.walk(join(path, name), got, visit)
			}
		}
		if s.AdditionalProperties != nil {
			for name, got := range v {
				s.AdditionalProperties.walk(fmt.Sprintf("%s[%q]", path, name), got, visit)
			}
		}
	case []any:
		if s.Items != nil {
			for i, item := range v {
				s.Items.walk(fmt.Sprintf("%s[%d]", path, i), item, visit)
			}
		}
	}
}

func (s *Schema) checkStructure(errs *FieldErrors, path string, v any) {
	wrong := func(want string) {
		errs.Add(path, "in body must be of type %s: %q", want, jsonTypeName(v))
	}
	if s.IntOrString {
		if _, ok := v.(string); !ok && !isInteger(v) {
			wrong("integer or string")
		}
		return
	}
	switch s.Type {
	case "object":
		m, ok := v.(map[string]any)
		if !ok {
			wrong("object")
			return
		}
		for _, name := range s.Required {
			if got, ok := m[name]; !ok || got == nil {
				errs.Add(join(path, name), "in body is required")
			}
		}
	case "array":
		list, ok := v.([]any)
		if !ok {
			wrong("array")
			return
		}
		if s.MinItems != nil && len(list) < *s.MinItems {
			errs.Add(path, "in body should have at least %d items", *s.MinItems)
		}
		if s.MaxItems != nil && len(list) > *s.MaxItems {
			errs.Add(path, "in body should have at most %d items", *s.MaxItems)
		}
	case "string":
		str, ok := v.(string)
		if !ok {
			wrong("string")
			return
		}
		s.validateString(errs, path, str)
	case "boolean":
		if _, ok := v.(bool); !ok {
			wrong("boolean")
		}
	case "integer", "number":
		f, ok := s.number(v)
		if !ok || s.Type == "integer" && f != math.Trunc(f) {
			wrong(s.Type)
			return
		}
		if len(s.Enum) > 0 && !slices.Contains(s.Enum, fmt.Sprint(f)) {
			errs.Add(path, "in body should be one of [%s]", strings.Join(s.Enum, " "))
		}
		if s.Minimum != nil && f < *s.Minimum && !(s.Unsigned && *s.Minimum == 0) {
			errs.Add(path, "in body should be greater than or equal to %v", *s.Minimum)
		}
		if s.Maximum != nil && f > *s.Maximum {
			errs.Add(path, "in body should be less than or equal to %.0f", *s.Maximum)
		}
	}
}

func (s *Schema) checkValue(errs *FieldErrors, path string, v any) {
	switch s.Type {
	case "integer":
		f, ok := s.number(v)
		low, high := s.bounds()
		if ok && (f < low || f > high) {
			errs.Add(path, "must be in inclusive range [%.0f, %.0f]", low, high)
		}
	case "string":
		if str, ok := v.(string); ok && s.Check != nil {
			if reason := s.Check(str); reason != "" {
				errs.Add(path, "%s", reason)
			}
		}
	case "":
		if f, ok := asFloat(v); ok && s.IntOrString && (f < math.MinInt32 || f > math.MaxInt32) {
			errs.Add(path, "must be in inclusive range [%d, %d]", math.MinInt32, math.MaxInt32)
		}
	}
}

// bounds are those of the type that holds an integer.
func (s *Schema) bounds() (low, high float64) {
	switch {
	case s.Unsigned && s.Format == "int16":
		return 0, math.MaxUint16
	case s.Unsigned && s.Format == "int32":
		return 0, math.MaxUint32
	case s.Unsigned:
		return 0, 1 << 63
	case s.Format == "int32":
		return math.MinInt32, math.MaxInt32
	}
	return -1 << 63, 1 << 63
}

// number reads a number as the schema allows it to be written.
func (s *Schema) number(v any) (float64, bool) {
	if str, ok := v.(string); ok && s.Quoted {
		f, err := strconv.ParseFloat(str, 64)
		return f, err == nil
	}
	return asFloat(v)
}

func (s *Schema) validateString(errs *FieldErrors, path, str string) {
	if len(s.Enum) > 0 && !slices.Contains(s.Enum, str) {
		errs.Add(path, "in body should be one of [%s]", strings.Join(s.Enum, " "))
	}
	if s.MinLength != nil && len([]rune(str)) < *s.MinLength {
		errs.Add(path, "in body should be at least %d chars long", *s.MinLength)
	}
	if s.MaxLength != nil && len([]rune(str)) > *s.MaxLength {
		errs.Add(path, "in body should be at most %d chars long", *s.MaxLength)
	}
	if s.Pattern != "" {
		if !compiledPattern(s.Pattern).MatchString(str) {
			errs.Add(path, "in body should match '%s'", s.Pattern)
		}
	}
}

var patterns sync.Map // string → *regexp.Regexp; patterns come from code only

func compiledPattern(p string) *regexp.Regexp {
	if re, ok := patterns.Load(p); ok {
		return re.(*regexp.Regexp)
	}
	re := regexp.MustCompile(p)
	patterns.Store(p, re)
	return re
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

func asFloat(v any) (float64, bool) {
	switch v := v.(type) {
	case float64:
		return v, true
	case json.Number:
		f, err := v.Float64()
		return f, err == nil
	}
	return 0, false
}

func isInteger(v any) bool {
	f, ok := asFloat(v)
	return ok && f == math.Trunc(f)
}

func jsonTypeName(v any) string {
	switch v.(type) {
	case string:
		return "string"
	case bool:
		return "boolean"
	case []any:
		return "array"
	case map[string]any:
		return "object"
	}
	return "number"
}
