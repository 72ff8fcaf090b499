package policy

import "github.com/atoll-mesh/atoll/pkg/resource"

// Make returns a policy of a mesh whose spec, an *S of Define, is written in
// code. Labels are left to the writer. It panics on a spec that cannot be
// encoded, which is a programming error.
func (d *Def) Make(mesh, name string, spec any) *resource.Object {
	o, err := d.kind.New(resource.Meta{ID: resource.ID{Type: d.kind.Type, Mesh: mesh, Name: name}}, spec, nil)
	if err != nil {
		panic("policy: a " + string(d.kind.Type) + " written in code cannot be encoded: " + err.Error())
	}
	return o
}
