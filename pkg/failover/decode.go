package failover

import (
	"cmp"
	"encoding/json"
	"fmt"
	"iter"
	"slices"

	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/policy/all"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/topology"
)

// Objects is resources that no control plane has, by type.
type Objects map[resource.Type][]*resource.Object

// Get implements topology.Source.
func (s Objects) Get(id resource.ID) *resource.Object {
	for _, o := range s[id.Type] {
		if o.ID == id {
			return o
		}
	}
	return nil
}

// List implements topology.Source.
func (s Objects) List(t resource.Type, mesh string) iter.Seq[*resource.Object] {
	return func(yield func(*resource.Object) bool) {
		for _, o := range s[t] {
			if (mesh == "" || o.Mesh == mesh) && !yield(o) {
				return
			}
		}
	}
}

var _ topology.Source = Objects{}

// FromDocuments reads resources in JSON, as users apply them to a global or
// export them from it, for a look ahead. A resource belongs to the zone that its
// label kuma.io/zone names, else to the global. Kinds that do not matter to
// traffic are left out; an error says which document is wrong, from 0.
func FromDocuments(documents [][]byte) (Inputs, error) {
	in := Inputs{Policies: all.Policies(), Site: resource.Site{Global: true, Env: resource.EnvUniversal}, Files: true}
	kinds := kind.All()
	for _, d := range in.Policies {
		kinds = append(kinds, d.Kind())
	}
	in.Kinds = resource.NewKinds(kinds...)
	objects := Objects{}
	for i, doc := range documents {
		var head struct {
			Type   resource.Type   `json:"type"`
			Status json.RawMessage `json:"status"`
		}
		if err := json.Unmarshal(doc, &head); err != nil {
			return Inputs{}, &DocumentError{i, err}
		}
		k := in.Kinds.ByType(head.Type)
		if k == nil {
			return Inputs{}, &DocumentError{i, fmt.Errorf("unknown type %q", head.Type)}
		}
		o, err := k.DecodeJSON(doc)
		if err != nil {
			return Inputs{}, &DocumentError{i, err}
		}
		if o.Labels == nil {
			o.Labels = map[string]string{}
		}
		if k.Scope == resource.ScopeMesh {
			o.Mesh = cmp.Or(o.Mesh, "default")
			o.Labels[resource.LabelMesh] = cmp.Or(o.Labels[resource.LabelMesh], o.Mesh)
		}
		if errs := validate(k, o); len(errs) > 0 {
			return Inputs{}, &DocumentError{i, fmt.Errorf("%s %s: %w", o.Type, o.Name, errs)}
		}
		// Two zones may each have a file with a resource of one name.
		if o.Labels[resource.LabelDisplayName] == "" {
			o.Labels[resource.LabelDisplayName] = o.Name
			if z := o.Zone(); z != "" && k.Scope == resource.ScopeMesh {
				o.Name += "." + z
			}
		}
		objects[k.Type] = append(objects[k.Type], o)
	}
	for _, list := range objects {
		slices.SortStableFunc(list, func(a, b *resource.Object) int { return a.ID.Compare(b.ID) })
	}
	in.Source = objects
	return in, nil
}

func validate(k *resource.Kind, o *resource.Object) resource.FieldErrors {
	if k.Validate == nil {
		return nil
	}
	return k.Validate(o)
}

// DocumentError is what is wrong with one of several documents.
type DocumentError struct {
	Index int
	Err   error
}

func (e *DocumentError) Error() string { return e.Err.Error() }
func (e *DocumentError) Unwrap() error { return e.Err }
