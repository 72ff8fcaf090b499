package compile

import (
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/view"
)

// checkHoldings compares what every audience holds, and how often what is shared
// is said to be used, with plans made from nothing.
func (w *world) checkHoldings() {
	w.t.Helper()
	outbounds, clusters := map[outboundKey]int{}, map[clusterKey]int{}
	for _, a := range w.e.audiences {
		p := newPlan(view.NewReader(w.e.snap), a.key.mesh, w.e.in.Site, a.shape, a.matched, &w.e.in.Settings, a.client)
		refs := map[backend]int{}
		for i := range p.outbounds {
			p.units[i] = p.build(i)
			for _, b := range p.units[i].backends {
				refs[b]++
			}
		}
		p.collectClusters()
		h := a.held
		sameKeys(w, a, "outbounds", h.outboundKeys(), p.keys)
		sameKeys(w, a, "clusters", h.clusterKeys(), p.clusterKeys)
		sameKeys(w, a, "rows", h.rowKeys(), p.rows)
		for k := range h.outboundKeys() {
			outbounds[k]++
		}
		for k := range h.clusterKeys() {
			clusters[k]++
		}
		for k := range h.rowKeys() {
			if r := w.e.rows[k]; k.side != asEgress {
				if _, uses := r.users[h]; !uses {
					w.t.Fatalf("%v does not know that it is used", k)
				}
			}
		}
		for b, c := range h.clusters {
			if c.refs != refs[b] {
				w.t.Fatalf("%v is referred to %d times, not %d", b, refs[b], c.refs)
			}
		}
		for o, held := range h.outs {
			l := a.roster.dests[o.dest.ID]
			if l == nil || !slices.Contains(l.outbounds, o) {
				w.t.Fatalf("%s is held, and not listed", o.name())
			}
			if _, looked := h.looking[o]; looked != (len(held.looked) > 0) {
				w.t.Fatalf("%s looks something up: %v", o.name(), looked)
			}
		}
	}
	sameUsers(w, "outbounds", w.e.outbounds, outbounds)
	sameUsers(w, "clusters", w.e.clusters, clusters)
	for _, r := range w.e.rows {
		for h := range r.users {
			if h.audience.held != h || !slices.Contains(slices.Collect(h.rowKeys()), r.key) {
				w.t.Fatalf("%v is used by who does not have it", r.key)
			}
		}
	}
}

func sameKeys[K comparable](w *world, a *audience, what string, got iter.Seq[K], want []K) {
	w.t.Helper()
	has := map[K]int{}
	for k := range got {
		has[k]++
	}
	for _, k := range want {
		has[k]--
	}
	for k, n := range has {
		if n != 0 {
			w.t.Fatalf("%s of an audience of %d at revision %d, %d too many (whole: %v): %+v", what, len(a.proxies), w.rev, n, a.held.whole, k)
		}
	}
}

func sameUsers[K comparable, T any](w *world, what string, has map[K]*shared[T], want map[K]int) {
	w.t.Helper()
	got := map[K]int{}
	for k, s := range has {
		got[k] = s.users
	}
	if !maps.Equal(got, want) {
		w.t.Fatalf("users of %s: %v, want %v", what, got, want)
	}
}

// TestModelOfParts is TestModel in a world where most proxies reach everything and
// services seldom claim the same, so that audiences follow what changes.
func TestModelOfParts(t *testing.T) {
	seeds, steps := 12, 150
	if testing.Short() {
		seeds, steps = 6, 80
	}
	var followed, all atomic.Uint64
	t.Run("seeds", func(t *testing.T) {
		for seed := range uint64(seeds) {
			t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
				t.Parallel()
				s := playModel(t, &generator{rng: rand.New(rand.NewPCG(seed, 13)), roomy: true, zones: seed%2 == 0, secure: seed%3 == 0}, steps)
				followed.Add(s.AudiencesFollowed)
				all.Add(s.AudiencesCompiled)
			})
		}
	})
	t.Logf("%d of %d plans were parts", followed.Load(), all.Load())
	if followed.Load() < all.Load()/10 {
		t.Errorf("%d of %d plans were parts: this shows little about them", followed.Load(), all.Load())
	}
}

// Each change leaves what most outbounds say as it is, but not what identifies
// them, or the other way round; whoever follows only what seems to be concerned
// ends with something else than who begins anew. checkHoldings tells.
func TestPartsOfEverything(t *testing.T) {
	w := newWorld(t)
	docs := meshService("a", 1) + "\n---\n" + meshService("b", 2) + "\n---\n" + workload("a-0", "a, kuma.io/workload: a", 1, everything)
	w.apply(docs)
	i := dataplane("a-0")
	i.TransparentProxy = &TransparentProxy{InboundPort: 15006, OutboundPort: 15001, IPv4Only: true}
	w.attach(i)
	step := func(what string, follows bool, change func()) {
		t.Helper()
		before := w.e.Stats()
		change()
		w.e.step()
		w.check()
		after := w.e.Stats()
		if after.AudiencesCompiled != before.AudiencesCompiled+1 {
			t.Fatalf("%s: %d audiences were compiled", what, after.AudiencesCompiled-before.AudiencesCompiled)
		}
		if got := after.AudiencesFollowed > before.AudiencesFollowed; got != follows {
			t.Fatalf("%s: the audience followed: %v", what, got)
		}
	}
	on := func(kind, name, service, conf string) func() {
		return func() {
			w.apply(fmt.Sprintf("type: %s\nmesh: default\nname: %s\nspec: {to: [{targetRef: {kind: MeshService, labels: {kuma.io/display-name: %s}}, default: %s}]}", kind, name, service, conf))
		}
	}
	step("a policy on one service", true, on("MeshTimeout", "t", "a", "{connectionTimeout: 3s}"))
	step("the same otherwise", true, on("MeshTimeout", "t", "a", "{connectionTimeout: 4s}"))
	step("on another", true, on("MeshTimeout", "t", "b", "{connectionTimeout: 4s}"))
	step("labels of clients matter from now on", false, on("MeshLoadBalancingStrategy", "l", "a", "{localityAwareness: {localZone: {affinityTags: [{key: app}]}}}"))
	step("logs on one, when there were none", false, on("MeshAccessLog", "log", "a", "{backends: [{type: File, file: {path: /dev/null}}]}"))
	step("logs on another, too", true, on("MeshAccessLog", "log-b", "b", "{backends: [{type: File, file: {path: /dev/null}}]}"))
	step("labels of endpoints matter", false, on("MeshRetry", "r", "b", "{http: {hostSelection: [{predicate: OmitHostsWithTags, tags: {app: a}}]}}"))
	step("another service", true, func() { w.apply(meshService("c", 3)) })
	step("with the address of another", false, func() { w.apply(meshService("c", 2)) })
	step("and no longer", false, func() { w.apply(meshService("c", 4)) })
	step("it is gone", true, func() { w.remove(w.decode(meshService("c", 4)).ID) })
	step("a service and a policy at once", true, func() {
		w.apply(meshService("c", 3))
		on("MeshTimeout", "t", "c", "{connectionTimeout: 5s}")()
	})
	step("a policy of all", false, func() {
		w.apply("type: MeshTimeout\nmesh: default\nname: all\nspec: {to: [{targetRef: {kind: Mesh}, default: {connectionTimeout: 6s}}]}")
	})
	step("an identity", false, func() { w.identify("1h", w.ca("default.east.mesh.local")) })
	step("a policy on one service with an identity", true, on("MeshTimeout", "t", "a", "{connectionTimeout: 7s}"))
}

// Proxies of an audience of which a policy selects some: those have a copy, and go
// on by themselves.
func TestPartsOfAudienceThatIsDivided(t *testing.T) {
	w := newWorld(t)
	docs := meshService("a", 1) + "\n---\n" + meshService("b", 2)
	for i := range 3 {
		docs += "\n---\n" + workload(fmt.Sprintf("a-%d", i), "a", i+1, everything)
	}
	w.apply(docs)
	for i := range 3 {
		i := dataplane(fmt.Sprintf("a-%d", i))
		i.TransparentProxy = &TransparentProxy{InboundPort: 15006, OutboundPort: 15001, IPv4Only: true}
		w.attach(i)
	}
	timeout := func(proxy, seconds int) {
		w.apply(fmt.Sprintf("type: MeshTimeout\nmesh: default\nname: t-%d\nspec: {targetRef: {kind: Dataplane, labels: {kuma.io/display-name: a-%d}}, to: [{targetRef: {kind: MeshService, labels: {kuma.io/display-name: a}}, default: {connectionTimeout: %ds}}]}", proxy, proxy, seconds))
	}
	for n, c := range []struct {
		change    func()
		audiences int
	}{
		{func() { timeout(0, 3) }, 2},
		{func() { timeout(1, 4) }, 3},
		{func() { timeout(0, 5); timeout(2, 6); w.apply(meshService("c", 3)) }, 3}, // one is not there any more
		{func() { w.remove(resource.ID{Type: "MeshTimeout", Mesh: "default", Name: "t-0"}) }, 3},
		{func() { timeout(0, 7); w.apply(meshService("b", 4)) }, 3},
		{func() {
			for i := range 3 {
				w.remove(resource.ID{Type: "MeshTimeout", Mesh: "default", Name: fmt.Sprintf("t-%d", i)})
			}
		}, 1},
	} {
		before := w.e.Stats()
		c.change()
		w.e.step()
		w.check()
		after := w.e.Stats()
		if len(w.e.audiences) != c.audiences {
			t.Fatalf("step %d: %d audiences", n, len(w.e.audiences))
		}
		if compiled := after.AudiencesCompiled - before.AudiencesCompiled; compiled == 0 || after.AudiencesFollowed-before.AudiencesFollowed != compiled {
			t.Fatalf("step %d: %d of %d audiences followed", n, after.AudiencesFollowed-before.AudiencesFollowed, compiled)
		}
	}
}
