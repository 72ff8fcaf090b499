package kds

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	meshv1 "github.com/atoll-mesh/atoll/api/kuma/mesh/v1alpha1"
	systemv1 "github.com/atoll-mesh/atoll/api/kuma/system/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/auth"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/store"
	"github.com/atoll-mesh/atoll/pkg/store/memory"
	"github.com/atoll-mesh/atoll/pkg/view"
)

// eventually waits for a condition that no view tells about.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for !ok() {
		if sleep(ctx, time.Millisecond) != nil {
			t.Fatalf("waited in vain for: %s", what)
		}
	}
}

func rejectedOf(d *systemv1.SyncDirection, t resource.Type) map[string]string {
	out := map[string]string{}
	for _, r := range d.GetKinds()[string(t)].GetRejected() {
		out[r.GetName()] = r.GetReason()
	}
	return out
}

func TestOneBadResourceHoldsUpNothing(t *testing.T) {
	global := newSite(t, "").serve(nil, "g1")
	global.clusterID("one")
	good := global.policy("good", "a")
	bad := global.policy("worse", "bad") // an older version let it in
	global.secret("default", "cert", []byte("global's"))
	global.secret("default", "other", []byte("x"))
	east := newSite(t, "east")
	east.secret("default", "cert", []byte("own")) // its name is taken
	zone, _ := east.join(global.address, nil)

	east.untilHas(copyOf(good))
	east.untilHas(east.id(kind.Secret, "default", "other"))
	for _, status := range []func() *systemv1.SyncDirection{
		func() *systemv1.SyncDirection { return zone.Status("east").GetGlobalToZone() },
		func() *systemv1.SyncDirection { return global.g.Status("east").GetGlobalToZone() },
	} {
		eventually(t, "rejections", func() bool {
			return strings.Contains(rejectedOf(status(), policyType)[copyOf(bad).Name+".default"], "must not be bad") &&
				strings.Contains(rejectedOf(status(), kind.Secret)["cert.default"], "belongs to somebody else")
		})
	}
	if o := east.view.Snapshot().Get(copyOf(bad)); o != nil {
		t.Error("the bad policy was stored")
	}
	global.until("the rejection in the ZoneInsight", func(s *view.Snapshot) bool {
		o := s.Get(insightID("east"))
		return o != nil && len(rejectedOf(resource.SpecOf[systemv1.ZoneInsight](o).GetSync().GetGlobalToZone(), policyType)) == 1
	})

	// Corrected at the global; removed in the zone, after which the retry succeeds.
	global.policy("worse", "better")
	east.untilEqual(copyOf(bad), &policySpec{Value: "better"})
	east.remove(east.id(kind.Secret, "default", "cert"))
	east.untilEqual(east.id(kind.Secret, "default", "cert"), &systemv1.Secret{Data: wrapperspb.Bytes([]byte("global's"))})
	eventually(t, "no rejections", func() bool {
		d := global.g.Status("east").GetGlobalToZone()
		return len(rejectedOf(d, policyType)) == 0 && len(rejectedOf(d, kind.Secret)) == 0
	})
}

// TestStockZoneRejects is about a peer that says only that something was wrong.
func TestStockZoneRejects(t *testing.T) {
	global := newSite(t, "").serve(nil, "g1")
	good, bad := global.policy("good", "a"), global.policy("refused", "b")
	s := newStock(t, global.address, "east")
	s.ask(policyType, nil)
	name := copyOf(bad).Name + ".default"
	answer := func(resp *discovery.DeltaDiscoveryResponse) {
		req := &discovery.DeltaDiscoveryRequest{Node: &core.Node{Id: "east"}, TypeUrl: resp.TypeUrl, ResponseNonce: resp.Nonce}
		if slices.ContainsFunc(resp.Resources, func(r *discovery.Resource) bool { return r.Name == name }) {
			req.ErrorDetail = rejectionStatus(map[string]string{name: "no"})
			req.ErrorDetail.Details = nil
			req.ResourceNamesSubscribe = []string{"*"}
		}
		if err := s.stream.Send(req); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 { // both, then each by itself
		resp, err := s.stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		answer(resp)
	}
	eventually(t, "the bad one is known", func() bool {
		r := rejectedOf(global.g.Status("east").GetGlobalToZone(), policyType)
		return len(r) == 1 && strings.HasPrefix(r[name], "user error")
	})
	_ = good
	resp, err := s.stream.Recv() // tried again after a while
	if err != nil || len(resp.Resources) != 1 || resp.Resources[0].Name != name {
		t.Errorf("got %v, %v", resp, err)
	}
}

func TestNeverWipe(t *testing.T) {
	first := newSite(t, "").serve(nil, "g1")
	first.clusterID("one")
	first.write(first.id(kind.Mesh, "", "default"), &meshv1.Mesh{}, nil)
	p := first.policy("p", "a")
	east := newSite(t, "east")
	east.write(east.id(kind.Mesh, "", "own"), &meshv1.Mesh{}, nil) // from before it had a global
	zone, leave := east.join(first.address, nil)
	east.untilHas(copyOf(p))
	untilInStep(t, first.g, zone, "east")
	leave()

	empty := newSite(t, "").serve(nil, "g2")
	empty.clusterID("two")
	zone, leave = east.join(empty.address, nil)
	eventually(t, "the refusal", func() bool {
		return strings.Contains(rejectedOf(zone.Status("east").GetGlobalToZone(), policyType)[copyOf(p).Name+".default"], "deletion is refused")
	})
	// What the strange global itself sent it may take back.
	q := empty.policy("q", "b")
	east.untilHas(copyOf(q))
	empty.remove(q.ID)
	east.untilLacks(copyOf(q))
	for _, id := range []resource.ID{copyOf(p), east.id(kind.Mesh, "", "default"), east.id(kind.Mesh, "", "own")} {
		if east.view.Snapshot().Get(id) == nil {
			t.Errorf("%s was wiped", id)
		}
	}
	// Told so, the zone gives in at once.
	if err := Adopt(context.Background(), east.view, east.store); err != nil {
		t.Fatal(err)
	}
	east.untilLacks(copyOf(p))
	east.untilLacks(east.id(kind.Mesh, "", "default"))
	if east.view.Snapshot().Get(east.id(kind.Mesh, "", "own")) == nil {
		t.Error("a Mesh that the zone made was deleted")
	}
	leave()
}

func TestGlobalThatWentBackInTime(t *testing.T) {
	now := newSite(t, "").serve(nil, "g1")
	now.clusterID("one")
	for range 5 {
		now.policy("kept", "a")
	}
	p := now.policy("newer", "a")
	east := newSite(t, "east")
	zone, leave := east.join(now.address, nil)
	east.untilHas(copyOf(p))
	untilInStep(t, now.g, zone, "east")
	leave()

	backup := newSite(t, "").serve(nil, "g2")
	backup.clusterID("one")
	kept := backup.policy("kept", "a")
	zone, leave = east.join(backup.address, nil)
	eventually(t, "the refusal", func() bool {
		return strings.Contains(rejectedOf(zone.Status("east").GetGlobalToZone(), policyType)[copyOf(p).Name+".default"], "lost data")
	})
	leave()
	if east.view.Snapshot().Get(copyOf(p)) == nil {
		t.Error("the newer policy was deleted")
	}
	// The setting is the other way to agree.
	_, leave = east.join(backup.address, func(c *ZoneConfig) { c.AdoptGlobal = true })
	east.untilLacks(copyOf(p))
	east.untilHas(copyOf(kept))
	leave()
}

func TestDisabledZone(t *testing.T) {
	global := newSite(t, "").serve(nil, "g1")
	global.clusterID("one")
	east, west := newSite(t, "east"), newSite(t, "west")
	east.join(global.address, nil)
	west.join(global.address, nil)
	svc := east.write(east.id(kind.MeshService, "default", "backend"), &kind.MeshServiceSpec{}, nil)
	west.untilHas(copyOf(svc))

	enable := func(on bool) {
		global.write(global.id(kind.Zone, "", "east"), &systemv1.Zone{Enabled: wrapperspb.Bool(on)}, nil)
	}
	enable(false)
	west.untilLacks(copyOf(svc))
	p := global.policy("p", "a") // which a disabled zone still gets
	east.untilHas(copyOf(p))
	if global.view.Snapshot().Get(copyOf(svc)) == nil {
		t.Error("the global forgot the service of a disabled zone")
	}
	enable(true)
	west.untilHas(copyOf(svc))
}

func tokensOf(s *site) *auth.Tokens {
	t, err := auth.NewTokens(auth.Config{Snapshot: func() auth.Reader { return s.view.Snapshot() }})
	if err != nil {
		s.t.Fatal(err)
	}
	return t
}

func TestZoneTokens(t *testing.T) {
	s := newSite(t, "")
	s.clusterID("one")
	key, err := auth.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	s.secret("", auth.ZoneKeys().First().Name, key)
	tokens := tokensOf(s)
	issue := func(zone string, scope ...string) string {
		token, err := tokens.IssueZone(auth.ZoneClaims{Zone: zone, Scope: scope}, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	good := issue("east", "cp")
	global := s.serve(tokens, "g1")
	sync, control := dial(t, global.address)
	for name, c := range map[string]struct {
		zone, token string
		want        codes.Code
	}{
		"right":       {"east", good, codes.OK},
		"no zone":     {"", good, codes.InvalidArgument},
		"bad zone":    {"East!", good, codes.InvalidArgument},
		"no token":    {"east", "", codes.Unauthenticated},
		"garbage":     {"east", "garbage", codes.Unauthenticated},
		"other zone":  {"west", good, codes.PermissionDenied},
		"other scope": {"east", issue("east", "ingress"), codes.PermissionDenied},
	} {
		md := metadata.MD{}
		if c.zone != "" {
			md.Set("client-id", c.zone)
		}
		if c.token != "" {
			md.Set("authorization", "Bearer "+c.token)
		}
		ctx, cancel := context.WithCancel(metadata.NewOutgoingContext(context.Background(), md))
		resp, err := control.HealthCheck(ctx, &meshv1.ZoneHealthCheckRequest{})
		if status.Code(err) != c.want {
			t.Errorf("%s: health check: %v, want %s", name, err, c.want)
		}
		if err == nil && resp.GetInterval().AsDuration() <= 0 {
			t.Errorf("the interval is %v", resp.GetInterval())
		}
		down, err := sync.GlobalToZoneSync(ctx)
		if err != nil {
			t.Fatal(err)
		}
		up, err := sync.ZoneToGlobalSync(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if c.want == codes.OK {
			if _, err := up.Recv(); err != nil {
				t.Errorf("%s: ZoneToGlobalSync: %v", name, err)
			}
		} else {
			if _, err := down.Recv(); status.Code(err) != c.want {
				t.Errorf("%s: GlobalToZoneSync: %v, want %s", name, err, c.want)
			}
			if _, err := up.Recv(); status.Code(err) != c.want {
				t.Errorf("%s: ZoneToGlobalSync: %v, want %s", name, err, c.want)
			}
		}
		cancel()
	}
	if global.view.Snapshot().Get(global.id(kind.Zone, "", "west")) != nil {
		t.Error("a refused zone was registered")
	}

	// A token that is revoked ends the streams that it opened.
	east := newSite(t, "east")
	p := global.policy("p", "a")
	east.join(global.address, func(c *ZoneConfig) { c.Token = func() (string, error) { return good + "\n", nil } })
	east.untilHas(copyOf(p))
	claims, err := tokens.Zone(good)
	if err != nil {
		t.Fatal(err)
	}
	global.secret("", "zone-token-revocations", []byte(claims.ID))
	global.until("the zone is offline", func(s *view.Snapshot) bool {
		return offline(s, "east")
	})
}

// TestZoneCannotTouchOthers is about a zone that states what is not true.
func TestZoneCannotTouchOthers(t *testing.T) {
	global := newSite(t, "").serve(nil, "g1")
	mine := global.policy("p", "global's")
	west := newSite(t, "west")
	west.join(global.address, nil)
	svc := west.write(west.id(kind.MeshService, "default", "backend"), &kind.MeshServiceSpec{}, nil)
	theirs := global.untilHas(copyOf(svc))

	c, _ := dial(t, global.address)
	stream, err := c.ZoneToGlobalSync(metadata.NewOutgoingContext(context.Background(),
		metadata.Pairs("client-id", "east", "features", "hash-suffix")))
	if err != nil {
		t.Fatal(err)
	}
	asked := map[string]bool{}
	for _, typ := range typesWith(global.view.Kinds(), resource.ZoneToGlobal) {
		if global.view.Kinds().ByType(typ).Native {
			continue // a zone that is no Atoll is not asked
		}
		req, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if req.GetNode().GetId() != "east" || !slices.Equal(req.ResourceNamesSubscribe, []string{"*"}) {
			t.Errorf("asked with %v", req)
		}
		asked[req.TypeUrl] = true
	}
	if asked[string(kind.Mesh)] || !asked[string(kind.Dataplane)] || asked[string(kind.ZoneLink)] {
		t.Errorf("asked for %v", asked)
	}
	send := func(o *resource.Object, nonce string, removed ...string) *discovery.DeltaDiscoveryRequest {
		t.Helper()
		resp := &discovery.DeltaDiscoveryResponse{TypeUrl: string(o.Type), Nonce: nonce, RemovedResources: removed}
		if len(removed) == 0 {
			res, err := (&parcel{kind: o.Kind, name: o.Name, mesh: o.Mesh, labels: o.Labels, spec: o.SpecWire()}).encode()
			if err != nil {
				t.Fatal(err)
			}
			resp.Resources = []*discovery.Resource{{Name: res.Name, Version: res.Version, Resource: res.Body}}
		}
		if err := stream.Send(resp); err != nil {
			t.Fatal(err)
		}
		req, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		return req
	}
	for i, o := range []*resource.Object{theirs, mine} {
		if req := send(o, string(rune('1'+i))); !strings.HasPrefix(req.GetErrorDetail().GetMessage(), "user error") {
			t.Errorf("%s was answered %v", o.ID, req)
		}
		if req := send(o, string(rune('3'+i)), wireName(o.Name, o.Mesh)); req.GetErrorDetail() != nil {
			t.Errorf("removing %s was answered %v", o.ID, req)
		}
		if now := global.view.Snapshot().Get(o.ID); now == nil || !now.SameContent(o) {
			t.Errorf("%s is now %v", o.ID, now)
		}
	}
	// What it may write is its own, whatever the labels say.
	k := global.view.Kinds().ByType(kind.MeshService)
	forged, err := k.New(resource.Meta{ID: global.id(kind.MeshService, "default", "forged"), Labels: map[string]string{
		resource.LabelZone: "west", resource.LabelOrigin: "global",
	}}, &kind.MeshServiceSpec{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if req := send(forged, "5"); req.GetErrorDetail() != nil {
		t.Fatalf("answered %v", req)
	}
	if l := global.view.Snapshot().Get(forged.ID).Labels; l[resource.LabelZone] != "east" || l[resource.LabelOrigin] != "zone" {
		t.Errorf("stored with labels %v", l)
	}
}

func TestSubscriptions(t *testing.T) {
	s := newSite(t, "")
	global := s.serve(nil, "g1")
	east := newSite(t, "east")
	_, leave := east.join(global.address, nil)
	insight := func(snap *view.Snapshot) *systemv1.ZoneInsight {
		o := snap.Get(insightID("east"))
		if o == nil {
			return nil
		}
		return resource.SpecOf[systemv1.ZoneInsight](o)
	}
	for _, at := range []*site{global.site, east} {
		at.until("the zone is online", func(snap *view.Snapshot) bool {
			i := insight(snap)
			n := len(i.GetSubscriptions())
			return kind.ZoneOnline(i) && i.Subscriptions[n-1].GetVersion().GetKumaCp().GetKumaCpGlobalCompatible() && i.GetKdsStreams().GetZoneToGlobal() != nil
		})
	}
	i := insight(global.view.Snapshot())
	if sub := i.Subscriptions[0]; sub.Config != `{"store":{"type":"memory"}}` || sub.ZoneInstanceId != "east-1" || sub.GlobalInstanceId != "g1" || sub.AuthTokenProvided {
		t.Errorf("subscription %v", sub)
	}
	leave()
	for _, at := range []*site{global.site, east} {
		at.until("the zone is offline", func(snap *view.Snapshot) bool { return !kind.ZoneOnline(insight(snap)) })
	}
	for n := 2; n <= 12; n++ {
		_, leave = east.join(global.address, nil)
		global.until("the zone is online", func(snap *view.Snapshot) bool { return kind.ZoneOnline(insight(snap)) })
		leave()
		global.until("the zone is offline", func(snap *view.Snapshot) bool { return !kind.ZoneOnline(insight(snap)) })
	}
	if n := len(insight(global.view.Snapshot()).Subscriptions); n != keptSubscriptions {
		t.Errorf("%d subscriptions are kept", n)
	}

	// A process that died leaves one open; the next one closes it.
	global.halt()
	s.until("quiet", func(*view.Snapshot) bool { return true })
	k := s.view.Kinds().ByType(kind.ZoneInsight)
	open, err := k.New(resource.Meta{ID: insightID("east"), Labels: map[string]string{}}, &systemv1.ZoneInsight{
		Subscriptions: []*systemv1.KDSSubscription{{Id: "x", GlobalInstanceId: "g1", ConnectTime: insight(s.view.Snapshot()).Subscriptions[0].ConnectTime}},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	s.put(open)
	s.serve(nil, "g2")
	s.until("the dead one is closed", func(snap *view.Snapshot) bool { return !kind.ZoneOnline(insight(snap)) })
}

func TestLagOfAbsentZone(t *testing.T) {
	global := newSite(t, "").serve(nil, "g1")
	global.clusterID("one")
	east := newSite(t, "east")
	zone, leave := east.join(global.address, nil)
	untilInStep(t, global.g, zone, "east")
	leave()
	global.until("the zone is offline", func(s *view.Snapshot) bool { return offline(s, "east") })
	p := global.policy("p", "a")
	lag := func() *systemv1.SyncDirection { return global.g.Status("east").GetGlobalToZone() }
	eventually(t, "the lag begins", func() bool {
		return lag().GetLagSeconds() > 0 && lag().GetGlobalRevision() > lag().GetAppliedRevision()
	})
	global.until("the lag is written", func(s *view.Snapshot) bool {
		return resource.SpecOf[systemv1.ZoneInsight](s.Get(insightID("east"))).GetSync().GetGlobalToZone().GetLagSeconds() > 0
	})
	zone, _ = east.join(global.address, nil)
	east.untilHas(copyOf(p))
	untilInStep(t, global.g, zone, "east")
}

// flaky is a store that is away at times.
type flaky struct {
	store.Store
	away chan bool // holds whether it is
}

func (f *flaky) Write(ctx context.Context, ops ...store.Op) (store.Revision, error) {
	away := <-f.away
	f.away <- away
	if away {
		return 0, errors.Join(store.ErrUnavailable, errors.New("connection refused"))
	}
	return f.Store.Write(ctx, ops...)
}

func TestStoreOutage(t *testing.T) {
	global := newSite(t, "").serve(nil, "g1")
	global.clusterID("one")
	st := memory.Open()
	east := siteOn(t, "east", st)
	f := &flaky{Store: st, away: make(chan bool, 1)}
	f.away <- false
	zone, _ := east.join(global.address, func(c *ZoneConfig) { c.Store = f })
	p := global.policy("p", "a")
	east.untilHas(copyOf(p))
	<-f.away
	f.away <- true
	p = global.policy("p", "b")
	eventually(t, "the lag shows", func() bool { return zone.Status("east").GetGlobalToZone().GetLagSeconds() > 0.01 })
	<-f.away
	f.away <- false
	east.untilEqual(copyOf(p), &policySpec{Value: "b"})
	untilInStep(t, global.g, zone, "east")
}

// What a zone may not say is refused, and only that.
func TestGlobalAdmits(t *testing.T) {
	global := newSite(t, "").serve(nil, "g1")
	east := newSite(t, "east")
	east.join(global.address, nil)
	refused := east.write(east.id(policyType, "default", "refused"), &policySpec{Value: "a"}, map[string]string{"not-from": "east"})
	other := east.write(east.id(policyType, "default", "taken"), &policySpec{Value: "a"}, map[string]string{"not-from": "west"})
	global.untilHas(copyOf(other))
	if o := global.view.Snapshot().Get(copyOf(refused)); o != nil {
		t.Errorf("the global has %s", o.SpecWire())
	}
}
