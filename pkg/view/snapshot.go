package view

import (
	"iter"
	"log/slog"

	"github.com/tidwall/btree"

	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/store"
	"github.com/atoll-mesh/atoll/pkg/topology"
)

// Snapshot is everything at one revision. It never changes.
type Snapshot struct {
	rev    store.Revision
	kinds  *resource.Kinds
	site   resource.Site
	tables map[resource.Type]*table
	topo   *topology.State
	next   chan struct{}          // closed when a newer snapshot is published
	owned  map[resource.Type]bool // tables this fork may write; nil once published
}

// table is the rows of one type: mesh to name to object, in order.
type table struct {
	meshes btree.Map[string, *btree.Map[string, *resource.Object]]
	owned  map[string]bool // meshes copied since the fork; nil once published
	count  int
}

// Revision is that of the last commit in the snapshot.
func (s *Snapshot) Revision() store.Revision { return s.rev }

// Topology returns the derived rows.
func (s *Snapshot) Topology() *topology.State { return s.topo }

// Get returns a resource, or nil when there is none.
func (s *Snapshot) Get(id resource.ID) *resource.Object {
	t := s.tables[id.Type]
	if t == nil {
		return nil
	}
	rows, ok := t.meshes.Get(id.Mesh)
	if !ok {
		return nil
	}
	o, _ := rows.Get(id.Name)
	return o
}

// List yields the resources of a type in order of mesh and name: of one mesh,
// or of all when mesh is empty.
func (s *Snapshot) List(t resource.Type, mesh string) iter.Seq[*resource.Object] {
	return func(yield func(*resource.Object) bool) {
		tab := s.tables[t]
		if tab == nil {
			return
		}
		each := func(rows *btree.Map[string, *resource.Object]) bool {
			more := true
			rows.Scan(func(_ string, o *resource.Object) bool {
				more = yield(o)
				return more
			})
			return more
		}
		if mesh != "" {
			if rows, ok := tab.meshes.Get(mesh); ok {
				each(rows)
			}
			return
		}
		tab.meshes.Scan(func(_ string, rows *btree.Map[string, *resource.Object]) bool { return each(rows) })
	}
}

// Count is the number of resources that List yields.
func (s *Snapshot) Count(t resource.Type, mesh string) int {
	tab := s.tables[t]
	if tab == nil {
		return 0
	}
	if mesh == "" {
		return tab.count
	}
	rows, ok := tab.meshes.Get(mesh)
	if !ok {
		return 0
	}
	return rows.Len()
}

// ByKRI returns the resource that k identifies, whatever its section, or nil.
// Local resources are stored under their own name, others under the name that
// sync gave them.
func (s *Snapshot) ByKRI(k resource.KRI) *resource.Object {
	kind := s.kinds.ByShort(k.Short)
	if kind == nil {
		return nil
	}
	k.Section = ""
	m := resource.Meta{ID: resource.ID{Type: kind.Type, Mesh: k.Mesh, Name: k.Name}, Labels: map[string]string{}}
	if k.Zone != "" {
		m.Labels[resource.LabelZone] = k.Zone
	}
	if k.Namespace != "" {
		m.Labels[resource.LabelNamespace] = k.Namespace
	}
	for _, name := range []string{k.Name, m.SyncedName()} {
		if o := s.Get(resource.ID{Type: kind.Type, Mesh: k.Mesh, Name: name}); o != nil && o.KRI() == k {
			return o
		}
	}
	for o := range s.List(kind.Type, k.Mesh) { // names that follow no rule, such as those of Kubernetes
		if o.KRI() == k {
			return o
		}
	}
	return nil
}

// fork returns a private copy that shares every table until it is written.
func (s *Snapshot) fork() *Snapshot {
	n := &Snapshot{
		rev: s.rev, kinds: s.kinds, site: s.site, topo: s.topo,
		tables: make(map[resource.Type]*table, len(s.tables)),
		next:   make(chan struct{}),
		owned:  map[resource.Type]bool{},
	}
	for t, tab := range s.tables {
		n.tables[t] = tab
	}
	return n
}

// apply writes one change into a fork and reports whether anybody can tell: a
// record written again with the same content gets its new version, silently.
func (s *Snapshot) apply(c store.Change, log *slog.Logger) bool {
	if c.Record == nil {
		return s.remove(c.ID)
	}
	o, err := c.Record.Object(s.kinds)
	if err != nil {
		// Written by a newer version, or damaged: it concerns nobody here, and what
		// was there before is no longer true.
		log.Error("a stored resource cannot be read and is left out", "resource", c.ID.String(), "error", err)
		return s.remove(c.ID)
	}
	old := s.Get(c.ID)
	s.rows(c.ID).Set(c.ID.Name, o)
	if old == nil {
		s.tables[c.ID.Type].count++
		return true
	}
	return !old.SameContent(o)
}

func (s *Snapshot) remove(id resource.ID) bool {
	if s.Get(id) == nil {
		return false
	}
	rows := s.rows(id)
	rows.Delete(id.Name)
	t := s.tables[id.Type]
	t.count--
	if rows.Len() == 0 {
		t.meshes.Delete(id.Mesh)
		delete(t.owned, id.Mesh)
	}
	return true
}

// rows returns the writable rows of a mesh, copying what is still shared.
func (s *Snapshot) rows(id resource.ID) *btree.Map[string, *resource.Object] {
	t := s.tables[id.Type]
	if !s.owned[id.Type] {
		fresh := &table{owned: map[string]bool{}}
		if t != nil {
			fresh.meshes = *t.meshes.Copy()
			fresh.count = t.count
		}
		t = fresh
		s.tables[id.Type] = t
		s.owned[id.Type] = true
	}
	rows, ok := t.meshes.Get(id.Mesh)
	if !ok {
		rows = &btree.Map[string, *resource.Object]{}
	} else if !t.owned[id.Mesh] {
		rows = rows.Copy()
	} else {
		return rows
	}
	t.owned[id.Mesh] = true
	t.meshes.Set(id.Mesh, rows)
	return rows
}
