package topology

import (
	"iter"
	"slices"
	"strings"

	"github.com/tidwall/btree"

	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// State is all derived rows of one snapshot, and what Derive must remember to
// make the next. It is immutable and shares what did not change with the states
// before and after it.
type State struct {
	site         resource.Site
	destinations *btree.Map[string, *Destination] // by rowKey of the ID
	endpoints    *btree.Map[string, *Endpoints]   // by rowKey of EndpointsKey.ID
	services     *btree.Map[string, *service]     // by rowKey; local services only
	proxies      *btree.Map[string, *proxy]       // by rowKey
	joins        *btree.Map[string, *join]        // by rowKey
	entrances    *btree.Map[string, *entrance]    // by rowKey
	exits        *btree.Map[string, *exit]        // by rowKey
	starting     *btree.Set[string]               // by rowKey; Dataplanes whose Envoys do not listen yet
	secured      *btree.Set[string]               // meshes with a MeshIdentity
	byLabel      index                            // destinations by each of their labels
	selecting    index                            // services by one pair of their selector
	members      index                            // proxies by each of their labels
	joining      index                            // joins by one pair of their selector
	inZone       index                            // entrances by zoneOf
	links        *btree.Map[string, *link]        // by rowKey; those that count here
	linked       index                            // links by observed
	standings    *btree.Map[string, *standing]    // by zone; of those that are not whole
	closed       closings                         // never written, only replaced
}

// Empty is the state of no resources.
func Empty(site resource.Site) *State {
	return &State{
		site:         site,
		destinations: &btree.Map[string, *Destination]{},
		endpoints:    &btree.Map[string, *Endpoints]{},
		services:     &btree.Map[string, *service]{},
		proxies:      &btree.Map[string, *proxy]{},
		joins:        &btree.Map[string, *join]{},
		entrances:    &btree.Map[string, *entrance]{},
		exits:        &btree.Map[string, *exit]{},
		starting:     &btree.Set[string]{},
		secured:      &btree.Set[string]{},
		byLabel:      newIndex(),
		selecting:    newIndex(),
		members:      newIndex(),
		joining:      newIndex(),
		inZone:       newIndex(),
		links:        &btree.Map[string, *link]{},
		linked:       newIndex(),
		standings:    &btree.Map[string, *standing]{},
	}
}

// fork returns a private copy that may be written until publish.
func (s *State) fork() *State {
	return &State{
		site:         s.site,
		destinations: s.destinations.Copy(),
		endpoints:    s.endpoints.Copy(),
		services:     s.services.Copy(),
		proxies:      s.proxies.Copy(),
		joins:        s.joins.Copy(),
		entrances:    s.entrances.Copy(),
		exits:        s.exits.Copy(),
		starting:     s.starting.Copy(),
		secured:      s.secured.Copy(),
		byLabel:      s.byLabel.fork(),
		selecting:    s.selecting.fork(),
		members:      s.members.fork(),
		joining:      s.joining.fork(),
		inZone:       s.inZone.fork(),
		links:        s.links.Copy(),
		linked:       s.linked.fork(),
		standings:    s.standings.Copy(),
		closed:       s.closed,
	}
}

// publish gives up the right to write.
func (s *State) publish() {
	for _, x := range []*index{&s.byLabel, &s.selecting, &s.members, &s.joining, &s.inZone, &s.linked} {
		x.owned = nil
	}
}

// rowKey orders rows by mesh, type and name. No part may contain a NUL.
func rowKey(id resource.ID) string {
	return id.Mesh + "\x00" + string(id.Type) + "\x00" + id.Name
}

// Destination returns a row, or nil.
func (s *State) Destination(id resource.ID) *Destination {
	d, _ := s.destinations.Get(rowKey(id))
	return d
}

// Destinations yields the destinations of a mesh, in order of type and name, or
// those of all meshes when mesh is empty.
func (s *State) Destinations(mesh string) iter.Seq[*Destination] {
	return func(yield func(*Destination) bool) {
		prefix := ""
		if mesh != "" {
			prefix = mesh + "\x00"
		}
		s.destinations.Ascend(prefix, func(key string, d *Destination) bool {
			return strings.HasPrefix(key, prefix) && yield(d)
		})
	}
}

// meshes yields the meshes that have destinations.
func (s *State) meshes() iter.Seq[string] {
	return func(yield func(string) bool) {
		for from, more := "", true; more; {
			more = false
			s.destinations.Ascend(from, func(_ string, d *Destination) bool {
				if more = yield(d.ID.Mesh); more {
					from = d.ID.Mesh + "\x01" // behind all of its rows
				}
				return false
			})
		}
	}
}

// DestinationsByLabels returns the destinations of a type and mesh that have all
// the labels, best first: local ones, then the oldest, then by name. The display
// name counts as a label even where the label is missing.
func (s *State) DestinationsByLabels(mesh string, t resource.Type, labels map[string]string) []*Destination {
	var found []*Destination
	consider := func(d *Destination) {
		m := resource.Meta{ID: d.ID, Labels: d.Labels}
		if d.ID.Type == t && m.Matches(labels) {
			found = append(found, d)
		}
	}
	if len(labels) == 0 {
		for d := range s.Destinations(mesh) {
			consider(d)
		}
	} else if names := s.byLabel.get(s.byLabel.rarest(mesh, labels)); names != nil {
		names.Scan(func(key string) bool {
			d, _ := s.destinations.Get(key)
			consider(d)
			return true
		})
	}
	slices.SortFunc(found, compareDestinations)
	return found
}

func compareDestinations(a, b *Destination) int {
	if a.Local != b.Local {
		if a.Local {
			return -1
		}
		return 1
	}
	if c := a.Created.Compare(b.Created); c != 0 {
		return c
	}
	return a.ID.Compare(b.ID)
}

// Endpoints returns the endpoints of a port, or nil when there is no such port.
func (s *State) Endpoints(k EndpointsKey) *Endpoints {
	e, _ := s.endpoints.Get(rowKey(k.ID()))
	return e
}

// Members yields the Dataplanes that a local MeshService selects, ready or not,
// in order of their names.
func (s *State) Members(service resource.ID) iter.Seq[resource.ID] {
	return func(yield func(resource.ID) bool) {
		if svc, ok := s.services.Get(rowKey(service)); ok {
			s.selected(svc, func(p *proxy) bool { return yield(p.id) })
		}
	}
}

// Selecting returns the local MeshServices that select a Dataplane.
func (s *State) Selecting(dataplane resource.ID) []resource.ID {
	p, ok := s.proxies.Get(rowKey(dataplane))
	if !ok {
		return nil
	}
	var ids []resource.ID
	s.selectors(p, func(svc *service) { ids = append(ids, svc.id) })
	slices.SortFunc(ids, resource.ID.Compare)
	return ids
}

// selected visits the proxies that svc selects until visit returns false.
func (s *State) selected(svc *service, visit func(*proxy) bool) {
	at := everything(svc.id.Mesh)
	switch svc.selects {
	case byName:
		p, ok := s.proxies.Get(rowKey(resource.ID{Type: kind.Dataplane, Mesh: svc.id.Mesh, Name: svc.ref}))
		if ok {
			visit(p)
		}
		return
	case byLabels:
		at = s.members.rarest(svc.id.Mesh, svc.labels)
	case nothing:
		return
	}
	names := s.members.get(at)
	if names == nil {
		return
	}
	names.Scan(func(key string) bool {
		p, _ := s.proxies.Get(key)
		return !svc.matches(p) || visit(p)
	})
}

// selectors visits the services that select p, each once.
func (s *State) selectors(p *proxy, visit func(*service)) {
	look := func(at pair) {
		names := s.selecting.get(at)
		if names == nil {
			return
		}
		names.Scan(func(key string) bool {
			if svc, _ := s.services.Get(key); svc.matches(p) {
				visit(svc)
			}
			return true
		})
	}
	look(everything(p.id.Mesh))
	look(named(p.id.Mesh, p.id.Name))
	for k, v := range p.labels {
		if k != "" {
			look(pair{p.id.Mesh, k, v})
		}
	}
}
