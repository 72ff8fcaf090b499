package compile

import (
	"context"
	"fmt"
	"iter"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/atoll-mesh/atoll/pkg/ir"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/policy"
	"github.com/atoll-mesh/atoll/pkg/policy/all"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/store"
	"github.com/atoll-mesh/atoll/pkg/view"
	"github.com/atoll-mesh/atoll/pkg/xds"
)

func meshService(name string, vip int) string {
	return fmt.Sprintf("type: MeshService\nmesh: default\nname: %s\nspec:\n  selector: {dataplaneLabels: {matchLabels: {app: %s}}}\n"+
		"  ports: [{port: 80, name: http, targetPort: 8080, appProtocol: http}]\nstatus: {vips: [{ip: 241.0.0.%d}]}", name, name, vip)
}

func workload(name, app string, host int, more string) string {
	return fmt.Sprintf("type: Dataplane\nmesh: default\nname: %s\nlabels: {app: %s}\nnetworking:\n  address: 192.0.2.%d\n"+
		"  inbound: [{port: 8080, name: main, protocol: http}]\n%s", name, app, host, more)
}

const everything = "  transparentProxying: {redirectPortInbound: 15006, redirectPortOutbound: 15001}\n"

func onlyTo(service string) string {
	return "  outbound: [{port: 10080, backendRef: {kind: MeshService, name: " + service + "}}]\n"
}

// small is a world of two services, two proxies that reach both, and one that
// reaches only a.
func small(t *testing.T) (w *world, a1, b1, client *Proxy) {
	w = newWorld(t)
	w.apply(meshService("a", 1) + "\n---\n" + meshService("b", 2) + "\n---\n" +
		workload("a-1", "a", 1, everything) + "\n---\n" + workload("b-1", "b", 2, everything) + "\n---\n" +
		workload("client", "client", 3, onlyTo("a")))
	a1, b1, client = w.attach(dataplane("a-1")), w.attach(dataplane("b-1")), w.attach(dataplane("client"))
	w.check()
	drain(a1, b1, client)
	return w, a1, b1, client
}

func drain(proxies ...*Proxy) {
	for _, p := range proxies {
		select {
		case <-p.changed:
		default:
		}
	}
}

// woken reports which proxies were told that something changed, by name.
func woken(proxies ...*Proxy) string {
	out := ""
	for _, p := range proxies {
		select {
		case <-p.changed:
			out += p.info.ID.Name + " "
		default:
		}
	}
	return out
}

// work returns what was compiled since the last call.
func (w *world) work(last *Stats) Stats {
	now := w.e.Stats()
	d := Stats{
		PoliciesIndexed: now.PoliciesIndexed - last.PoliciesIndexed, Matches: now.Matches - last.Matches,
		OwnCompiled: now.OwnCompiled - last.OwnCompiled, AudiencesCompiled: now.AudiencesCompiled - last.AudiencesCompiled,
		OutboundsCompiled: now.OutboundsCompiled - last.OutboundsCompiled, ClustersCompiled: now.ClustersCompiled - last.ClustersCompiled,
		EndpointsCompiled: now.EndpointsCompiled - last.EndpointsCompiled, Published: now.Published - last.Published,
	}
	*last = now
	return d
}

// TestProportionalWork states for each kind of change what is compiled for it
// and who is told.
func TestProportionalWork(t *testing.T) {
	w, a1, b1, client := small(t)
	if n := w.e.Stats().Audiences; n != 2 {
		t.Fatalf("%d audiences, want 2: one of a-1 and b-1, one of the client", n)
	}
	last := w.e.Stats()
	timeout := func(to string) string {
		return "type: MeshTimeout\nmesh: default\nname: t\nspec: {to: [{targetRef: " + to + ", default: {connectionTimeout: 3s}}]}"
	}
	for _, c := range []struct {
		what string
		do   func()
		want Stats
		told string
	}{
		{
			what: "nothing that concerns them",
			do:   func() { w.apply("type: Mesh\nname: other") },
		},
		{
			what: "the same again",
			do:   func() { w.apply(workload("a-1", "a", 1, everything)) },
		},
		{
			what: "an endpoint that one audience reaches",
			do:   func() { w.apply(workload("b-2", "b", 4, everything)) },
			want: Stats{EndpointsCompiled: 1, Published: 2},
			told: "a-1 b-1 ",
		},
		{
			what: "an endpoint that both reach",
			do:   func() { w.apply(workload("a-2", "a", 5, everything)) },
			want: Stats{EndpointsCompiled: 1, Published: 3},
			told: "a-1 b-1 client ",
		},
		{
			what: "a service that nobody reaches by name, but all who reach everything",
			do:   func() { w.apply(meshService("c", 3)) },
			// The client looked its backend up by name among all services of the
			// mesh: it is planned again, and found unchanged.
			want: Stats{AudiencesCompiled: 2, OutboundsCompiled: 1, ClustersCompiled: 1, EndpointsCompiled: 1, Published: 2},
			told: "a-1 b-1 ",
		},
		{
			what: "a policy on the service that one audience reaches",
			do:   func() { w.apply(timeout("{kind: MeshService, labels: {kuma.io/display-name: b}}")) },
			want: Stats{PoliciesIndexed: 1, Matches: 3, AudiencesCompiled: 2, OutboundsCompiled: 1, ClustersCompiled: 1, Published: 2},
			told: "a-1 b-1 ",
		},
		{
			what: "the policy on another service",
			do:   func() { w.apply(timeout("{kind: MeshService, labels: {kuma.io/display-name: c}}")) },
			want: Stats{PoliciesIndexed: 1, Matches: 3, AudiencesCompiled: 2, OutboundsCompiled: 2, ClustersCompiled: 2, Published: 2},
			told: "a-1 b-1 ",
		},
		{
			what: "a policy for one proxy's inbounds",
			do: func() {
				w.apply("type: MeshTimeout\nmesh: default\nname: in\nspec: {targetRef: {kind: Dataplane, labels: {app: b}}, rules: [{default: {connectionTimeout: 4s}}]}")
			},
			want: Stats{PoliciesIndexed: 1, Matches: 3, OwnCompiled: 1, Published: 1},
			told: "b-1 ",
		},
		{
			what: "a proxy's own inbound",
			do: func() {
				w.apply("type: Dataplane\nmesh: default\nname: client\nlabels: {app: client}\nnetworking:\n  address: 192.0.2.3\n  inbound: [{port: 8081, name: main}]\n" + onlyTo("a"))
			},
			want: Stats{Matches: 1, OwnCompiled: 1, Published: 1},
			told: "client ",
		},
	} {
		c.do()
		w.e.step()
		w.check()
		if got := w.work(&last); got != c.want {
			t.Errorf("%s:\ncompiled %+v\nwant     %+v", c.what, got, c.want)
		}
		if got := woken(a1, b1, client); got != c.told {
			t.Errorf("%s: told %q, want %q", c.what, got, c.told)
		}
	}
}

// Resources of a destination that two audiences reach in the same way are the
// same in memory, and those that did not change stay so.
func TestSharedBytes(t *testing.T) {
	w, a1, b1, _ := small(t)
	w.apply("type: MeshTimeout\nmesh: default\nname: t\nspec: {targetRef: {kind: Dataplane, labels: {app: a}}, to: [{targetRef: {kind: MeshService, labels: {kuma.io/display-name: b}}, default: {connectionTimeout: 3s}}]}")
	w.e.step()
	w.check()
	if a1.audience == b1.audience {
		t.Fatal("the policy did not part the audiences")
	}
	const a, b = "kri_msvc_default_east__a_http", "kri_msvc_default_east__b_http"
	for _, typ := range []xds.Type{xds.Clusters, xds.Endpoints, xds.Listeners, xds.Routes} {
		if a1.Set().Source(typ).Get(a) != b1.Set().Source(typ).Get(a) {
			t.Errorf("%s %s is in memory twice", typ, a)
		}
	}
	if a1.Set().Source(xds.Clusters).Get(b) == b1.Set().Source(xds.Clusters).Get(b) {
		t.Errorf("the policy did not change the cluster %s", b)
	}
}

// A proxy is served nothing before its Dataplane exists, and keeps what it has
// after the Dataplane is gone.
func TestComingAndGoing(t *testing.T) {
	w := newWorld(t)
	p := w.attach(dataplane("late"))
	if p.Set() != nil {
		t.Fatal("served before the Dataplane is there")
	}
	w.apply(workload("late", "a", 1, ""))
	w.e.step()
	if p.Set() == nil || woken(p) == "" {
		t.Fatal("not served when the Dataplane came")
	}
	if got := p.Set().Revision; got != uint64(w.rev) {
		t.Errorf("set of revision %d, want %d", got, w.rev)
	}
	set := p.Set()
	w.remove(p.info.ID)
	w.e.step()
	if p.Set() != set {
		t.Error("lost its configuration with its Dataplane")
	}
	p.Detach()
	w.e.step()
	w.empty()
}

// What hits a bug stays as it was; everything else moves on, and the bug is
// counted.
func TestBugHurtsOnlyItself(t *testing.T) {
	broken := ""
	bomb := policy.Define(resource.Names{Type: "Bomb", Short: "bomb", Plural: "bombs", Single: "bomb"},
		policy.Hooks[bombSpec, bombConf]{
			Bodies:  func(*bombSpec) policy.Bodies[bombConf] { return policy.Bodies[bombConf]{} },
			Always:  true,
			Cluster: func(_ bombConf, d policy.Dest, _ *ir.Cluster) { explode(broken, d.KRI.Name) },
		})
	w := newWorld(t)
	w.e = New(Config{View: w.view, Policies: append(all.Policies(), bomb), Log: slog.New(slog.DiscardHandler)})
	w.apply(meshService("a", 1) + "\n---\n" + meshService("b", 2) + "\n---\n" + workload("a-1", "a", 1, everything))
	p := w.attach(dataplane("a-1"))
	const a, b = "kri_msvc_default_east__a_http", "kri_msvc_default_east__b_http"
	oldA, _ := served(t, p, xds.Clusters, a)
	oldB, _ := served(t, p, xds.Clusters, b)

	broken = "a"
	w.apply("type: MeshTimeout\nmesh: default\nname: t\nspec: {to: [{targetRef: {kind: Mesh}, default: {connectionTimeout: 3s}}]}")
	w.e.step()
	if v, _ := served(t, p, xds.Clusters, a); v != oldA {
		t.Error("the cluster that cannot be compiled changed")
	}
	if v, _ := served(t, p, xds.Clusters, b); v == oldB {
		t.Error("the other cluster did not change")
	}
	if w.e.Stats().Bugs == 0 || len(p.Warnings()) == 0 {
		t.Errorf("nobody knows: %+v, %v", w.e.Stats(), p.Warnings())
	}

	broken = ""
	w.apply("type: MeshTimeout\nmesh: default\nname: t\nspec: {to: [{targetRef: {kind: Mesh}, default: {connectionTimeout: 4s}}]}")
	w.e.step()
	if v, _ := served(t, p, xds.Clusters, a); v == oldA {
		t.Error("the cluster did not recover")
	}
	if len(p.Warnings()) != 0 {
		t.Errorf("still warned of: %v", p.Warnings())
	}
}

// A bug of the engine itself costs a recompilation and nothing else.
func TestEngineStartsOver(t *testing.T) {
	w, a1, b1, client := small(t)
	w.e.log = slog.New(slog.DiscardHandler)
	w.e.rows, w.e.owned = nil, nil // writing to them panics
	w.apply(meshService("c", 3) + "\n---\n" + workload("a-1", "a", 9, everything))
	w.e.safely()
	if n := w.e.Stats().Bugs; n != 1 {
		t.Errorf("%d bugs counted", n)
	}
	w.e.bugs.Store(0)
	w.check()
	if got := woken(a1, b1, client); got != "a-1 b-1 client " {
		t.Errorf("told %q, want all, since a-1 moved", got)
	}
	for _, p := range []*Proxy{a1, b1, client} {
		p.Detach()
	}
	w.e.safely()
	w.empty()
}

type (
	bombSpec struct{}
	bombConf struct{}
)

func explode(broken, name string) {
	if broken == name {
		panic("boom")
	}
}

// A view that was built anew says nothing about what changed: everything is
// compiled again, and only differences are told.
func TestStoreRestored(t *testing.T) {
	w, a1, b1, client := small(t)
	st := &restored{rev: 1}
	for _, doc := range []string{
		meshService("a", 1), meshService("b", 9), workload("a-1", "a", 1, everything),
		workload("b-1", "b", 2, everything), workload("client", "client", 3, onlyTo("a")),
	} {
		st.records = append(st.records, *w.record(w.decode(doc)))
	}
	w.rev++
	w.view.Commit([]store.Commit{{Revision: w.rev, Time: epoch}})
	w.e.step()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	sub := w.view.Subscribe()
	wg.Go(func() { _ = view.Follow(ctx, st, w.view) })
	for w.view.Snapshot().Revision() != st.rev {
		<-sub.C()
	}
	sub.Close()
	cancel()
	wg.Wait()
	w.rev = st.rev
	w.e.step()
	w.check()
	if s := w.e.Stats(); s.FullRestored != 1 {
		t.Errorf("full recompiles: %+v", s)
	}
	if got := woken(a1, b1, client); got != "a-1 b-1 " {
		t.Errorf("told %q, want those that reach b, which moved", got)
	}
}

// restored is a store that was replaced by an older copy.
type restored struct {
	store.Store
	rev     store.Revision
	records []store.Record
}

func (s *restored) Doorbell(context.Context) <-chan struct{} { return nil }

func (s *restored) Read(_ context.Context, after store.Revision, _ int) (store.Batch, error) {
	return store.Batch{Head: s.rev}, nil
}

func (s *restored) Snapshot(context.Context) (iter.Seq2[store.Record, error], store.Revision, error) {
	return func(yield func(store.Record, error) bool) {
		for _, r := range s.records {
			if !yield(r, nil) {
				return
			}
		}
	}, s.rev, nil
}

// TestConcurrently lets proxies come and go while the view moves and results are
// read and checked, for the race detector.
func TestConcurrently(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var running, clients sync.WaitGroup
	runCtx, stop := context.WithCancel(ctx)
	running.Go(func() { _ = w.e.Run(runCtx) })
	w.apply(meshService("a", 1) + "\n---\n" + meshService("b", 2))
	for i := range 20 {
		w.apply(workload(fmt.Sprintf("p-%d", i), "a", i+1, everything))
		clients.Go(func() {
			for range 20 {
				p := w.e.Attach(dataplane(fmt.Sprintf("p-%d", i)))
				for p.Set() == nil {
					<-p.Changed()
				}
				if p.Set().Source(xds.Clusters).Get("kri_msvc_default_east__a_http") == nil {
					t.Error("served without a cluster")
				}
				_ = p.Warnings()
				p.Detach()
			}
		})
	}
	last := w.e.Attach(dataplane("p-0"))
	for i := range 50 {
		w.apply(workload("p-0", "a", 100+i, everything) + "\n---\n" +
			fmt.Sprintf("type: MeshTimeout\nmesh: default\nname: t\nspec: {to: [{targetRef: {kind: Mesh}, default: {connectionTimeout: %ds}}]}", i+1))
		if c, err := w.e.CheckOne(ctx); err != nil || len(c.Differences) > 0 {
			t.Errorf("check: %+v, %v", c, err)
		}
	}
	clients.Wait()
	if err := w.e.Wait(ctx, w.rev); err != nil {
		t.Fatal(err)
	}
	if got := last.Set().Revision; got != uint64(w.rev) {
		t.Errorf("set of revision %d, want %d", got, w.rev)
	}
	if c, err := w.e.CheckOne(ctx); err != nil || c.Proxy.Type != kind.Dataplane {
		t.Errorf("check: %+v, %v", c, err)
	}
	stop()
	running.Wait()
	if s := w.e.Stats(); s.Proxies != 1 || s.Mismatches != 0 || s.Bugs != 0 || s.Checks == 0 {
		t.Errorf("%+v", s)
	}
}
