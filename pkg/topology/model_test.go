package topology_test

import (
	"cmp"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	mesh_proto "github.com/atoll-mesh/atoll/api/kuma/mesh/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/topology"
)

var (
	kinds = resource.NewKinds(kind.All()...)
	east  = resource.Site{Federated: true, Zone: "east", Env: resource.EnvUniversal}
	epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
)

// world is the resources of a snapshot.
type world map[resource.ID]*resource.Object

func (w world) Get(id resource.ID) *resource.Object { return w[id] }

func (w world) List(t resource.Type, mesh string) iter.Seq[*resource.Object] {
	return func(yield func(*resource.Object) bool) {
		for _, id := range slices.SortedFunc(maps.Keys(w), resource.ID.Compare) {
			if id.Type == t && (mesh == "" || id.Mesh == mesh) && !yield(w[id]) {
				return
			}
		}
	}
}

func object(t testing.TB, id resource.ID, created time.Time, labels map[string]string, spec, status any) *resource.Object {
	t.Helper()
	o, err := kinds.ByType(id.Type).New(resource.Meta{ID: id, Labels: labels, Created: created}, spec, status)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// TestModel plays random histories and checks after each step that the
// incremental state equals the one from scratch and the one that a plain reading
// of the rules gives, that the old state did not change, that equal rows kept
// their pointers, and that exactly the rows that differ were reported.
func TestModel(t *testing.T) {
	for seed := range uint64(14) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) { playModel(t, seed, 120) })
	}
}

func playModel(t *testing.T, seed uint64, steps int) {
	rng := rand.New(rand.NewPCG(seed, 1))
	w := world{}
	state := topology.Empty(east)
	rows := snapshotOf(state)
	for step := range steps {
		var touched []resource.ID
		for range 1 + rng.IntN(4) {
			id := randomID(rng)
			touched = append(touched, id)
			if rng.IntN(4) == 0 {
				delete(w, id)
			} else {
				w[id] = randomObject(t, rng, id)
			}
		}
		next, changed := topology.Derive(state, w, touched)
		got := snapshotOf(next)
		if scratch := snapshotOf(topology.FromScratch(east, w)); !reflect.DeepEqual(got, scratch) {
			t.Fatalf("step %d: incremental %v\nfrom scratch %v", step, got, scratch)
		}
		want := oracle(w)
		oracleOfZones(w, want)
		if !reflect.DeepEqual(got.text(), want) {
			t.Fatalf("step %d:\ngot  %v\nwant %v", step, got.text(), want)
		}
		if again := snapshotOf(state); !reflect.DeepEqual(again, rows) {
			t.Fatalf("step %d: deriving changed the state before", step)
		}
		checkChanged(t, step, state, next, changed)
		checkLookups(t, rng, w, next)
		checkZones(t, w, next)
		checkClosed(t, w, state, next, changed)
		state, rows = next, got
	}
}

// rows is everything a state says.
type rows struct {
	Destinations map[resource.ID]topology.Destination
	Endpoints    map[resource.ID][]topology.Endpoint
	Out          map[resource.ID][]topology.Endpoint
}

func snapshotOf(s *topology.State) rows {
	r := rows{map[resource.ID]topology.Destination{}, map[resource.ID][]topology.Endpoint{}, map[resource.ID][]topology.Endpoint{}}
	for d := range s.Destinations("") {
		r.Destinations[d.ID] = *d
		for _, p := range d.Ports {
			k := topology.EndpointsKey{Destination: d.ID, Section: p.Section}
			r.Endpoints[k.ID()] = append([]topology.Endpoint{}, s.Endpoints(k).List...)
			r.Out[k.ID()] = append([]topology.Endpoint{}, s.Endpoints(k).Out...)
		}
	}
	return r
}

// text is the endpoints in the oracle's form.
func (r rows) text() map[resource.ID][]string {
	out := map[resource.ID][]string{}
	for id, list := range r.Endpoints {
		out[id] = []string{}
		for _, e := range list {
			out[id] = append(out[id], text(e))
		}
		for _, e := range r.Out[id] {
			out[id] = append(out[id], "out "+text(e))
		}
		slices.Sort(out[id])
	}
	return out
}

func text(e topology.Endpoint) string {
	at := fmt.Sprintf("%s:%d %s %s %s", e.Address, e.Port, e.Zone, e.Proxy.Name, e.Labels["kuma.io/protocol"])
	if e.Away > 0 {
		at += fmt.Sprintf(" -%d%%", e.Away)
	}
	return at
}

// oracle reads the rules one by one, without indexes.
func oracle(w world) map[resource.ID][]string {
	out := map[resource.ID][]string{}
	for svc := range w.List(kind.MeshService, "") {
		spec := resource.SpecOf[kind.MeshServiceSpec](svc)
		for _, p := range slices.Backward(spec.Ports) { // of two with the same name the first remains
			key := topology.EndpointsKey{Destination: svc.ID, Section: p.Section()}.ID()
			list := []string{}
			for dp := range w.List(kind.Dataplane, svc.Mesh) {
				n := kind.NetworkingOf(dp)
				if p.TargetPort == nil || remote(svc) || !selected(spec, dp) {
					continue
				}
				for _, in := range n.GetInbound() {
					serves := in.GetName() == p.TargetPort.Str
					if p.TargetPort.Str == "" {
						serves = int32(in.GetPort()) == p.TargetPort.Int
					}
					ready := in.GetState() == mesh_proto.Dataplane_Networking_Inbound_Ready && (in.Health == nil || in.Health.Ready)
					address := in.GetAddress()
					if address == "" {
						address = n.GetAddress()
					}
					if _, err := netip.ParseAddr(address); err != nil || !serves || !ready || starting(w, dp) || in.GetPort() == 49151 {
						continue
					}
					at := fmt.Sprintf("%s:%d east %s ", address, in.GetPort(), dp.Name)
					if leaving(dp) {
						at = "out " + at
					}
					if !slices.ContainsFunc(list, func(e string) bool { return strings.HasPrefix(e, at) }) {
						list = append(list, at+cmp.Or(in.GetProtocol(), "tcp"))
					}
				}
			}
			slices.Sort(list)
			out[key] = list
		}
	}
	return out
}

func checkChanged(t *testing.T, step int, old, next *topology.State, changed []topology.Changed) {
	t.Helper()
	reported := map[topology.Changed]bool{}
	for _, c := range changed {
		if reported[c] {
			t.Fatalf("step %d: %v reported twice", step, c)
		}
		reported[c] = true
	}
	was, is := snapshotOf(old), snapshotOf(next)
	for id := range union(was.Destinations, is.Destinations) {
		a, b := old.Destination(id), next.Destination(id)
		same := a != nil && b != nil && reflect.DeepEqual(*a, *b)
		checkRow(t, step, id.String(), same, a == b, reported[topology.Changed{ID: id}])
	}
	for id := range union(was.Endpoints, is.Endpoints) {
		a, b := endpointsAt(old, id), endpointsAt(next, id)
		same := a != nil && b != nil && reflect.DeepEqual(was.Endpoints[id], is.Endpoints[id]) && reflect.DeepEqual(was.Out[id], is.Out[id])
		checkRow(t, step, id.String(), same, a == b, reported[topology.Changed{ID: id, Endpoints: true}])
	}
	delete(reported, topology.Changed{ID: topology.ClosingsID})
	if n := len(union(was.Destinations, is.Destinations)) + len(union(was.Endpoints, is.Endpoints)); len(reported) > n {
		t.Fatalf("step %d: %d rows reported of %d", step, len(reported), n)
	}
}

func checkRow(t *testing.T, step int, name string, same, samePointer, reported bool) {
	t.Helper()
	if same && (!samePointer || reported) {
		t.Fatalf("step %d: %s is equal: pointer kept %v, reported %v", step, name, samePointer, reported)
	}
	if !same && !reported {
		t.Fatalf("step %d: %s differs and was not reported", step, name)
	}
}

func union[V any](a, b map[resource.ID]V) map[resource.ID]bool {
	u := map[resource.ID]bool{}
	for id := range a {
		u[id] = true
	}
	for id := range b {
		u[id] = true
	}
	return u
}

func endpointsAt(s *topology.State, id resource.ID) *topology.Endpoints {
	name := []byte(id.Name)
	i := slices.Index(name, '#')
	section := string(name[i+1:])
	id.Name = string(name[:i])
	return s.Endpoints(topology.EndpointsKey{Destination: id, Section: section})
}

// checkLookups compares one random lookup of each sort with a scan.
func checkLookups(t *testing.T, rng *rand.Rand, w world, s *topology.State) {
	t.Helper()
	labels := randomLabels(rng)
	if rng.IntN(3) == 0 {
		labels[resource.LabelDisplayName] = fmt.Sprintf("svc-%d", rng.IntN(6))
	}
	var want []resource.ID
	for o := range w.List(kind.MeshService, "m1") {
		if o.Matches(labels) {
			want = append(want, o.ID)
		}
	}
	slices.SortFunc(want, func(a, b resource.ID) int {
		da, db := s.Destination(a), s.Destination(b)
		switch {
		case da.Local != db.Local:
			return map[bool]int{true: -1, false: 1}[da.Local]
		case !da.Created.Equal(db.Created):
			return da.Created.Compare(db.Created)
		}
		return a.Compare(b)
	})
	var got []resource.ID
	for _, d := range s.DestinationsByLabels("m1", kind.MeshService, labels) {
		got = append(got, d.ID)
	}
	if !slices.Equal(got, want) {
		t.Fatalf("by labels %v: got %v, want %v", labels, got, want)
	}
	selecting := map[resource.ID][]resource.ID{}
	for o := range w.List(kind.MeshService, "") {
		var members []resource.ID
		spec := resource.SpecOf[kind.MeshServiceSpec](o)
		if d := s.Destination(o.ID); d.Local == remote(o) || d.Available != (d.Local || spec.State == "Available") || d.Zone != o.Zone() {
			t.Fatalf("%+v of %s", d, o.JSON())
		}
		if !remote(o) {
			for dp := range w.List(kind.Dataplane, o.Mesh) {
				if n := kind.NetworkingOf(dp); selected(spec, dp) && len(n.GetInbound()) > 0 {
					members = append(members, dp.ID)
					selecting[dp.ID] = append(selecting[dp.ID], o.ID)
				}
			}
		}
		if got := slices.Collect(s.Members(o.ID)); !slices.Equal(got, members) {
			t.Fatalf("members of %s: got %v, want %v", o.ID, got, members)
		}
	}
	for dp := range w.List(kind.Dataplane, "") {
		if s.Starting(dp.ID) != starting(w, dp) {
			t.Fatalf("%s starts: %v", dp.ID, s.Starting(dp.ID))
		}
		if got := s.Selecting(dp.ID); !slices.Equal(got, selecting[dp.ID]) {
			t.Fatalf("services that select %s: got %v, want %v", dp.ID, got, selecting[dp.ID])
		}
	}
}

// starting tells whether the insight of a Dataplane says so.
func starting(w world, dp *resource.Object) bool {
	o := w[resource.ID{Type: kind.DataplaneInsight, Mesh: dp.Mesh, Name: dp.Name}]
	return o != nil && kind.Starting(resource.SpecOf[mesh_proto.DataplaneInsight](o))
}

func leaving(dp *resource.Object) bool { return dp.Labels[resource.LabelDraining] == "true" }

func remote(svc *resource.Object) bool {
	return svc.Labels[resource.LabelOrigin] == "global" || svc.Zone() != "" && svc.Zone() != "east"
}

func selected(spec *kind.MeshServiceSpec, dp *resource.Object) bool {
	ref, labels := spec.Selector.DataplaneRef, spec.Selector.DataplaneLabels
	return kind.NetworkingOf(dp).GetGateway() == nil &&
		(ref != nil && ref.Name == dp.Name || labels != nil && resource.MatchLabels(labels.MatchLabels, dp.Labels))
}

func randomID(rng *rand.Rand) resource.ID {
	mesh := "m1"
	if rng.IntN(4) == 0 {
		mesh = "m2"
	}
	switch rng.IntN(12) {
	case 11:
		return resource.ID{Type: kind.DataplaneInsight, Mesh: mesh, Name: fmt.Sprintf("dp-%d", rng.IntN(8))}
	case 10:
		return randomIDOfStanding(rng)
	case 0, 1, 2:
		return resource.ID{Type: kind.MeshService, Mesh: mesh, Name: fmt.Sprintf("svc-%d", rng.IntN(6))}
	case 3, 4:
		return randomIDOfZones(rng, mesh)
	}
	return resource.ID{Type: kind.Dataplane, Mesh: mesh, Name: fmt.Sprintf("dp-%d", rng.IntN(8))}
}

func randomLabels(rng *rand.Rand) map[string]string {
	l := map[string]string{}
	for _, k := range []string{"app", "version", "team"} {
		if rng.IntN(2) == 0 {
			l[k] = fmt.Sprintf("v%d", rng.IntN(3))
		}
	}
	return l
}

func randomObject(t *testing.T, rng *rand.Rand, id resource.ID) *resource.Object {
	created := epoch.Add(time.Duration(rng.IntN(3)) * time.Hour)
	if id.Type == kind.Dataplane {
		dp := randomDataplane(rng)
		addListeners(rng, dp)
		labels := randomLabels(rng)
		if rng.IntN(4) == 0 {
			labels[resource.LabelDraining] = "true"
		}
		return object(t, id, created, labels, dp, nil)
	}
	if id.Type == kind.DataplaneInsight {
		in := &mesh_proto.DataplaneInsight{Metadata: kind.WithStarting(nil, rng.IntN(2) == 0)}
		if rng.IntN(2) == 0 { // what happened to its streams wakes nobody
			in.Subscriptions = []*mesh_proto.DiscoverySubscription{{Id: fmt.Sprint(rng.IntN(9))}}
		}
		return object(t, id, created, nil, in, nil)
	}
	if id.Type == kind.ZoneLink || id.Type == kind.ZoneTraffic {
		return randomStanding(t, rng, id, created)
	}
	if id.Type != kind.MeshService {
		return randomObjectOfZones(t, rng, id, created)
	}
	labels := randomLabels(rng)
	if rng.IntN(3) == 0 {
		labels[resource.LabelDisplayName] = fmt.Sprintf("svc-%d", rng.IntN(6))
	}
	switch rng.IntN(6) {
	case 0, 2:
		labels[resource.LabelOrigin], labels[resource.LabelZone] = resource.OriginGlobal, []string{"west", "north"}[rng.IntN(2)]
	case 1:
		labels[resource.LabelOrigin], labels[resource.LabelZone] = resource.OriginZone, "east"
	}
	spec := kind.MeshServiceSpec{State: []string{"Available", "Unavailable"}[rng.IntN(2)]}
	switch rng.IntN(6) {
	case 0:
	case 1:
		spec.Selector.DataplaneRef = &kind.DataplaneRef{Name: fmt.Sprintf("dp-%d", rng.IntN(8))}
	case 2:
		spec.Selector.DataplaneLabels = &kind.DataplaneLabels{}
	default:
		spec.Selector.DataplaneLabels = &kind.DataplaneLabels{MatchLabels: randomLabels(rng)}
	}
	for range rng.IntN(3) {
		spec.Identities = append(spec.Identities, kind.ServiceIdentity{Type: "SpiffeID", Value: fmt.Sprintf("spiffe://m/%d", rng.IntN(4))})
	}
	for range rng.IntN(4) {
		p := kind.MeshServicePort{Name: []string{"", "a", "b"}[rng.IntN(3)], Port: 80 + int32(rng.IntN(2))}
		switch rng.IntN(4) {
		case 0:
		case 1:
			p.TargetPort = &kind.IntOrString{Str: []string{"http", "admin"}[rng.IntN(2)]}
		default:
			p.TargetPort = &kind.IntOrString{Int: 8080 + int32(rng.IntN(2))}
		}
		spec.Ports = append(spec.Ports, p)
	}
	var status any
	if rng.IntN(2) == 0 {
		status = &kind.MeshServiceStatus{
			VIPs:             []kind.VIP{{IP: fmt.Sprintf("241.0.0.%d", rng.IntN(3))}},
			DataplaneProxies: kind.ServiceProxies{Total: rng.IntN(3)},
		}
	}
	return object(t, id, created, labels, &spec, status)
}

func randomDataplane(rng *rand.Rand) *mesh_proto.Dataplane {
	n := &kind.Networking{Address: fmt.Sprintf("10.0.0.%d", rng.IntN(3))}
	if rng.IntN(8) == 0 {
		n.Address = "host.example"
	}
	if rng.IntN(8) == 0 {
		n.Gateway = &mesh_proto.Dataplane_Networking_Gateway{}
	}
	for range rng.IntN(4) {
		in := &kind.DataplaneInbound{
			Port:     []uint32{8080, 8081, 49151}[rng.IntN(3)],
			Name:     []string{"", "http", "admin"}[rng.IntN(3)],
			State:    mesh_proto.Dataplane_Networking_Inbound_State(max(0, rng.IntN(5)-2)),
			Protocol: []string{"", "http", "grpc"}[rng.IntN(3)],
		}
		if rng.IntN(4) == 0 {
			in.Health = &mesh_proto.Dataplane_Networking_Inbound_Health{Ready: rng.IntN(2) == 0}
		}
		if rng.IntN(4) == 0 {
			in.Address = fmt.Sprintf("10.0.1.%d", rng.IntN(2))
		}
		n.Inbound = append(n.Inbound, in)
	}
	return &mesh_proto.Dataplane{Networking: n}
}
