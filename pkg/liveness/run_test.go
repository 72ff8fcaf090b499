package liveness

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	mesh_proto "github.com/atoll-mesh/atoll/api/kuma/mesh/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/store"
	inmemory "github.com/atoll-mesh/atoll/pkg/store/memory"
	"github.com/atoll-mesh/atoll/pkg/view"
)

// zone is a store and a view with somebody who decides, in virtual time.
type zone struct {
	t  *testing.T
	st store.Store
	v  *view.View
}

func newZone(t *testing.T) *zone {
	site := resource.Site{Zone: "north", Env: resource.EnvUniversal, Federated: true}
	z := &zone{t: t, st: inmemory.Open(), v: view.New(resource.NewKinds(kind.All()...), site, slog.New(slog.DiscardHandler))}
	ctx, cancel := context.WithCancel(t.Context())
	following := make(chan struct{})
	go func() { defer close(following); _ = view.Follow(ctx, z.st, z.v) }()
	t.Cleanup(func() { cancel(); <-following })
	<-z.v.Loaded()
	z.put(kind.MeshIdentity, "shop", "identity", &kind.MeshIdentitySpec{}, nil)
	z.lead()
	return z
}

// lead starts who decides; the function returned ends it.
func (z *zone) lead() (stop func()) {
	ctx, cancel := context.WithCancel(z.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = Run(ctx, Config{View: z.v, Store: z.st, Log: slog.New(slog.DiscardHandler)})
	}()
	stop = func() { cancel(); <-done }
	z.t.Cleanup(stop)
	return stop
}

func (z *zone) do(op store.Op) {
	z.t.Helper()
	rev, err := z.st.Write(z.t.Context(), op)
	if err == nil {
		_, err = z.v.Wait(z.t.Context(), rev)
	}
	if err != nil {
		z.t.Fatal(err)
	}
}

func (z *zone) put(t resource.Type, mesh, name string, spec any, labels map[string]string) {
	z.t.Helper()
	k := z.v.Kinds().ByType(t)
	if labels == nil {
		labels = z.v.Site().ComputeLabels(k, name, mesh, nil)
	}
	o, err := k.New(resource.Meta{ID: resource.ID{Type: t, Mesh: mesh, Name: name}, Labels: labels}, spec, nil)
	if err != nil {
		z.t.Fatal(err)
	}
	z.do(store.Put(o, store.Any, "test"))
}

func (z *zone) remove(t resource.Type, mesh, name string) {
	z.t.Helper()
	z.do(store.Delete(resource.ID{Type: t, Mesh: mesh, Name: name}, store.Any, "test"))
}

// entrance is one of another zone, as the global sent it.
func (z *zone) entrance(zone, address string) {
	z.t.Helper()
	z.put(kind.MeshZoneAddress, "shop", zone, &kind.MeshZoneAddressSpec{Address: address, Port: 10001},
		map[string]string{resource.LabelZone: zone, resource.LabelOrigin: resource.OriginGlobal})
}

// proxy is one that is connected or not, of a kind with listeners or without.
func (z *zone) proxy(name string, ingress, online bool, features ...string) {
	z.t.Helper()
	n := &mesh_proto.Dataplane_Networking{Address: "192.0.2.1"}
	if ingress {
		n.Listeners = []*mesh_proto.Dataplane_Networking_Listener{{
			Type: mesh_proto.Dataplane_Networking_Listener_ZoneIngress, Address: "192.0.2.1", Port: 10001,
		}}
	}
	z.put(kind.Dataplane, "shop", name, &mesh_proto.Dataplane{Networking: n}, nil)
	var list []any
	for _, f := range features {
		list = append(list, f)
	}
	meta, err := structpb.NewStruct(map[string]any{"features": list})
	if err != nil {
		z.t.Fatal(err)
	}
	sub := &mesh_proto.DiscoverySubscription{Id: "1", ConnectTime: timestamppb.Now()}
	if !online {
		sub.DisconnectTime = timestamppb.Now()
	}
	z.put(kind.DataplaneInsight, "shop", name, &mesh_proto.DataplaneInsight{
		Subscriptions: []*mesh_proto.DiscoverySubscription{sub}, Metadata: meta,
	}, nil)
}

func (z *zone) reports(proxy string, elected bool, states map[string]kind.ZoneLinkState) {
	z.t.Helper()
	spec := &kind.ZoneProbeSpec{Elected: elected}
	for _, zone := range sortedKeys(states) {
		o := z.v.Snapshot().Get(resource.ID{Type: kind.MeshZoneAddress, Mesh: "shop", Name: zone})
		a := resource.SpecOf[kind.MeshZoneAddressSpec](o)
		spec.Targets = append(spec.Targets, kind.ProbedTarget{Zone: zone, Address: a.Address, Port: a.Port, State: states[zone]})
	}
	z.put(kind.ZoneProbe, "shop", proxy, spec, nil)
}

// after lets time pass and says what the links are.
func (z *zone) after(d time.Duration) string {
	time.Sleep(d) // of virtual time
	synctest.Wait()
	var links []string
	for o := range z.v.Snapshot().List(kind.ZoneLink, "") {
		l := resource.SpecOf[kind.ZoneLinkSpec](o)
		s := fmt.Sprintf("%s %s", l.Observed, l.State)
		if l.Withdrawn {
			s += " withdrawn"
		}
		links = append(links, s)
	}
	return strings.Join(links, ", ")
}

func (z *zone) elected() (names []string) {
	for o := range z.v.Snapshot().List(kind.ZoneProbe, "") {
		if resource.SpecOf[kind.ZoneProbeSpec](o).Elected {
			names = append(names, o.Name)
		}
	}
	slices.Sort(names)
	return names
}

func (z *zone) want(d time.Duration, want string) {
	z.t.Helper()
	if got := z.after(d); got != want {
		z.t.Fatalf("links: %s\n want: %s", got, want)
	}
}

// What zone proxies report becomes links, and links of zones that are gone go.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := newZone(t)
		z.entrance("east", "10.0.0.1")
		z.entrance("west", "10.0.0.2")
		z.want(time.Second, "east Unknown, west Unknown")
		z.proxy("zp", true, true, featureZoneProbes)
		z.reports("zp", false, map[string]kind.ZoneLinkState{"east": up, "west": up})
		z.want(time.Second, "east Up, west Up")
		before := z.v.Snapshot().Revision()
		z.reports("zp", false, map[string]kind.ZoneLinkState{"east": down, "west": up})
		z.want(confirm, "east Down withdrawn, west Up")
		if n := z.v.Snapshot().Revision() - before; n != 2 { // the report and the link
			t.Errorf("%d writes", n)
		}
		z.want(time.Hour, "east Down withdrawn, west Up")
		if n := z.v.Snapshot().Revision() - before; n != 2 {
			t.Errorf("%d writes in an hour without news", n)
		}
		// Who is not connected any more says nothing; what was decided holds a while.
		z.proxy("zp", true, false, featureZoneProbes)
		z.want(forgotten/2, "east Down withdrawn, west Up")
		z.proxy("zp", true, true, featureZoneProbes)
		z.reports("zp", false, map[string]kind.ZoneLinkState{"east": up, "west": up})
		z.want(time.Second, "east Up, west Up")
		z.remove(kind.MeshZoneAddress, "shop", "east")
		z.want(time.Second, "west Up")
	})
}

// Without a zone proxy that can probe, two others are asked; they are replaced
// when they go, and let go when there is a zone proxy.
func TestElection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := newZone(t)
		for _, name := range []string{"a", "b", "c", "d"} {
			z.proxy(name, false, true, featureZoneProbes)
		}
		z.proxy("b", false, true) // of the reference
		elected := func(d time.Duration, want ...string) {
			t.Helper()
			z.after(d)
			if got := z.elected(); !slices.Equal(got, want) {
				t.Fatalf("elected %v, want %v", got, want)
			}
		}
		elected(time.Minute)
		z.entrance("east", "10.0.0.1")
		elected(time.Second, "a", "c")
		z.reports("a", true, map[string]kind.ZoneLinkState{"east": up})
		z.want(time.Second, "east Up")
		z.proxy("a", false, false, featureZoneProbes)
		elected(time.Second, "c", "d")
		z.proxy("zp", true, true, featureZoneProbes)
		elected(time.Second)
		z.proxy("zp", true, false, featureZoneProbes)
		elected(electAfter / 2) // it may be back
		elected(electAfter, "c", "d")
		z.remove(kind.MeshIdentity, "shop", "identity")
		elected(time.Second) // nobody can prove who they are
	})
}

// A zone says whether anybody can enter it, but not right after its control plane
// has started.
func TestOfSelf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := newZone(t)
		z.put(kind.MeshZoneAddress, "shop", "own", &kind.MeshZoneAddressSpec{Address: "192.0.2.1", Port: 10001},
			map[string]string{resource.LabelZone: "north", resource.LabelOrigin: resource.OriginZone})
		z.want(settle/2, "north Unknown")
		z.proxy("zp", true, true)
		z.want(time.Second, "north Up")
		z.proxy("zp", true, false)
		z.want(settle, "north Down")
		z.proxy("zp", true, true)
		z.want(time.Second, "north Up")
		z.proxy("zp", true, false)
		z.want(closedAfter/2, "north Up") // a restart
		z.want(closedAfter, "north Down")
		for o := range z.v.Snapshot().List(kind.ZoneLink, "") {
			if l := resource.SpecOf[kind.ZoneLinkSpec](o); l.Withdrawn || l.Addresses[0].Withdrawn {
				t.Errorf("a zone withdraws itself: %+v", l)
			}
		}
	})
}

// The next who leads goes on with what was decided.
func TestLeadersChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := newZone(t)
		z.entrance("east", "10.0.0.1")
		z.entrance("west", "10.0.0.2")
		z.proxy("zp", true, true, featureZoneProbes)
		z.reports("zp", false, map[string]kind.ZoneLinkState{"east": up, "west": up})
		z.after(time.Second)
		z.reports("zp", false, map[string]kind.ZoneLinkState{"east": down, "west": up})
		z.want(time.Second, "east Down withdrawn, west Up")
		before := z.v.Snapshot().Revision()
		for range 3 {
			stop := z.lead() // beside the other one, as for a moment it happens
			z.want(time.Minute, "east Down withdrawn, west Up")
			stop()
		}
		if now := z.v.Snapshot().Revision(); now != before {
			t.Errorf("%d writes by new leaders", now-before)
		}
	})
}
