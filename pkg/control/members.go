package control

import (
	"cmp"
	"slices"

	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// group is the Dataplanes of one mesh that carry the same kuma.io/workload label.
type group struct{ mesh, name string }

// members knows which Dataplanes belong to each group, and which groups the
// current pass has to look at. It writes nothing.
type members struct {
	of    map[group]map[resource.ID]bool
	at    map[resource.ID]group // the inverse
	dirty []group               // sorted
}

func (m *members) plan(p *pass) {
	if p.full {
		m.of, m.at = map[group]map[resource.ID]bool{}, map[resource.ID]group{}
	}
	m.dirty = nil
	seen := map[group]bool{}
	note := func(g group, ok bool) {
		if ok && !seen[g] {
			seen[g] = true
			m.dirty = append(m.dirty, g)
		}
	}
	for id := range p.touched(kind.Dataplane) {
		is, has := groupOf(p.now.Get(id))
		note(groupOf(p.before(id)))
		note(is, has)
		m.move(id, is, has)
	}
	// What is generated is looked at again when it is touched, and when its mesh is.
	for _, t := range []resource.Type{kind.MeshService, kind.Workload} {
		for id := range p.touched(t) {
			note(group{id.Mesh, id.Name}, true)
		}
	}
	for id := range p.touched(kind.Mesh) {
		for g := range m.of {
			note(g, g.mesh == id.Name)
		}
	}
	slices.SortFunc(m.dirty, func(a, b group) int { return cmp.Or(cmp.Compare(a.mesh, b.mesh), cmp.Compare(a.name, b.name)) })
}

// move enters a Dataplane under its group, or takes it out. What was noted in a
// pass that failed is overwritten.
func (m *members) move(id resource.ID, is group, has bool) {
	if was, had := m.at[id]; had && (!has || was != is) {
		delete(m.at, id)
		if delete(m.of[was], id); len(m.of[was]) == 0 {
			delete(m.of, was)
		}
	}
	if has {
		if m.of[is] == nil {
			m.of[is] = map[resource.ID]bool{}
		}
		m.of[is][id], m.at[id] = true, is
	}
}

func groupOf(o *resource.Object) (group, bool) {
	if o == nil || o.Labels[resource.LabelWorkload] == "" {
		return group{}, false
	}
	return group{o.Mesh, o.Labels[resource.LabelWorkload]}, true
}

// dataplanes returns the members of g, oldest first.
func (m *members) dataplanes(p *pass, g group) []*resource.Object {
	list := make([]*resource.Object, 0, len(m.of[g]))
	for id := range m.of[g] {
		if o := p.get(id); o != nil {
			list = append(list, o)
		}
	}
	slices.SortFunc(list, func(a, b *resource.Object) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.Name, b.Name))
	})
	return list
}
