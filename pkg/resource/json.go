package resource

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// head is the part that the JSON of all kinds starts with.
type head struct {
	Type             Type              `json:"type"`
	Mesh             string            `json:"mesh,omitempty"`
	Name             string            `json:"name"`
	CreationTime     time.Time         `json:"creationTime"`
	ModificationTime time.Time         `json:"modificationTime"`
	Labels           map[string]string `json:"labels,omitempty"`
	KRI              string            `json:"kri,omitempty"`
	SNIs             []sni             `json:"snis,omitempty"`
}

type sni struct {
	Port uint32 `json:"port"`
	SNI  string `json:"sni"`
}

// JSON is the representation that the API answers with. It is made once and
// shared: the caller must not change it.
func (o *Object) JSON() []byte { return o.json() }

func (o *Object) encodeJSON() []byte {
	h := HeadOf(o, o.Type)
	b := bytes.NewBuffer(h[:len(h)-1])
	if o.Kind.Proto {
		if spec := SpecJSON(o.Spec); len(spec) > 2 {
			b.WriteByte(',')
			b.Write(spec[1:])
			return b.Bytes()
		}
		b.WriteByte('}')
		return b.Bytes()
	}
	b.WriteString(`,"spec":`)
	b.Write(SpecJSON(o.Spec))
	if o.Kind.HasStatus || o.Kind.LocalStatus && o.Status != nil {
		b.WriteString(`,"status":`)
		status := o.Status
		if status == nil { // some have members that are always there
			status = o.Kind.NewStatus()
		}
		b.Write(SpecJSON(status))
	}
	b.WriteByte('}')
	return b.Bytes()
}

// HeadOf encodes the metadata of o as a JSON object under another type name,
// which is how overviews and the resource itself begin.
func HeadOf(o *Object, t Type) []byte {
	h := head{
		Type: t, Mesh: o.Mesh, Name: o.Name,
		CreationTime: o.Created.UTC(), ModificationTime: o.Modified.UTC(),
		Labels: o.Labels, KRI: o.KRI().String(),
	}
	if o.Kind.Ports != nil {
		for _, p := range o.Kind.Ports(o) {
			if name, ok := o.KRI().WithSection(p.Section).SNI(); ok {
				h.SNIs = append(h.SNIs, sni{Port: p.Number, SNI: name})
			}
		}
	}
	return mustJSON(h)
}

// SpecJSON encodes a spec or status of any kind, protobuf or not, compactly.
func SpecJSON(v any) []byte {
	if m, ok := v.(proto.Message); ok {
		b, err := protojson.Marshal(m)
		if err != nil {
			panic(fmt.Sprintf("resource: a decoded message cannot be encoded: %v", err))
		}
		var c bytes.Buffer // protojson varies its spaces on purpose
		if err := json.Compact(&c, b); err != nil {
			panic(err)
		}
		return c.Bytes()
	}
	return mustJSON(v)
}

func mustJSON(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(fmt.Sprintf("resource: %T cannot be encoded: %v", v, err))
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// ErrSyntax wraps errors of input that is not JSON at all.
var ErrSyntax = errors.New("not valid JSON")

// UndecodableError is input whose structure is right, or of a protobuf kind, but
// with values that cannot be read, such as a duration that is none. Tools know
// such input as a bad request as a whole, so that the fields are in the text.
type UndecodableError struct{ FieldErrors }

// Unwrap gives the fields to callers that can show them.
func (e *UndecodableError) Unwrap() error { return e.FieldErrors }

// DecodeJSON reads a resource as users send it. Times, kri, snis and status are
// ignored, and so are unknown fields. It returns FieldErrors when the structure
// is wrong, after filling in defaults, an UndecodableError when values cannot be
// read, and an error wrapping ErrSyntax when body is no JSON object. Semantic
// checks (Kind.Validate) are the caller's next step.
func (k *Kind) DecodeJSON(body []byte) (*Object, error) {
	var doc map[string]any
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	if err := d.Decode(&doc); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSyntax, err)
	}
	if doc == nil {
		return nil, fmt.Errorf("%w: null instead of an object", ErrSyntax)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: something follows the object", ErrSyntax)
	}
	meta, errs := k.decodeMeta(doc)
	spec, specErr := k.decodeSpec(doc)
	var undecodable *UndecodableError
	var fields FieldErrors
	switch {
	case errors.As(specErr, &undecodable):
		if len(errs) == 0 {
			return nil, undecodable
		}
	case errors.As(specErr, &fields):
		errs = append(errs, fields...)
	}
	if len(errs) > 0 {
		errs.Sort()
		if k.Proto {
			return nil, &UndecodableError{errs}
		}
		return nil, errs
	}
	declared := meta.Type
	meta.Type = k.Type
	o, err := k.New(meta, spec, nil)
	if err != nil {
		return nil, err
	}
	o.Type = declared // what the document says; the caller compares it
	return o, nil
}

// decodeMeta takes what all kinds have out of a document. What is wrong with it
// has no field where the kind has a schema: tools know only those of the spec.
func (k *Kind) decodeMeta(doc map[string]any) (Meta, FieldErrors) {
	var errs FieldErrors
	wrong := func(field, reason string) {
		if k.Proto {
			errs.Add(field, reason)
		} else {
			errs.Add("", field+" in body "+reason)
		}
	}
	stringField := func(key string) string {
		s, ok := doc[key].(string)
		if !ok && doc[key] != nil {
			wrong(key, "must be a string")
		}
		return s
	}
	meta := Meta{ID: ID{Type: Type(stringField("type")), Mesh: stringField("mesh"), Name: stringField("name")}}
	if !k.Proto && meta.Type != "" && meta.Type != k.Type {
		wrong("type", fmt.Sprintf("should be one of [%s]", k.Type))
	}
	if raw, ok := doc["labels"]; ok && raw != nil {
		m, ok := raw.(map[string]any)
		if !ok {
			wrong("labels", "must be an object of strings")
		}
		meta.Labels = make(map[string]string, len(m))
		for key, v := range m {
			s, ok := v.(string)
			if !ok {
				wrong(LabelPath(key), "must be a string")
			}
			meta.Labels[key] = s
		}
	}
	for _, key := range headMembers {
		delete(doc, key)
	}
	return meta, errs
}

// headMembers are what a document has whatever its kind.
var headMembers = []string{"type", "mesh", "name", "labels", "creationTime", "modificationTime", "kri", "snis"}

// Unknown returns, sorted, the paths of members of a document that resources of the
// kind do not have. DecodeJSON drops them.
func (k *Kind) Unknown(body []byte) []string {
	var doc map[string]any
	if json.Unmarshal(body, &doc) != nil {
		return nil
	}
	for _, key := range headMembers {
		delete(doc, key)
	}
	var out []string
	if k.Proto {
		out = k.Schema.unknown("", doc, false)
	} else {
		out = k.Schema.unknown("spec", doc["spec"], true)
		for member := range doc {
			if member != "spec" && member != "status" {
				out = append(out, member)
			}
		}
	}
	slices.Sort(out)
	return out
}

func (k *Kind) decodeSpec(doc map[string]any) (any, error) {
	var value any = doc
	path := ""
	if !k.Proto {
		path, value = "spec", doc["spec"]
		if value == nil {
			if k.Policy != nil || len(k.Schema.Required) > 0 {
				return nil, FieldErrors{{Reason: "spec in body is required"}}
			}
			value = map[string]any{}
		}
	}
	value = k.Schema.Default(value)
	errs := k.Schema.Validate(path, value)
	if len(errs) > 0 && !k.Proto {
		for i, e := range errs { // tools know paths within the spec only
			if e.Field == path {
				errs[i] = FieldError{Reason: path + " " + e.Reason}
			}
		}
		return nil, errs
	}
	if errs = append(errs, k.Schema.Undecodable(path, value)...); len(errs) > 0 {
		return nil, &UndecodableError{errs}
	}
	spec := k.newSpec()
	b := mustJSON(value)
	var err error
	if m, ok := spec.(proto.Message); ok {
		err = protojson.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(b, m)
	} else {
		err = json.Unmarshal(b, spec)
	}
	if err != nil { // what the schema cannot express
		return nil, &UndecodableError{FieldErrors{{Field: path, Reason: err.Error()}}}
	}
	return spec, nil
}
