package store

import (
	"fmt"

	"github.com/atoll-mesh/atoll/pkg/resource"
)

// Put returns the op that stores an object.
func Put(o *resource.Object, expect int64, author string) Op {
	return Op{
		Record: Record{ID: o.ID, Labels: o.Labels, Spec: o.SpecWire(), Status: o.StatusWire(), Modified: o.Modified},
		Expect: expect,
		Author: author,
	}
}

// Delete returns the op that removes a resource.
func Delete(id resource.ID, expect int64, author string) Op {
	return Op{Delete: true, Record: Record{ID: id}, Expect: expect, Author: author}
}

// Object decodes a record. It fails for kinds that are not in the list and for
// bytes that their kind cannot read; the record then concerns nobody here.
func (r *Record) Object(kinds *resource.Kinds) (*resource.Object, error) {
	k := kinds.ByType(r.Type)
	if k == nil {
		return nil, fmt.Errorf("%s: unknown kind", r.ID)
	}
	o, err := k.FromWire(resource.Meta{
		ID: r.ID, Labels: r.Labels, Version: uint64(r.Version), Created: r.Created, Modified: r.Modified,
	}, r.Spec, r.Status)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r.ID, err)
	}
	return o, nil
}
