package resource

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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

// DecodeJSON reads a resource as users send it. Times, kri, snis and status are
// ignored, and so are unknown fields. It returns FieldErrors when the structure
// is wrong, after filling in defaults, and an error wrapping ErrSyntax when body
// is no JSON object. Semantic checks (Kind.Validate) are the caller's next step.
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
	var errs FieldErrors
	meta := Meta{ID: ID{Type: k.Type}}
	stringField := func(key string) string {
		v, ok := doc[key]
		if !ok || v == nil {
			return ""
		}
		s, ok := v.(string)
		if !ok {
			errs.Add(key, "must be a string")
		}
		return s
	}
	meta.Type = Type(stringField("type"))
	meta.Mesh, meta.Name = stringField("mesh"), stringField("name")
	if raw, ok := doc["labels"]; ok && raw != nil {
		m, ok := raw.(map[string]any)
		if !ok {
			errs.Add("labels", "must be an object of strings")
		}
		meta.Labels = make(map[string]string, len(m))
		for key, v := range m {
			s, ok := v.(string)
			if !ok {
				errs.Add(LabelPath(key), "must be a string")
			}
			meta.Labels[key] = s
		}
	}
	for _, key := range []string{"type", "mesh", "name", "labels", "creationTime", "modificationTime", "kri", "snis"} {
		delete(doc, key)
	}
	spec, specErrs := k.decodeSpec(doc)
	errs = append(errs, specErrs...)
	if len(errs) > 0 {
		errs.Sort()
		return nil, errs
	}
	declared := meta.Type
	o, err := k.New(meta, spec, nil)
	if err != nil {
		return nil, err
	}
	o.Type = declared // what the document says; the caller compares it
	return o, nil
}

func (k *Kind) decodeSpec(doc map[string]any) (any, FieldErrors) {
	var errs FieldErrors
	var value any = doc
	path := ""
	if !k.Proto {
		delete(doc, "status")
		v, ok := doc["spec"]
		if !ok || v == nil {
			if k.Policy != nil || len(k.Schema.Properties) > 0 && k.Schema.specRequired() {
				errs.Add("spec", "in body is required")
				return nil, errs
			}
			v = map[string]any{}
		}
		value, path = v, "spec"
	}
	value = k.Schema.Default(value)
	if errs = k.Schema.Validate(path, value); len(errs) > 0 {
		return nil, errs
	}
	spec := k.newSpec()
	b := mustJSON(value)
	var err error
	if m, ok := spec.(proto.Message); ok {
		err = protojson.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(b, m)
	} else {
		err = json.Unmarshal(b, spec)
	}
	if err != nil { // what the schema cannot express, such as a bad duration
		errs.Add(path, "%s", err.Error())
		return nil, errs
	}
	return spec, nil
}
