package failover

import (
	"maps"
	"slices"

	mesh_proto "github.com/atoll-mesh/atoll/api/kuma/mesh/v1alpha1"
	system_proto "github.com/atoll-mesh/atoll/api/kuma/system/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/topology"
	"github.com/atoll-mesh/atoll/pkg/view"
)

// Lookout finds the gaps of a global again and again. What changes most, proxies
// and services, costs as much as the services are that it concerns; after anything
// else, and in worlds too large to be remembered, all is found anew.
// The result is that of Check, always. It is for one goroutine.
type Lookout struct {
	w      *world
	parts  map[group]*Report
	online map[string]bool // zones
	// Rebuilt counts how often all was found anew, Looked the services that were.
	Rebuilt, Looked int
}

// held bounds what is remembered between two looks, which is what each zone sees
// before and after each loss: MeshServices times zones squared, which are two to
// three kilobytes each. Larger worlds are looked at anew.
const held = 20_000

// most is how many changes are followed one by one; more are a reason to look at
// everything.
const most = 200

// Check finds the gaps of in, of which everything but changed is as it was the
// last time. All says that anything may have changed.
func (l *Lookout) Check(in Inputs, changed []resource.ID, all bool) *Report {
	dirty := map[group]bool{}
	meshes := map[string]bool{} // in which everything is to be found anew
	if online := onlineZones(in.Source); l.w == nil || all || !maps.Equal(online, l.online) || !l.follow(in, changed, dirty, meshes) {
		l.Rebuilt++
		l.w, l.parts, l.online = newWorld(in), map[group]*Report{}, online
	}
	l.w.Inputs = in
	for g := range l.parts {
		if _, there := l.w.services[g]; !there || dirty[g] || meshes[g.mesh] {
			delete(l.parts, g)
		}
	}
	r := &Report{Gaps: []Gap{}, Losses: []Loss{}}
	for _, g := range slices.SortedFunc(maps.Keys(l.w.services), group.compare) {
		p := l.parts[g]
		if p == nil {
			l.Looked++
			p = &Report{}
			l.w.look(p, g, "")
			l.parts[g] = p
		}
		r.take(p)
	}
	l.w.expiring(r, "")
	l.w.certificates(r, "")
	r.sort()
	if zones := len(l.w.zones); zones*zones*in.services() > held {
		l.w, l.parts = nil, nil
	}
	return r
}

func (in *Inputs) services() (n int) {
	for range in.Source.List(kind.MeshService, "") {
		n++
	}
	return n
}

// take adds what another report found.
func (r *Report) take(p *Report) {
	for _, g := range p.Gaps {
		clients := g.Clients
		g.Clients = nil
		r.add(g, "")
		for _, c := range clients {
			r.add(g, c)
		}
	}
	for _, loss := range p.Losses {
		loss.Gaps = []string{}
		r.Losses = append(r.Losses, loss)
	}
}

func onlineZones(s topology.Source) map[string]bool {
	out := map[string]bool{}
	for o := range s.List(kind.ZoneInsight, "") {
		if i, ok := o.Spec.(*system_proto.ZoneInsight); ok && kind.ZoneOnline(i) {
			out[o.Name] = true
		}
	}
	return out
}

// follow takes over what changed, and notes which services that concerns. It is
// false when all is to be found anew.
func (l *Lookout) follow(in Inputs, changed []resource.ID, dirty map[group]bool, meshes map[string]bool) bool {
	var list []resource.ID
	for _, id := range changed {
		k := in.Kinds.ByType(id.Type)
		switch {
		case id.Type == kind.Dataplane, id.Type == kind.MeshService:
			list = append(list, id)
		case id.Type == kind.Zone, k == nil, k.Policy != nil, slices.Contains(seen, id.Type):
			return false
		}
	}
	if len(list) > most {
		return false
	}
	before := l.w.Source
	for _, id := range list {
		for _, o := range []*resource.Object{before.Get(id), in.Source.Get(id)} {
			// What a zone is of which there is no Zone follows from what it has.
			if o != nil && in.Source.Get(resource.ID{Type: kind.Zone, Name: l.w.zoneOf(o)}) == nil {
				return false
			}
		}
		if l.w.twin(before.Get(id), id) || l.w.twin(in.Source.Get(id), id) {
			return false
		}
	}
	for _, id := range list {
		was, is := before.Get(id), in.Source.Get(id)
		if was == is {
			continue
		}
		if routed(before, id.Mesh) || entered(was) || entered(is) {
			meshes[id.Mesh] = true // whom that concerns is not known
		}
		l.w.concerned(was, dirty)
		l.replace(was, is, meshes)
		l.w.concerned(is, dirty)
	}
	return true
}

// twin tells whether a zone has another service of the same name.
func (w *world) twin(o *resource.Object, id resource.ID) bool {
	if o == nil || o.Type != kind.MeshService {
		return false
	}
	other := w.services[group{o.Mesh, o.DisplayName(), o.Namespace()}][w.zoneOf(o)]
	return other != nil && other.ID != id
}

// routed tells whether routes lead from services of a mesh to others.
func routed(s topology.Source, mesh string) bool {
	for _, t := range []resource.Type{"MeshHTTPRoute", "MeshTCPRoute"} {
		for range s.List(t, mesh) {
			return true
		}
	}
	return false
}

// entered tells whether a Dataplane is a zone proxy.
func entered(o *resource.Object) bool {
	if o == nil || o.Type != kind.Dataplane {
		return false
	}
	return slices.ContainsFunc(kind.NetworkingOf(o).GetListeners(), func(x *mesh_proto.Dataplane_Networking_Listener) bool {
		return x.GetType() == mesh_proto.Dataplane_Networking_Listener_ZoneIngress
	})
}

// concerned notes the services that a resource is of, and those that share a
// MeshMultiZoneService with them.
func (w *world) concerned(o *resource.Object, dirty map[group]bool) {
	if o == nil {
		return
	}
	mark := func(e *eye, id resource.ID) {
		add := func(id resource.ID) {
			if svc := e.snap.Get(id); svc != nil {
				dirty[group{svc.Mesh, svc.DisplayName(), svc.Namespace()}] = true
			}
		}
		add(id)
		for _, join := range e.snap.Topology().Joining(id) {
			for _, d := range e.snap.Topology().Joined(join) {
				add(d.ID)
			}
		}
	}
	for _, e := range w.eyes {
		seen := w.asSeen(o, e.zone)
		switch {
		case seen == nil:
		case o.Type == kind.MeshService:
			mark(e, seen.ID)
		default:
			for _, id := range e.snap.Topology().Selecting(seen.ID) {
				mark(e, id)
			}
		}
	}
	if o.Type == kind.MeshService { // even where nobody sees it
		dirty[group{o.Mesh, o.DisplayName(), o.Namespace()}] = true
	}
}

// replace puts a resource in the place of another in all that is seen; nil is
// none. Where that changes who calls, or as whom, it concerns the whole mesh.
func (l *Lookout) replace(was, is *resource.Object, meshes map[string]bool) {
	w := l.w
	if was != nil && was.Type == kind.MeshService {
		g := group{was.Mesh, was.DisplayName(), was.Namespace()}
		if delete(w.services[g], w.zoneOf(was)); len(w.services[g]) == 0 {
			delete(w.services, g)
		}
	}
	if is != nil && is.Type == kind.MeshService {
		g := group{is.Mesh, is.DisplayName(), is.Namespace()}
		if w.services[g] == nil {
			w.services[g] = members{}
		}
		w.services[g][w.zoneOf(is)] = is
	}
	for _, e := range w.eyes {
		var gone, come *resource.Object
		if was != nil {
			gone = w.asSeen(was, e.zone)
		}
		if is != nil {
			come = w.asSeen(is, e.zone)
		}
		if gone == nil && come == nil {
			continue
		}
		mesh := either(gone, come).Mesh
		ids := e.spiffeIDs(mesh)
		e.snap = moved(e.snap, gone, come)
		for k, s := range e.lost {
			come := come
			if come != nil && e.takes(k, come) {
				come = nil
			}
			e.lost[k] = moved(s, gone, come)
		}
		e.forget()
		if either(gone, come).Type == kind.Dataplane {
			clients := w.clientsOf(e.snap)
			if !slices.Equal(clients[mesh], e.clients[mesh]) || !slices.Equal(ids, e.spiffeIDs(mesh)) {
				meshes[mesh] = true
			}
			e.clients = clients
		}
	}
}

// moved is a snapshot in which one resource took the place of another.
func moved(s *view.Snapshot, gone, come *resource.Object) *view.Snapshot {
	if gone != nil && s.Get(gone.ID) != nil && (come == nil || come.ID != gone.ID) {
		s = s.Without([]resource.ID{gone.ID})
	}
	if come != nil {
		s = s.With(come)
	}
	return s
}

func either(a, b *resource.Object) *resource.Object {
	if a != nil {
		return a
	}
	return b
}
