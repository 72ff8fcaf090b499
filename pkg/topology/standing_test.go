package topology_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/topology"
)

// What the model says about zones that are withdrawn or drained.

var zones = []string{"east", "west", "north"}

func randomIDOfStanding(rng *rand.Rand) resource.ID {
	if rng.IntN(2) == 0 {
		return resource.ID{Type: kind.ZoneTraffic, Name: zones[rng.IntN(3)]}
	}
	return resource.ID{Type: kind.ZoneLink, Name: fmt.Sprint("link-", rng.IntN(4))}
}

func randomStanding(t *testing.T, rng *rand.Rand, id resource.ID, created time.Time) *resource.Object {
	if id.Type == kind.ZoneLink {
		spec := &kind.ZoneLinkSpec{
			Observer: zones[rng.IntN(3)], Observed: zones[rng.IntN(3)], Withdrawn: rng.IntN(3) == 0,
			State: kind.LinkUp, RTTMillis: rng.Float64(), // what is measured must wake nobody
		}
		for range rng.IntN(4) {
			spec.Addresses = append(spec.Addresses, kind.ZoneLinkAddress{
				Mesh: []string{"m1", "m2"}[rng.IntN(2)], Address: []string{"203.0.113.1", "203.0.113.2"}[rng.IntN(2)],
				Port: 10001 + int32(rng.IntN(2)), Withdrawn: rng.IntN(2) == 0, Share: []int32{0, 0, 20, 60}[rng.IntN(4)],
			})
		}
		return object(t, id, created, nil, spec, nil)
	}
	shares := []int32{100, 100, 100, 50, 0, 0}
	spec := &kind.ZoneTrafficSpec{Share: shares[rng.IntN(6)], Closed: int64(rng.IntN(2))}
	for range rng.IntN(3) {
		spec.Services = append(spec.Services, kind.ServiceTraffic{
			Mesh: []string{"m1", "m2"}[rng.IntN(2)], Name: fmt.Sprintf("svc-%d", rng.IntN(6)), Share: shares[rng.IntN(6)], Closed: int64(rng.IntN(2)),
		})
	}
	return object(t, id, created, nil, spec, nil)
}

// candidate is an endpoint of the oracle, which stands 0 well, 1 drained or 2
// withdrawn.
type candidate struct {
	text        string
	stands, cut int
}

// candidateOf reads everything that is said of the zone of a service.
func candidateOf(w world, svc *resource.Object, e string) candidate {
	c := candidate{text: e}
	zone := svc.Zone()
	if !remote(svc) {
		zone = "east"
	}
	if o := w[resource.ID{Type: kind.ZoneTraffic, Name: zone}]; o != nil {
		spec := resource.SpecOf[kind.ZoneTrafficSpec](o)
		share := spec.Share
		last := int32(100) // of two entries of one service the last
		for _, s := range spec.Services {
			if s.Mesh == svc.Mesh && s.Name == svc.DisplayName() && s.Share < spec.Share {
				last = s.Share
			}
		}
		c.cut = 100 - int(min(share, last))
	}
	if c.cut == 100 {
		c.stands = 1
	}
	for o := range w.List(kind.ZoneLink, "") {
		l := resource.SpecOf[kind.ZoneLinkSpec](o)
		if l.Observed != zone || zone == "east" || l.Observer != "east" && l.Observer != zone {
			continue
		}
		dead := l.Withdrawn
		for _, a := range l.Addresses {
			switch at := a.Mesh == svc.Mesh && strings.HasPrefix(e, fmt.Sprintf("%s:%d ", a.Address, a.Port)) && remote(svc); {
			case at && a.Withdrawn:
				dead = true
			case at && a.Share > 0:
				c.cut = max(c.cut, 100-int(a.Share))
			}
		}
		if dead {
			c.stands = 2
		}
	}
	return c
}

// bestOf keeps those that stand best, and names the others as out.
func bestOf(list []candidate) []string {
	// The protocol is the last word: two inbounds may have one address.
	at := func(c candidate) string { return c.text[:strings.LastIndex(c.text, " ")+1] }
	best := 2
	var kept []candidate
	for _, c := range list {
		best = min(best, c.stands)
		i := slices.IndexFunc(kept, func(k candidate) bool { return at(k) == at(c) })
		switch {
		case i < 0:
			kept = append(kept, c)
		case c.stands < kept[i].stands || c.stands == kept[i].stands && c.cut < kept[i].cut:
			kept[i] = c
		}
	}
	out := []string{}
	for _, c := range kept {
		text := c.text
		if c.cut > 0 && (best == 0 || c.stands > best) {
			text += fmt.Sprintf(" -%d%%", c.cut)
		}
		if c.stands > best {
			text = "out " + text
		}
		out = append(out, text)
	}
	slices.Sort(out)
	return out
}

// oracleRow is the row of a service of one other zone: only its addresses differ.
func oracleRow(w world, svc *resource.Object, list []string) []string {
	var all []candidate
	best, cuts := 2, map[int]bool{}
	for _, e := range list {
		c := candidateOf(w, svc, e)
		all = append(all, c)
		if c.stands < best {
			best, cuts = c.stands, map[int]bool{}
		}
		cuts[c.cut] = cuts[c.cut] || c.stands == best
	}
	differ := 0
	for _, serves := range cuts {
		if serves {
			differ++
		}
	}
	for i := range all {
		if all[i].stands > best || differ == 1 {
			all[i].cut = 0
		}
	}
	return bestOf(all)
}

// checkClosed compares how often connections to each Dataplane shall have been
// closed with the rules, and whether a difference was reported.
func checkClosed(t *testing.T, w world, old, next *topology.State, changed []topology.Changed) {
	t.Helper()
	spec := &kind.ZoneTrafficSpec{}
	if o := w[resource.ID{Type: kind.ZoneTraffic, Name: "east"}]; o != nil {
		spec = resource.SpecOf[kind.ZoneTrafficSpec](o)
	}
	for dp := range w.List(kind.Dataplane, "") {
		want := spec.Closed
		for _, id := range next.Selecting(dp.ID) {
			last := int64(0) // of two entries of one service the last
			for _, s := range spec.Services {
				if s.Closed > 0 && s.Mesh == id.Mesh && s.Name == w[id].DisplayName() {
					last = s.Closed
				}
			}
			want += last
		}
		if got := next.Closed(dp.ID); got != want {
			t.Fatalf("closed for %s: %d, want %d", dp.ID, got, want)
		}
		reported := slices.Contains(changed, topology.Changed{ID: topology.ClosingsID})
		if !reported && slices.Equal(old.Selecting(dp.ID), next.Selecting(dp.ID)) && !next.ServicesClosed() && old.Closed(dp.ID) != want {
			t.Fatalf("closed for %s went from %d to %d, which was not reported", dp.ID, old.Closed(dp.ID), want)
		}
	}
}

// A link of a zone that nobody calls costs nothing, and what is measured wakes
// nobody.
func TestLinkWakesWhomItConcerns(t *testing.T) {
	w := world{}
	add := func(o *resource.Object) { w[o.ID] = o }
	id := func(t resource.Type, mesh, name string) resource.ID {
		return resource.ID{Type: t, Mesh: mesh, Name: name}
	}
	for _, zone := range []string{"west", "north"} {
		for _, app := range []string{"a", "b"} {
			add(object(t, id(kind.MeshService, "m1", app+"-"+zone), epoch, map[string]string{
				resource.LabelZone: zone, resource.LabelOrigin: resource.OriginGlobal, resource.LabelDisplayName: app,
			}, &kind.MeshServiceSpec{State: kind.ServiceAvailable, Ports: []kind.MeshServicePort{{Port: 80, TargetPort: &kind.IntOrString{Int: 80}}}}, nil))
		}
		add(object(t, id(kind.MeshZoneAddress, "m1", zone), epoch, map[string]string{resource.LabelZone: zone},
			&kind.MeshZoneAddressSpec{Address: map[string]string{"west": "203.0.113.1", "north": "203.0.113.2"}[zone], Port: 10001}, nil))
	}
	for _, app := range []string{"a", "b"} {
		spec := &kind.MeshMultiZoneServiceSpec{Ports: []kind.MultiZonePort{{Port: 80}}}
		spec.Selector.MeshService.MatchLabels = map[string]string{resource.LabelDisplayName: app}
		add(object(t, id(kind.MeshMultiZoneService, "m1", app), epoch, nil, spec, nil))
	}
	add(object(t, id(kind.MeshIdentity, "m1", "i"), epoch, nil, &kind.MeshIdentitySpec{}, nil))
	state := topology.FromScratch(east, w)

	step := func(what string, want []string, objects ...*resource.Object) {
		t.Helper()
		var touched []resource.ID
		for _, o := range objects {
			add(o)
			touched = append(touched, o.ID)
		}
		next, changed := topology.Derive(state, w, touched)
		state = next
		var got []string
		for _, c := range changed {
			got = append(got, string(c.ID.Type)+" "+c.ID.Name)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: changed %q, want %q", what, got, want)
		}
	}
	link := func(withdrawn bool, rtt float64) *resource.Object {
		return object(t, id(kind.ZoneLink, "", "east-to-west"), epoch, nil, &kind.ZoneLinkSpec{Observer: "east", Observed: "west", Withdrawn: withdrawn, RTTMillis: rtt}, nil)
	}
	traffic := func(share int32, services ...kind.ServiceTraffic) *resource.Object {
		return object(t, id(kind.ZoneTraffic, "", "west"), epoch, nil, &kind.ZoneTrafficSpec{Share: share, Services: services}, nil)
	}
	both := []string{"MeshMultiZoneService a#80", "MeshMultiZoneService b#80"}
	step("a link that is up", nil, link(false, 1))
	step("withdrawn", both, link(true, 1))
	step("measured again", nil, link(true, 2))
	step("half", both, traffic(50))
	step("back", both, link(false, 2))
	step("whole", both, traffic(100))
	step("one service", both[:1], traffic(100, kind.ServiceTraffic{Mesh: "m1", Name: "a", Share: 0}))
	step("another mesh", nil, traffic(100, kind.ServiceTraffic{Mesh: "m1", Name: "a", Share: 0}, kind.ServiceTraffic{Mesh: "m2", Name: "b", Share: 0}))
	step("another zone's link", nil, object(t, id(kind.ZoneLink, "", "north-to-west"), epoch, nil, &kind.ZoneLinkSpec{Observer: "north", Observed: "west", Withdrawn: true}, nil))
	step("what others say of this zone", nil, object(t, id(kind.ZoneLink, "", "west-to-east"), epoch, nil, &kind.ZoneLinkSpec{Observer: "west", Observed: "east", Withdrawn: true}, nil))
	step("what a zone says of itself", both[1:], object(t, id(kind.ZoneLink, "", "west-to-west"), epoch, nil, &kind.ZoneLinkSpec{Observer: "west", Observed: "west", Withdrawn: true}, nil))
	e := state.Endpoints(topology.EndpointsKey{Destination: id(kind.MeshMultiZoneService, "m1", "b"), Section: "80"})
	if len(e.List) != 1 || e.List[0].Zone != "north" || len(e.Out) != 1 || e.Out[0].Zone != "west" {
		t.Errorf("%+v", e)
	}
}
