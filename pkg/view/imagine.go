package view

import (
	"iter"

	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/topology"
)

// Of is the snapshot, at revision 0, of objects that need not be stored
// anywhere. Of two with the same ID the last counts.
func Of(kinds *resource.Kinds, site resource.Site, objects iter.Seq[*resource.Object]) *Snapshot {
	s := &Snapshot{
		kinds: kinds, site: site, tables: map[resource.Type]*table{},
		next: make(chan struct{}), owned: map[resource.Type]bool{},
	}
	for o := range objects {
		rows := s.rows(o.ID)
		if _, replaced := rows.Set(o.Name, o); !replaced {
			s.tables[o.Type].count++
		}
	}
	s.topo = topology.FromScratch(site, s)
	return s
}

// Without is the snapshot as it would be if some resources were gone.
func (s *Snapshot) Without(ids []resource.ID) *Snapshot {
	n := s.fork()
	for _, id := range ids {
		n.remove(id)
	}
	n.topo, _ = topology.Derive(s.topo, n, ids)
	return n
}

// With is the snapshot as it would be if a resource were as given.
func (s *Snapshot) With(o *resource.Object) *Snapshot {
	n := s.fork()
	rows := n.rows(o.ID)
	if _, replaced := rows.Set(o.Name, o); !replaced {
		n.tables[o.Type].count++
	}
	n.topo, _ = topology.Derive(s.topo, n, []resource.ID{o.ID})
	return n
}
