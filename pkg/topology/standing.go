package topology

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// rank is how an endpoint stands. Only those of the best rank that a row has
// serve, so that nothing is taken from a destination that has nothing else.
type rank uint8

const (
	serving   rank = iota
	drained        // alive, and shall get nothing
	withdrawn      // believed to be dead
)

// standing is what is known against a zone: its links and its traffic.
type standing struct {
	withdrawn bool
	addresses map[address]bool   // that are withdrawn
	returning map[address]uint32 // percentage of requests that shall not go to one yet
	away      uint32             // percentage of requests that shall go elsewhere
	services  map[group]uint32   // the same of single services, where that is more
}

// address is an entrance of a zone as links name it.
type address struct {
	mesh, host string
	port       uint32
}

// group is a service by what it is called in its zone.
type group struct{ mesh, name, namespace string }

func groupOf(d *Destination) group {
	m := resource.Meta{ID: d.ID, Labels: d.Labels}
	return group{d.ID.Mesh, m.DisplayName(), m.Namespace()}
}

func (s *standing) equal(t *standing) bool {
	return s.withdrawn == t.withdrawn && s.away == t.away && s.entrances(t) && maps.Equal(s.services, t.services)
}

// entrances tells whether the same is known of all addresses.
func (s *standing) entrances(t *standing) bool {
	return maps.Equal(s.addresses, t.addresses) && maps.Equal(s.returning, t.returning)
}

var whole = &standing{}

// link is a ZoneLink that counts in this zone.
type link struct {
	observed  string
	withdrawn bool
	addresses []address
	returning []returning
}

// returning is an address that is to get a part of its requests only.
type returning struct {
	address
	away uint32
}

func (l *link) equal(m *link) bool {
	return l.observed == m.observed && l.withdrawn == m.withdrawn && slices.Equal(l.addresses, m.addresses) &&
		slices.Equal(l.returning, m.returning)
}

// linkOf is what a ZoneLink says here; nil when it does not count: what one zone
// says of another is for itself, and what another says of this one is not
// believed.
func linkOf(site resource.Site, o *resource.Object) *link {
	spec := resource.SpecOf[kind.ZoneLinkSpec](o)
	if spec.Observed == site.Zone || spec.Observer != site.Zone && spec.Observer != spec.Observed {
		return nil
	}
	l := &link{observed: spec.Observed, withdrawn: spec.Withdrawn}
	for _, a := range spec.Addresses {
		switch at := (address{a.Mesh, normalHost(a.Address), uint32(a.Port)}); {
		case a.Withdrawn:
			l.addresses = append(l.addresses, at)
		case a.Share > 0:
			l.returning = append(l.returning, returning{at, away(a.Share)})
		}
	}
	return l
}

func normalHost(host string) string {
	if a, err := netip.ParseAddr(host); err == nil {
		return a.String()
	}
	return host
}

// observed is where the index of links keeps those of a zone.
func observed(zone string) pair { return pair{key: "observed", value: zone} }

// zoneLink takes note of a ZoneLink that was touched; o is nil when it is gone.
func (d *derivation) zoneLink(id resource.ID, o *resource.Object) {
	key := rowKey(id)
	old, _ := d.links.Get(key)
	var row *link
	if o != nil {
		row = linkOf(d.site, o)
	}
	if old == nil && row == nil || old != nil && row != nil && old.equal(row) {
		return
	}
	if old != nil {
		d.linked.remove(observed(old.observed), key)
		d.links.Delete(key)
		d.stood[old.observed] = true
	}
	if row != nil {
		d.linked.add(observed(row.observed), key)
		d.links.Set(key, row)
		d.stood[row.observed] = true
	}
}

// stand finds anew how a zone stands, and has everything made anew that this
// changes.
func (d *derivation) stand(zone string) {
	next := &standing{addresses: map[address]bool{}, returning: map[address]uint32{}, services: map[group]uint32{}}
	if keys := d.linked.get(observed(zone)); keys != nil {
		keys.Scan(func(key string) bool {
			l, _ := d.links.Get(key)
			next.withdrawn = next.withdrawn || l.withdrawn
			for _, a := range l.addresses {
				next.addresses[a] = true
			}
			for _, a := range l.returning {
				next.returning[a.address] = max(next.returning[a.address], a.away)
			}
			return true
		})
	}
	if o := d.src.Get(resource.ID{Type: kind.ZoneTraffic, Name: zone}); o != nil {
		spec := resource.SpecOf[kind.ZoneTrafficSpec](o)
		next.away = away(spec.Share)
		for _, s := range spec.Services {
			if a := away(s.Share); a > next.away {
				next.services[group{s.Mesh, s.Name, s.Namespace}] = a
			}
		}
	}
	if zone == d.site.Zone {
		d.close()
	}
	old := d.standingOf(zone)
	if old.equal(next) {
		return
	}
	if next.equal(whole) {
		d.standings.Delete(zone)
	} else {
		d.standings.Set(zone, next)
	}
	if old.withdrawn == next.withdrawn && old.away == next.away && old.entrances(next) {
		for g := range differing(old.services, next.services) {
			for _, row := range d.DestinationsByLabels(g.mesh, kind.MeshService, map[string]string{resource.LabelDisplayName: g.name}) {
				if d.zoneOfService(row) == zone {
					d.joinedBy(row)
				}
			}
		}
		return
	}
	for mesh := range d.meshes() {
		at := zoneOf(mesh, zone)
		for row := range d.servicesOf(at) {
			d.joinedBy(row)
		}
		if !old.entrances(next) {
			d.enter(at)
		}
	}
}

func away(share int32) uint32 { return uint32(100 - min(max(share, 0), 100)) }

func differing(a, b map[group]uint32) map[group]bool {
	out := map[group]bool{}
	for g, v := range a {
		if b[g] != v {
			out[g] = true
		}
	}
	for g, v := range b {
		if a[g] != v {
			out[g] = true
		}
	}
	return out
}

func (s *State) standingOf(zone string) *standing {
	if st, ok := s.standings.Get(zone); ok {
		return st
	}
	return whole
}

// zoneOfService is where the workloads of a MeshService are.
func (s *State) zoneOfService(d *Destination) string {
	if d.Local {
		return s.site.Zone
	}
	return d.Zone
}

// of is how the endpoints of a service stand by what is known against its zone
// and itself.
func (s *standing) of(d *Destination) (r rank, away uint32) {
	away = s.away
	if a, ok := s.services[groupOf(d)]; ok {
		away = a
	}
	switch {
	case s.withdrawn:
		r = withdrawn
	case away == 100:
		r = drained
	}
	return r, away
}

// ranked is an endpoint and how it stands.
type ranked struct {
	Endpoint
	rank rank
}

// closings is how often connections to this zone were closed.
type closings struct {
	all      int64
	services map[group]int64
}

// ClosingsID is the row that differs when Closed does.
var ClosingsID = resource.ID{Type: kind.ZoneTraffic, Name: "closed"}

// close takes note of how often connections to this zone shall have been closed.
func (d *derivation) close() {
	next := closings{services: map[group]int64{}}
	if o := d.src.Get(resource.ID{Type: kind.ZoneTraffic, Name: d.site.Zone}); o != nil {
		spec := resource.SpecOf[kind.ZoneTrafficSpec](o)
		next.all = spec.Closed
		for _, s := range spec.Services {
			if s.Closed > 0 {
				next.services[group{s.Mesh, s.Name, s.Namespace}] = s.Closed
			}
		}
	}
	if next.all != d.closed.all || !maps.Equal(next.services, d.closed.services) {
		d.closed = next
		d.changed = append(d.changed, Changed{ID: ClosingsID})
	}
}

// Closed counts how often connections to a Dataplane of this zone shall have been
// closed so far, because the zone, or a service that selects it, was drained.
func (s *State) Closed(dataplane resource.ID) int64 {
	n := s.closed.all
	if len(s.closed.services) == 0 {
		return n
	}
	for _, id := range s.Selecting(dataplane) {
		n += s.closed.services[groupOf(s.Destination(id))]
	}
	return n
}

// ServicesClosed tells whether Closed depends on which services select a Dataplane.
func (s *State) ServicesClosed() bool { return len(s.closed.services) > 0 }

// rankAll appends endpoints of a service with how they stand, which is no better
// than best: an entrance that is withdrawn stands as if its zone were.
func (s *State) rankAll(out []ranked, best rank, service *Destination, list []Endpoint) []ranked {
	st := s.standingOf(s.zoneOfService(service))
	r, away := st.of(service)
	for _, e := range list {
		x := ranked{e, max(r, best)}
		x.Away = away
		if e.Proxy.Name == "" {
			at := address{service.ID.Mesh, e.Address, e.Port}
			if st.addresses[at] {
				x.rank = withdrawn
			}
			x.Away = max(x.Away, st.returning[at])
		}
		out = append(out, x)
	}
	return out
}

// choose sorts a list and splits it into those of the best rank, which serve, and
// the others. Of several at one address the one that stands best counts.
func choose(list []ranked) (in, out []Endpoint) {
	slices.SortStableFunc(list, func(a, b ranked) int {
		if c := compareEndpoints(a.Endpoint, b.Endpoint); c != 0 {
			return c
		}
		if a.rank != b.rank {
			return int(a.rank) - int(b.rank)
		}
		return int(a.Away) - int(b.Away)
	})
	list = slices.CompactFunc(list, func(a, b ranked) bool { return compareEndpoints(a.Endpoint, b.Endpoint) == 0 })
	best := withdrawn
	for i := range list {
		best = min(best, list[i].rank)
	}
	for i := range list {
		e := list[i].Endpoint
		if list[i].rank > best {
			out = append(out, e)
			continue
		}
		if best != serving {
			e.Away = 0 // all alike: nobody is left who would get more
		}
		in = append(in, e)
	}
	return in, out
}
