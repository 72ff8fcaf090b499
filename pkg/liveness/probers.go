package liveness

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"

	mesh_proto "github.com/atoll-mesh/atoll/api/kuma/mesh/v1alpha1"
	system_proto "github.com/atoll-mesh/atoll/api/kuma/system/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/store"
	"github.com/atoll-mesh/atoll/pkg/view"
)

const (
	// featureZoneProbes is of agents that can probe.
	featureZoneProbes = "atoll-zone-probes"
	// electedProbers is how many sidecars probe where no zone proxy can.
	electedProbers = 2
	// electAfter is how long no zone proxy can: one that restarts is back by then.
	electAfter = 10 * time.Second
	// closedAfter is how long no ingress is ready before the zone says so, and
	// settle how long after the start of this process nothing is made of it that
	// proxies have not connected yet.
	closedAfter = 2 * time.Second
	settle      = 20 * time.Second
)

// roles are the zone proxies of this zone, and whether they are ingresses.
type roles map[resource.ID]bool

func (r *roles) all(s *view.Snapshot) {
	*r = roles{}
	for o := range s.List(kind.Dataplane, "") {
		r.note(o.ID, o)
	}
}

// note takes over one Dataplane; o is nil when it is gone.
func (r roles) note(id resource.ID, o *resource.Object) {
	delete(r, id)
	if o == nil {
		return
	}
	for _, l := range kind.NetworkingOf(o).GetListeners() {
		r[id] = r[id] || l.GetType() == mesh_proto.Dataplane_Networking_Listener_ZoneIngress
	}
}

func addressOf(mesh, host string, port int32) (Address, bool) {
	a, err := netip.ParseAddr(host)
	return Address{mesh, a.String(), port}, err == nil && port > 0 && port <= 65535
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }

// insight is what is known of a proxy's connection, nil for nothing.
func (p *pass) insight(dataplane resource.ID) *mesh_proto.DataplaneInsight {
	dataplane.Type = kind.DataplaneInsight
	if o := p.s.Get(dataplane); o != nil {
		return resource.SpecOf[mesh_proto.DataplaneInsight](o)
	}
	return nil
}

// canProbe tells whether a proxy is connected and its agent knows how.
func (p *pass) canProbe(dataplane resource.ID) bool {
	i := p.insight(dataplane)
	if !kind.DataplaneOnline(i) {
		return false
	}
	for _, v := range i.GetMetadata().GetFields()["features"].GetListValue().GetValues() {
		if v.GetStringValue() == featureZoneProbes {
			return true
		}
	}
	return false
}

// inContact tells whether this control plane hears its global now.
func (p *pass) inContact() bool {
	o := p.s.Get(resource.ID{Type: kind.ZoneInsight, Name: p.site.Zone})
	return p.site.Federated && o != nil && kind.ZoneOnline(resource.SpecOf[system_proto.ZoneInsight](o))
}

// elect returns who probes: the zone proxies of each mesh, or, where none can, two
// other proxies that are chosen here.
func (p *pass) elect(zones map[string]*Observed) []resource.ID {
	wanted := map[string]bool{} // meshes in which there is somebody to ask
	for _, z := range zones {
		for a := range z.Addresses {
			wanted[a.Mesh] = wanted[a.Mesh] || p.secured(a.Mesh)
		}
	}
	var probers []resource.ID
	able := map[string]bool{}
	for id := range p.proxies {
		if wanted[id.Mesh] && p.canProbe(id) {
			able[id.Mesh] = true
			probers = append(probers, id)
		}
	}
	elected := map[string][]resource.ID{}
	for o := range p.s.List(kind.ZoneProbe, "") {
		id := o.ID
		id.Type = kind.Dataplane
		_, zoneProxy := p.proxies[id]
		asked := resource.SpecOf[kind.ZoneProbeSpec](o).Elected
		switch {
		case p.s.Get(id) == nil, !wanted[id.Mesh], asked && (zoneProxy || able[id.Mesh] || !p.canProbe(id)), !asked && !zoneProxy:
			p.ops = append(p.ops, store.Delete(o.ID, int64(o.Version), store.ControlPlane))
		case asked:
			elected[id.Mesh] = append(elected[id.Mesh], id)
			probers = append(probers, id)
		}
	}
	for mesh, is := range wanted {
		if !is || able[mesh] || len(elected[mesh]) >= electedProbers {
			delete(p.bare, mesh)
			continue
		}
		if p.bare[mesh].IsZero() {
			p.bare[mesh] = p.now
		}
		if from := p.bare[mesh].Add(electAfter); len(p.proxies) > 0 && p.now.Before(from) {
			p.at(from)
			continue
		}
		probers = append(probers, p.choose(mesh, elected[mesh])...)
	}
	slices.SortFunc(probers, resource.ID.Compare)
	return probers
}

// choose asks further proxies of a mesh to probe.
func (p *pass) choose(mesh string, already []resource.ID) (chosen []resource.ID) {
	k := p.View.Kinds().ByType(kind.ZoneProbe)
	for o := range p.s.List(kind.Dataplane, mesh) {
		if len(already)+len(chosen) >= electedProbers {
			break
		}
		_, zoneProxy := p.proxies[o.ID]
		if zoneProxy || slices.Contains(already, o.ID) || !p.canProbe(o.ID) {
			continue
		}
		id := resource.ID{Type: kind.ZoneProbe, Mesh: mesh, Name: o.Name}
		if p.s.Get(id) != nil {
			continue // an old one that is about to be deleted
		}
		row, err := k.New(resource.Meta{ID: id, Labels: p.site.ComputeLabels(k, id.Name, mesh, nil)}, &kind.ZoneProbeSpec{Elected: true}, nil)
		if err != nil {
			p.Log.Error("a proxy cannot be asked to probe other zones", "mesh", mesh, "proxy", o.Name, "error", err)
			continue
		}
		p.ops = append(p.ops, store.Put(row, store.Absent, store.ControlPlane))
		chosen = append(chosen, o.ID)
	}
	return chosen
}

// secured tells whether proxies of a mesh can prove who they are.
func (p *pass) secured(mesh string) bool {
	for range p.s.List(kind.MeshIdentity, mesh) {
		return true
	}
	return false
}

// ofSelf is what this zone says of itself: which of its entrances have nobody
// behind them. It is nil for a zone that nobody can enter.
func (p *pass) ofSelf(own []Address) *kind.ZoneLinkSpec {
	if len(own) == 0 {
		return nil
	}
	ready, meshes := map[string]bool{}, map[string]bool{}
	for id, ingress := range p.proxies {
		o := p.s.Get(id)
		insight := p.insight(id)
		if ingress && o != nil && o.Labels[resource.LabelDraining] == "" && kind.DataplaneOnline(insight) && !kind.Starting(insight) {
			ready[id.Mesh] = true
		}
	}
	was := p.link(p.site.Zone, p.site.Zone)
	link := &kind.ZoneLinkSpec{Observer: p.site.Zone, Observed: p.site.Zone}
	slices.SortFunc(own, Address.compare)
	for _, a := range slices.Compact(own) {
		meshes[a.Mesh] = true
		x := kind.ZoneLinkAddress{Mesh: a.Mesh, Address: a.Host, Port: a.Port, State: kind.LinkUp}
		last := lastOf(was, a)
		switch {
		case ready[a.Mesh]:
			delete(p.closed, a.Mesh)
		default:
			if p.closed[a.Mesh].IsZero() {
				p.closed[a.Mesh] = p.now
			}
			x.State, x.Reason = kind.LinkDown, "no ingress of the zone is ready"
			from := p.closed[a.Mesh].Add(closedAfter)
			if s := p.started.Add(settle); s.After(from) {
				from = s
			}
			if p.now.Before(from) {
				p.at(from)
				x.State, x.Reason = last.State, last.Reason
			}
		}
		if x.Since = last.Since; !last.ever || last.State != x.State {
			x.Since = p.now
		}
		link.Addresses = append(link.Addresses, x)
	}
	for mesh := range p.closed {
		if !meshes[mesh] {
			delete(p.closed, mesh)
		}
	}
	sum(link, was, false, p.now)
	return link
}
