package compile

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atoll-mesh/atoll/pkg/identity"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// TestSoak runs an engine for simulated hours in which something changes every
// two seconds: policies, Dataplanes, services, zones, identities, and proxies
// that come and go. Three times a simulated minute a random proxy is compiled from
// scratch and compared, as production does once. Time is virtual, so that certificates
// expire and are renewed meanwhile. Memory and goroutines must not grow.
//
// ATOLL_SOAK says how long, for example 24h.
func TestSoak(t *testing.T) {
	hours := 20 * time.Minute
	if text := os.Getenv("ATOLL_SOAK"); text != "" {
		var err error
		if hours, err = time.ParseDuration(text); err != nil {
			t.Fatalf("ATOLL_SOAK: %v", err)
		}
	}
	const every = 2 * time.Second
	synctest.Test(t, func(t *testing.T) { soak(t, int(hours/every), every) })
}

func soak(t *testing.T, changes int, every time.Duration) {
	w := newWorld(t)
	g := &generator{rng: rand.New(rand.NewPCG(5, 24)), zones: true, many: 7}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- w.e.Run(ctx) }()
	ca := w.ca("default.east.mesh.local")
	attached := map[string]*Proxy{}
	var early, most, last usage
	for n := range changes {
		g.roomy = n/100%2 == 1 // each world for a while, and what is left of the other
		g.change(w, attached, n, ca)
		time.Sleep(every)
		synctest.Wait()
		if n%10 == 0 {
			if got, err := w.e.CheckOne(ctx); err != nil || len(got.Differences) > 0 {
				t.Fatalf("after %d changes: %+v, %v", n, got, err)
			}
			w.checkHoldings()
		}
		if n%(changes/20) == 0 {
			last = used()
			if n == changes/20*5 {
				early = last
			}
			if n >= changes/20*5 {
				most.heap, most.goroutines = max(most.heap, last.heap), max(most.goroutines, last.goroutines)
			}
			t.Logf("after %d changes: %d KiB, %d goroutines", n, last.heap>>10, last.goroutines)
		}
	}
	s := w.e.Stats()
	t.Logf("%d changes, %d checks, %d certificates; heap %d KiB after a quarter, %d KiB at most, %d KiB at the end; %+v",
		changes, s.Checks, s.Certificates, early.heap>>10, most.heap>>10, last.heap>>10, s)
	if s.Mismatches+s.Bugs+s.FullLagged+s.FullRestored > 0 || s.Checks == 0 || s.Certificates == 0 || s.AudiencesFollowed == 0 {
		t.Errorf("%+v", s)
	}
	// The world is of one size, but what is in it at a moment differs.
	if limit := early.heap + early.heap/2 + 8<<20; most.heap > limit {
		t.Errorf("memory grew from %d to %d KiB", early.heap>>10, most.heap>>10)
	}
	if most.goroutines > early.goroutines+2 {
		t.Errorf("goroutines grew from %d to %d", early.goroutines, most.goroutines)
	}
	for _, p := range attached {
		p.Detach()
	}
	synctest.Wait()
	cancel()
	<-ended
	w.empty()
}

type usage struct {
	heap       uint64
	goroutines int
}

func used() usage {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return usage{m.HeapAlloc, runtime.NumGoroutine()}
}

// change does one thing.
func (g *generator) change(w *world, attached map[string]*Proxy, n int, ca identity.Pair) {
	switch k := g.rng.IntN(100); {
	case n == 0 || k == 0: // an identity comes, or its leaves live longer or shorter
		w.identify(g.pick("1h", "24h"), ca)
	case k == 1:
		w.remove(w.decode(fmt.Sprintf(meshIdentity, "1h")).ID)
	case k < 12:
		name := g.proxy()
		if p := attached[name]; p != nil {
			p.Detach()
			delete(attached, name)
		} else {
			attached[name] = w.e.Attach(g.info(name))
		}
	case k < 30:
		w.remove(w.decode(g.anything()).ID)
	default:
		var objects []*resource.Object
		for range 1 + g.rng.IntN(2) {
			objects = append(objects, w.decode(g.anything()))
		}
		w.put(objects...)
	}
}

func (g *generator) anything() string {
	if g.rng.IntN(3) > 0 {
		return g.resource()
	}
	return g.policy()
}

// policy makes one of the kinds that resource does not make.
func (g *generator) policy() string {
	n := strconv.Itoa(1 + g.rng.IntN(3))
	to := func(conf string) string {
		return "  to: [{targetRef: " + g.pick("{kind: Mesh}", "{kind: MeshService, labels: {kuma.io/display-name: "+g.service()+"}}") + ", default: " + conf + "}]\n"
	}
	rules := func(conf string) string { return "  rules: [{default: " + conf + "}]\n" }
	kinds := []struct{ kind, body string }{
		{"MeshRetry", to("{http: {numRetries: " + n + "}, tcp: {maxConnectAttempt: " + n + "}}")},
		{"MeshCircuitBreaker", to("{connectionLimits: {maxRequests: " + n + "}, outlierDetection: {detectors: {totalFailures: {consecutive: " + n + "}}}}")},
		// What is said about one service has all clients, or all endpoints, told more.
		{"MeshRetry", to("{http: {numRetries: " + n + ", hostSelection: [{predicate: OmitHostsWithTags, tags: {" + g.pick("version", "app") + ": v1}}]}}")},
		{"MeshAccessLog", to("{backends: [{type: Tcp, tcp: {address: \"192.0.2.9:9\"}}]}")},
		{"MeshLoadBalancingStrategy", to("{localityAwareness: {localZone: {affinityTags: [{key: " + g.pick("version", "app") + "}]}}}")},
		{"MeshHealthCheck", to("{interval: " + n + "s, http: {path: /h}}")},
		{"MeshAccessLog", to("{backends: [{type: File, file: {path: /dev/null, format: {type: Plain, plain: \"" + n + "\"}}}]}")},
		{"MeshLoadBalancingStrategy", to("{localityAwareness: {disabled: " + g.pick("true", "false") + "}, loadBalancer: {type: " + g.pick("RoundRobin", "LeastRequest", "Maglev") + "}}")},
		{"MeshFaultInjection", rules("{http: [{delay: {value: " + n + "s, percentage: " + n + "}}]}")},
		{"MeshRateLimit", "  targetRef: {kind: Dataplane}\n" + rules("{local: {http: {requestRate: {num: "+n+", interval: 1s}}}}")},
		{"MeshTLS", rules("{mode: " + g.pick("Strict", "Permissive") + "}")},
		{"MeshTrafficPermission", "  rules: [{default: {" + g.pick("allow", "deny", "allowWithShadowDeny") + ": [{spiffeID: {type: Prefix, value: \"spiffe://default.east.mesh.local/" + n + "\"}}]}}]\n"},
		{"MeshPassthrough", "  default: {passthroughMode: " + g.pick("All", "None", "Matched") + ", appendMatch: [{type: Domain, value: a" + n + ".example, protocol: tls, port: 443}]}\n"},
		{"MeshTrace", "  default: {sampling: {overall: " + n + "0}, backends: [{type: Zipkin, zipkin: {url: \"http://192.0.2.9:9411/api\"}}]}\n"},
		{"MeshMetric", "  default: {backends: [{type: Prometheus, prometheus: {port: 567" + n + ", path: /m}}]}\n"},
		{"MeshProxyPatch", "  default: {appendModifications: [{cluster: {operation: Patch, value: \"connectTimeout: " + n + "s\"}}]}\n"},
	}
	k := kinds[g.rng.IntN(len(kinds))]
	return fmt.Sprintf("type: %s\nmesh: %s\nname: p-%d\nspec:\n  targetRef: %s\n%s", k.kind, g.mesh(), g.rng.IntN(3), g.target(), k.body)
}
