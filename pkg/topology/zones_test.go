package topology_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	mesh_proto "github.com/atoll-mesh/atoll/api/kuma/mesh/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/topology"
)

// What the model says about destinations that are not of this zone alone.

func randomIDOfZones(rng *rand.Rand, mesh string) resource.ID {
	switch rng.IntN(8) {
	case 0, 1, 2:
		return resource.ID{Type: kind.MeshMultiZoneService, Mesh: mesh, Name: fmt.Sprintf("multi-%d", rng.IntN(3))}
	case 3, 4:
		return resource.ID{Type: kind.MeshExternalService, Mesh: mesh, Name: fmt.Sprintf("ext-%d", rng.IntN(3))}
	case 5, 6:
		return resource.ID{Type: kind.MeshZoneAddress, Mesh: mesh, Name: fmt.Sprintf("addr-%d", rng.IntN(4))}
	}
	return resource.ID{Type: kind.MeshIdentity, Mesh: mesh, Name: fmt.Sprintf("id-%d", rng.IntN(2))}
}

func randomObjectOfZones(t *testing.T, rng *rand.Rand, id resource.ID, created time.Time) *resource.Object {
	labels := randomLabels(rng)
	switch id.Type {
	case kind.MeshMultiZoneService:
		spec := &kind.MeshMultiZoneServiceSpec{}
		spec.Selector.MeshService.MatchLabels = randomLabels(rng)
		if rng.IntN(3) == 0 {
			spec.Selector.MeshService.MatchLabels = map[string]string{resource.LabelDisplayName: fmt.Sprintf("svc-%d", rng.IntN(6))}
		}
		for range rng.IntN(3) {
			p := kind.MultiZonePort{Port: 80 + int32(rng.IntN(2))}
			if rng.IntN(2) == 0 {
				p.Name = new([]string{"a", "b"}[rng.IntN(2)])
			}
			spec.Ports = append(spec.Ports, p)
		}
		return object(t, id, created, labels, spec, &kind.MeshMultiZoneServiceStatus{
			VIPs: []kind.VIP{{IP: fmt.Sprintf("243.0.0.%d", rng.IntN(2))}},
			// It follows from the rest and must wake nobody.
			MeshServices: []kind.MatchedService{{Name: fmt.Sprint(rng.IntN(3))}},
		})
	case kind.MeshExternalService:
		spec := &kind.MeshExternalServiceSpec{Match: kind.ExternalMatch{Port: 80 + int32(rng.IntN(2))}}
		return object(t, id, created, labels, spec, &kind.MeshExternalServiceStatus{VIP: kind.VIP{IP: []string{"", "242.0.0.1"}[rng.IntN(2)]}})
	case kind.MeshZoneAddress:
		labels[resource.LabelZone] = []string{"west", "north", "east"}[rng.IntN(3)]
		spec := &kind.MeshZoneAddressSpec{Address: []string{"203.0.113.1", "203.0.113.2", "ingress.example"}[rng.IntN(3)], Port: 10001 + int32(rng.IntN(2))}
		return object(t, id, created, labels, spec, nil)
	}
	return object(t, id, created, labels, &kind.MeshIdentitySpec{}, nil)
}

func addListeners(rng *rand.Rand, dp *mesh_proto.Dataplane) {
	if rng.IntN(2) == 0 {
		return
	}
	for range 1 + rng.IntN(2) {
		dp.Networking.Listeners = append(dp.Networking.Listeners, &kind.DataplaneListener{
			Type:    mesh_proto.Dataplane_Networking_Listener_Type(rng.IntN(3)),
			State:   mesh_proto.Dataplane_Networking_Listener_State(rng.IntN(2)),
			Address: []string{"10.0.0.9", "egress.example"}[rng.IntN(2)], Port: 10002 + uint32(rng.IntN(2)),
		})
	}
}

// oracleOfZones adds what the oracle of local services does not know.
func oracleOfZones(w world, out map[resource.ID][]string) {
	section := func(d resource.ID, s string) resource.ID {
		return topology.EndpointsKey{Destination: d, Section: s}.ID()
	}
	for svc := range w.List(kind.MeshService, "") {
		for _, p := range resource.SpecOf[kind.MeshServiceSpec](svc).Ports {
			if remote(svc) {
				out[section(svc.ID, p.Section())] = oracleRow(w, svc, entrances(w, svc))
			}
		}
	}
	for o := range w.List(kind.MeshMultiZoneService, "") {
		spec := resource.SpecOf[kind.MeshMultiZoneServiceSpec](o)
		for _, p := range spec.Ports {
			var members []candidate
			for _, svc := range joined(w, o) {
				if remote(svc) && resource.SpecOf[kind.MeshServiceSpec](svc).State != "Available" {
					continue
				}
				for _, e := range out[section(svc.ID, p.Section())] {
					e, out := strings.CutPrefix(e, "out ")
					c := candidateOf(w, svc, e)
					if out {
						c.stands = max(c.stands, 1)
					}
					members = append(members, c)
				}
			}
			out[section(o.ID, p.Section())] = bestOf(members)
		}
	}
	for o := range w.List(kind.MeshExternalService, "") {
		list := []string{}
		for dp := range w.List(kind.Dataplane, o.Mesh) {
			for _, l := range kind.NetworkingOf(dp).GetListeners() {
				_, err := netip.ParseAddr(l.GetAddress())
				if e := fmt.Sprintf("%s:%d  %s ", l.GetAddress(), l.GetPort(), dp.Name); err == nil && egress(l) && !starting(w, dp) && !leaving(dp) &&
					l.GetState() == mesh_proto.Dataplane_Networking_Listener_Ready && !slices.Contains(list, e) {
					list = append(list, e)
				}
			}
		}
		slices.Sort(list)
		out[section(o.ID, fmt.Sprint(resource.SpecOf[kind.MeshExternalServiceSpec](o).Match.Port))] = list
	}
}

func egress(l *kind.DataplaneListener) bool {
	return l.GetType() == mesh_proto.Dataplane_Networking_Listener_ZoneEgress
}

func entrances(w world, svc *resource.Object) []string {
	list := []string{}
	for range w.List(kind.MeshIdentity, svc.Mesh) {
		for o := range w.List(kind.MeshZoneAddress, svc.Mesh) {
			spec := resource.SpecOf[kind.MeshZoneAddressSpec](o)
			_, err := netip.ParseAddr(spec.Address)
			e := fmt.Sprintf("%s:%d %s  ", spec.Address, spec.Port, o.Zone())
			if err == nil && svc.Zone() != "" && o.Zone() == svc.Zone() && !slices.Contains(list, e) {
				list = append(list, e)
			}
		}
	}
	slices.Sort(list)
	return list
}

func joined(w world, multiZone *resource.Object) []*resource.Object {
	var list []*resource.Object
	labels := resource.SpecOf[kind.MeshMultiZoneServiceSpec](multiZone).Selector.MeshService.MatchLabels
	for svc := range w.List(kind.MeshService, multiZone.Mesh) {
		if len(labels) > 0 && svc.Matches(labels) {
			list = append(list, svc)
		}
	}
	return list
}

func checkZones(t *testing.T, w world, s *topology.State) {
	t.Helper()
	joining := map[resource.ID][]resource.ID{}
	for o := range w.List(kind.MeshMultiZoneService, "") {
		var want []resource.ID
		identities := map[string]bool{}
		for _, svc := range joined(w, o) {
			want = append(want, svc.ID)
			joining[svc.ID] = append(joining[svc.ID], o.ID)
			for _, id := range resource.SpecOf[kind.MeshServiceSpec](svc).Identities {
				identities[id.Value] = true
			}
		}
		var got []resource.ID
		for _, d := range s.Joined(o.ID) {
			got = append(got, d.ID)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("members of %s: got %v, want %v", o.ID, got, want)
		}
		d := s.Destination(o.ID)
		if !slices.Equal(d.Identities, slices.Sorted(maps.Keys(identities))) {
			t.Fatalf("identities of %s: got %v, want %v", o.ID, d.Identities, identities)
		}
		if !d.TLSReady || !d.Available || len(d.VIPs) != 1 {
			t.Fatalf("%+v", d)
		}
	}
	for svc := range w.List(kind.MeshService, "") {
		if got := s.Joining(svc.ID); !slices.Equal(got, joining[svc.ID]) {
			t.Fatalf("%s is part of %v, want %v", svc.ID, got, joining[svc.ID])
		}
	}
	for o := range w.List(kind.MeshExternalService, "") {
		var want []resource.ID
		for dp := range w.List(kind.Dataplane, o.Mesh) {
			if slices.ContainsFunc(kind.NetworkingOf(dp).GetListeners(), egress) {
				want = append(want, dp.ID)
			}
		}
		if d := s.Destination(o.ID); !slices.Equal(d.Exits, want) {
			t.Fatalf("exits of %s: got %v, want %v", o.ID, d.Exits, want)
		}
	}
}

// A global knows what there is, and no endpoints.
func TestGlobalHasNoEndpoints(t *testing.T) {
	w := world{}
	rng := rand.New(rand.NewPCG(1, 1))
	for range 200 {
		id := randomID(rng)
		w[id] = randomObject(t, rng, id)
	}
	s := topology.FromScratch(resource.Site{Global: true}, w)
	n := 0
	for d := range s.Destinations("") {
		n++
		if d.Local {
			t.Errorf("%s counts as local", d.ID)
		}
		for _, p := range d.Ports {
			if s.Endpoints(topology.EndpointsKey{Destination: d.ID, Section: p.Section}) != nil {
				t.Errorf("%s has endpoints", d.ID)
			}
		}
	}
	if n < 10 {
		t.Errorf("only %d destinations", n)
	}
}
