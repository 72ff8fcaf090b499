package resource

import (
	"bytes"
	"maps"
	"sync"
	"time"
)

// Meta is what every resource has besides its spec.
type Meta struct {
	ID
	Labels map[string]string // never modified once the Meta is in an Object
	// Version is the revision of the store that last changed this resource; it
	// is what If-Match and optimistic writes compare. Zero before it is stored.
	Version  uint64
	Created  time.Time
	Modified time.Time
}

// DisplayName is the name the user gave, without the suffix that sync adds.
func (m *Meta) DisplayName() string {
	if n := m.Labels[LabelDisplayName]; n != "" {
		return n
	}
	return m.Name
}

// Zone is the zone that the resource comes from, empty if none is stated.
func (m *Meta) Zone() string { return m.Labels[LabelZone] }

// Namespace is the Kubernetes namespace that the resource comes from, if any.
func (m *Meta) Namespace() string { return m.Labels[LabelNamespace] }

// Object is one resource. It is immutable: nobody may change what it points to
// after New or FromWire returned it. To change a resource, make a new Object.
type Object struct {
	Meta
	Kind   *Kind
	Spec   any // pointer to the kind's spec; SpecOf gives it its type
	Status any // pointer to the kind's status; nil when nothing was reported

	spec   []byte // Spec on the wire, which is also how it is stored
	status []byte
	json   func() []byte
}

// SpecOf returns the spec of an object of a kind whose spec type is S.
// It panics on an object of another kind, which is a programming error.
func SpecOf[S any](o *Object) *S { return o.Spec.(*S) }

// StatusOf returns the status, or nil when nothing was reported yet.
func StatusOf[S any](o *Object) *S {
	s, _ := o.Status.(*S)
	return s
}

// New makes an object and encodes it once. Labels, spec and status belong to
// the object from then on. Status may be nil.
func (k *Kind) New(meta Meta, spec, status any) (*Object, error) {
	specBytes, err := k.encode(spec)
	if err != nil {
		return nil, err
	}
	var statusBytes []byte
	if status != nil {
		if statusBytes, err = k.encode(status); err != nil {
			return nil, err
		}
	}
	return k.object(meta, spec, status, specBytes, statusBytes), nil
}

// FromWire makes an object of stored or received bytes, which it keeps.
// An empty status is no status.
func (k *Kind) FromWire(meta Meta, spec, status []byte) (*Object, error) {
	s := k.newSpec()
	if err := k.decode(spec, s); err != nil {
		return nil, err
	}
	var st any
	if len(status) > 0 && k.newStatus != nil {
		st = k.newStatus()
		if err := k.decode(status, st); err != nil {
			return nil, err
		}
	}
	return k.object(meta, s, st, spec, status), nil
}

func (k *Kind) object(meta Meta, spec, status any, specBytes, statusBytes []byte) *Object {
	meta.Type = k.Type
	o := &Object{Meta: meta, Kind: k, Spec: spec, Status: status, spec: specBytes, status: statusBytes}
	o.json = sync.OnceValue(o.encodeJSON)
	return o
}

// SpecWire is the spec as stored and as sent on the KDS wire: deterministic
// protobuf, or JSON, by kind. The caller must not change it.
func (o *Object) SpecWire() []byte { return o.spec }

// StatusWire is the status in the same encoding; empty when there is none.
func (o *Object) StatusWire() []byte { return o.status }

// SameContent reports whether labels, spec and status are equal. Version and
// times do not count, so that writing the same again changes nothing.
func (o *Object) SameContent(other *Object) bool {
	return bytes.Equal(o.spec, other.spec) && bytes.Equal(o.status, other.status) && maps.Equal(o.Labels, other.Labels)
}
