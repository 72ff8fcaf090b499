package traffic_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/atoll-mesh/atoll/test/traffic"
)

// TestClients shows, one by one, what policies make the Envoy of a client do.
func TestClients(t *testing.T) {
	t.Parallel()
	m := traffic.Start(t)
	m.Client(t)
	for _, c := range []struct {
		name string
		run  func(*testing.T, *traffic.Mesh)
	}{
		{"MeshRetry/503", retry503},
		{"MeshRetry/only what is named", retryNamed},
		{"MeshRetry/perTryTimeout", retryPerTry},
		{"MeshRetry/connect", retryConnect},
		{"MeshRetry/tcp", retryTCP},
		{"MeshRetry/hostSelection", retryHosts},
		{"MeshRetry/rateLimitedBackOff", retryReset},
		{"MeshRetry/route", retryRoute},
		{"MeshCircuitBreaker/limits", breakerLimits},
		{"MeshCircuitBreaker/tcp", breakerTCP},
		{"MeshCircuitBreaker/outliers", breakerOutliers},
		{"MeshCircuitBreaker/failurePercentage", breakerPercentage},
		{"MeshHealthCheck/http", healthHTTP},
		{"MeshHealthCheck/tcp", healthTCP},
		{"MeshLoadBalancingStrategy/hash", balanceHash},
		{"MeshLoadBalancingStrategy/affinity", balanceAffinity},
		{"MeshTCPRoute", routeTCP},
	} {
		if !t.Run(c.name, func(t *testing.T) { c.run(t, m) }) {
			break // others would show the same
		}
	}
}

// failing answers with status so many times, then with 200.
func failing(times int64, status int) http.HandlerFunc {
	var n atomic.Int64
	return func(w http.ResponseWriter, _ *http.Request) {
		if n.Add(1) <= times {
			w.WriteHeader(status)
		}
	}
}

func retry503(t *testing.T, m *traffic.Mesh) {
	s := traffic.Serve(t, failing(3, 503))
	url := "http://" + m.Service(t, "retry503", "http", nil, s.Port) + "/"
	if got := traffic.Get(t, url); got.Status != 503 {
		t.Fatalf("without a policy: %d", got.Status)
	}
	m.Apply(t, `
type: MeshRetry
name: retry503
spec: {to: [{targetRef: {kind: MeshService, labels: {app: retry503}}, default: {http: {numRetries: 2, backOff: {baseInterval: 1ms, maxInterval: 2ms}}}}]}`)
	if got := traffic.Get(t, url); got.Status != 200 || s.Count.Load() != 4 {
		t.Errorf("with two retries: %d after %d tries", got.Status, s.Count.Load())
	}
	m.Remove(t, "MeshRetry", "retry503")
	answer := traffic.Status(503)
	s.Answer.Store(&answer)
	if got := traffic.Get(t, url); got.Status != 503 || s.Count.Load() != 5 {
		t.Errorf("after removal: %d after %d tries", got.Status, s.Count.Load())
	}
}

func retryNamed(t *testing.T, m *traffic.Mesh) {
	s := traffic.Serve(t, traffic.Status(429))
	url := "http://" + m.Service(t, "retry-named", "http", nil, s.Port) + "/"
	m.Apply(t, `
type: MeshRetry
name: retry-named
spec:
  to:
  - targetRef: {kind: MeshService, labels: {app: retry-named}}
    default:
      http: {numRetries: 1, retryOn: [5xx, "429", HttpMethodGet], retriableResponseHeaders: [{name: x-again, type: Present}], backOff: {baseInterval: 1ms}}`)
	tries := func(method string, answer http.HandlerFunc, headers ...string) int64 {
		s.Answer.Store(&answer)
		before := s.Count.Load()
		traffic.Do(t, method, url, headers...)
		return s.Count.Load() - before
	}
	again := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("x-again", "yes") })
	for _, c := range []struct {
		what string
		got  int64
		want int64
	}{
		{"a GET with 429", tries("GET", traffic.Status(429)), 2},
		{"a POST with 429", tries("POST", traffic.Status(429)), 1},
		{"a GET with 404", tries("GET", traffic.Status(404)), 1},
		{"a GET with 500", tries("GET", traffic.Status(500)), 2},
		{"a GET with 200", tries("GET", traffic.Status(200)), 1},
		{"a GET whose response has the header", tries("GET", again), 2},
	} {
		if c.got != c.want {
			t.Errorf("%s was tried %d times, want %d", c.what, c.got, c.want)
		}
	}
}

func retryPerTry(t *testing.T, m *traffic.Mesh) {
	var first atomic.Bool
	s := traffic.Serve(t, func(w http.ResponseWriter, r *http.Request) {
		if first.CompareAndSwap(false, true) {
			<-r.Context().Done()
		}
	})
	url := "http://" + m.Service(t, "per-try", "http2", nil, s.Port) + "/"
	m.Apply(t, `
type: MeshRetry
name: per-try
spec: {to: [{targetRef: {kind: MeshService, labels: {app: per-try}}, default: {http: {numRetries: 1, perTryTimeout: 100ms}}}]}`)
	if got := traffic.Get(t, url); got.Status != 200 || s.Count.Load() != 2 {
		t.Errorf("the first try hangs: %d after %d tries", got.Status, s.Count.Load())
	}
}

func retryConnect(t *testing.T, m *traffic.Mesh) {
	s := traffic.Serve(t, traffic.Status(200))
	url := "http://" + m.Service(t, "connect", "http", nil, s.Port, traffic.Dead(t)) + "/"
	m.Apply(t, `
type: MeshRetry
name: connect
spec:
  to:
  - targetRef: {kind: MeshService, labels: {app: connect}}
    default: {http: {numRetries: 3, retryOn: [ConnectFailure], backOff: {baseInterval: 1ms}, hostSelection: [{predicate: OmitPreviousHosts}]}}`)
	for range 10 {
		if got := traffic.Get(t, url); got.Status != 200 {
			t.Fatalf("one endpoint cannot be connected: %d %s", got.Status, got.Body)
		}
	}
}

func retryTCP(t *testing.T, m *traffic.Mesh) {
	at := m.Service(t, "tcp-retry", "tcp", nil, traffic.ServeTCP(t, "hello"), traffic.Dead(t))
	m.Apply(t, `
type: MeshRetry
name: tcp-retry
spec: {to: [{targetRef: {kind: MeshService, labels: {app: tcp-retry}}, default: {tcp: {maxConnectAttempt: 5}}}]}`)
	for range 10 {
		if got := traffic.Connect(t, at); got != "hello" {
			t.Fatalf("one endpoint cannot be connected: %q", got)
		}
	}
}

func retryHosts(t *testing.T, m *traffic.Mesh) {
	bad, good := traffic.Serve(t, traffic.Status(503)), traffic.Serve(t, traffic.Status(200))
	url := "http://" + m.Service(t, "hosts", "http", []string{`canary: "true"`}, bad.Port, good.Port) + "/"
	for _, selection := range []string{
		"{predicate: OmitPreviousHosts}",
		`{predicate: OmitHostsWithTags, tags: {canary: "true"}}`,
	} {
		m.Apply(t, fmt.Sprintf(`
type: MeshRetry
name: hosts
spec:
  to:
  - targetRef: {kind: MeshService, labels: {app: hosts}}
    default: {http: {numRetries: 1, retryOn: [5xx], backOff: {baseInterval: 1ms}, hostSelection: [%s], hostSelectionMaxAttempts: 10}}`, selection))
		for range 20 {
			if got := traffic.Get(t, url); got.Status != 200 {
				t.Fatalf("%s: %d", selection, got.Status)
			}
		}
	}
	if bad.Count.Load() == 0 {
		t.Error("nothing was tried at the bad endpoint first")
	}
}

func retryReset(t *testing.T, m *traffic.Mesh) {
	var first atomic.Bool
	s := traffic.Serve(t, func(w http.ResponseWriter, _ *http.Request) {
		if first.CompareAndSwap(false, true) {
			w.Header().Set("retry-after", "1")
			w.WriteHeader(429)
		}
	})
	url := "http://" + m.Service(t, "reset", "http", nil, s.Port) + "/"
	m.Apply(t, `
type: MeshRetry
name: reset
spec:
  to:
  - targetRef: {kind: MeshService, labels: {app: reset}}
    default: {http: {numRetries: 1, retryOn: ["429"], rateLimitedBackOff: {resetHeaders: [{name: retry-after, format: Seconds}]}}}`)
	start := time.Now()
	if got := traffic.Get(t, url); got.Status != 200 || time.Since(start) < time.Second {
		t.Errorf("%d after %s, though the response asked for a second", got.Status, time.Since(start))
	}
}

func retryRoute(t *testing.T, m *traffic.Mesh) {
	s := traffic.Serve(t, traffic.Status(503))
	url := "http://" + m.Service(t, "routed", "http", nil, s.Port)
	m.Apply(t, `
type: MeshHTTPRoute
name: routed
spec: {to: [{targetRef: {kind: MeshService, labels: {app: routed}}, rules: [{matches: [{path: {type: Exact, value: /pay}}], default: {}}]}]}
---
type: MeshRetry
name: routed
spec: {to: [{targetRef: {kind: MeshService, labels: {app: routed}}, default: {http: {numRetries: 2, backOff: {baseInterval: 1ms}}}}]}
---
type: MeshRetry
name: pay
spec: {to: [{targetRef: {kind: MeshHTTPRoute, labels: {kuma.io/display-name: routed}}, default: {http: {numRetries: 0}}}]}`)
	traffic.Get(t, url+"/pay")
	if n := s.Count.Load(); n != 1 {
		t.Errorf("a route without retries was tried %d times", n)
	}
	traffic.Get(t, url+"/")
	if n := s.Count.Load() - 1; n != 3 {
		t.Errorf("another request was tried %d times, want 3", n)
	}
}

func breakerLimits(t *testing.T, m *traffic.Mesh) {
	enter, leave := make(chan struct{}), make(chan struct{})
	s := traffic.Serve(t, func(http.ResponseWriter, *http.Request) { enter <- struct{}{}; <-leave })
	url := "http://" + m.Service(t, "limits", "http", nil, s.Port) + "/"
	m.Apply(t, `
type: MeshCircuitBreaker
name: limits
spec: {to: [{targetRef: {kind: MeshService, labels: {app: limits}}, default: {connectionLimits: {maxRequests: 1}}}]}`)
	var wg sync.WaitGroup
	wg.Go(func() { traffic.Get(t, url) })
	<-enter
	if got := traffic.Get(t, url); got.Status != 503 || got.Header.Get("x-envoy-overloaded") != "true" {
		t.Errorf("a second request at once: %d %v", got.Status, got.Header)
	}
	close(leave)
	wg.Wait()
	go func() { <-enter }()
	if got := traffic.Get(t, url); got.Status != 200 {
		t.Errorf("after the first: %d", got.Status)
	}
}

func breakerTCP(t *testing.T, m *traffic.Mesh) {
	at := m.Service(t, "tcp-limits", "tcp", nil, traffic.ServeTCP(t, "hello"))
	m.Apply(t, `
type: MeshCircuitBreaker
name: tcp-limits
spec: {to: [{targetRef: {kind: MeshService, labels: {app: tcp-limits}}, default: {connectionLimits: {maxConnections: 1}}}]}`)
	var first net.Conn
	traffic.Until(t, "a second connection at once is greeted", func() bool {
		if first != nil {
			_ = first.Close()
		}
		first = traffic.Hold(t, at)
		return traffic.Connect(t, at) == ""
	})
	_ = first.Close()
	traffic.Until(t, "no connection after the first was closed", func() bool { return traffic.Connect(t, at) == "hello" })
}

func breakerOutliers(t *testing.T, m *traffic.Mesh) {
	bad, good := traffic.Serve(t, traffic.Status(500)), traffic.Serve(t, traffic.Status(200))
	url := "http://" + m.Service(t, "outliers", "http", nil, bad.Port, good.Port) + "/"
	policy := `
type: MeshCircuitBreaker
name: outliers
spec:
  to:
  - targetRef: {kind: MeshService, labels: {app: outliers}}
    default:
      outlierDetection: {baseEjectionTime: 60s, interval: 100ms, maxEjectionPercent: 100, healthyPanicThreshold: 0, detectors: {%s: {consecutive: 2}}}`
	m.Apply(t, fmt.Sprintf(policy, "gatewayFailures"))
	for range 10 {
		traffic.Get(t, url)
	}
	if n := bad.Count.Load(); n < 3 {
		t.Errorf("500 is no failure of a gateway, but only %d requests arrived", n)
	}
	m.Apply(t, fmt.Sprintf(policy, "totalFailures"))
	traffic.Until(t, "an endpoint that failed twice stays", func() bool {
		before := bad.Count.Load()
		for range 10 {
			traffic.Get(t, url)
		}
		return bad.Count.Load() == before
	})
	fails := traffic.Status(500)
	good.Answer.Store(&fails)
	traffic.Until(t, "no endpoint is left, but requests arrive", func() bool { return traffic.Get(t, url).Status == 503 })
}

func breakerPercentage(t *testing.T, m *traffic.Mesh) {
	bad, good := traffic.Serve(t, traffic.Status(500)), traffic.Serve(t, traffic.Status(200))
	url := "http://" + m.Service(t, "percentage", "http", nil, bad.Port, good.Port) + "/"
	m.Apply(t, `
type: MeshCircuitBreaker
name: percentage
spec:
  to:
  - targetRef: {kind: MeshService, labels: {app: percentage}}
    default:
      outlierDetection: {baseEjectionTime: 60s, interval: 50ms, maxEjectionPercent: 100, detectors: {failurePercentage: {minimumHosts: 2, requestVolume: 3, threshold: 90}}}`)
	traffic.Until(t, "the endpoint that always fails stays", func() bool {
		before := bad.Count.Load()
		for range 20 {
			traffic.Get(t, url)
		}
		return bad.Count.Load() == before
	})
}

func healthHTTP(t *testing.T, m *traffic.Mesh) {
	var headers sync.Map
	answer := func(name string, ready int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/ready" {
				headers.Store(r.Header.Get("x-check"), true)
				w.WriteHeader(ready)
				return
			}
			_, _ = io.WriteString(w, name)
		}
	}
	a, b := traffic.Serve(t, answer("a", 204)), traffic.Serve(t, answer("b", 200))
	url := "http://" + m.Service(t, "health", "http", nil, a.Port, b.Port) + "/"
	log := filepath.Join(t.TempDir(), "health.log")
	m.Apply(t, fmt.Sprintf(`
type: MeshHealthCheck
name: health
spec:
  to:
  - targetRef: {kind: MeshService, labels: {app: health}}
    default:
      interval: 50ms
      noTrafficInterval: 50ms
      timeout: 1s
      unhealthyThreshold: 1
      healthyThreshold: 1
      failTrafficOnPanic: true
      eventLogPath: %s
      http: {path: /ready, expectedStatuses: [204], requestHeadersToAdd: {set: [{name: x-check, value: "yes"}]}}`, log))
	only := func(name string) func() bool {
		return func() bool {
			for range 10 {
				if traffic.Get(t, url).Body != name {
					return false
				}
			}
			return true
		}
	}
	traffic.Until(t, "requests arrive at the endpoint that is not ready", only("a"))
	swapA, swapB := answer("a", 500), answer("b", 204)
	b.Answer.Store(&swapB)
	a.Answer.Store(&swapA)
	traffic.Until(t, "requests do not follow readiness", only("b"))
	down := answer("b", 500)
	b.Answer.Store(&down)
	traffic.Until(t, "requests arrive though no endpoint is ready", func() bool { return traffic.Get(t, url).Status == 503 })
	if _, ok := headers.Load("yes"); !ok {
		t.Error("checks do not have the header")
	}
	if _, err := os.Stat(log); err != nil { // what is in it comes seconds later
		t.Errorf("no log of events: %v", err)
	}
}

func healthTCP(t *testing.T, m *traffic.Mesh) {
	at := m.Service(t, "tcp-health", "tcp", nil, traffic.ServeTCP(t, "hello"), traffic.ServeTCP(t, "sorry"), traffic.Dead(t))
	m.Apply(t, `
type: MeshHealthCheck
name: tcp-health
spec:
  to:
  - targetRef: {kind: MeshService, labels: {app: tcp-health}}
    default: {interval: 50ms, noTrafficInterval: 50ms, timeout: 200ms, unhealthyThreshold: 1, healthyThreshold: 1, tcp: {receive: [hello]}}
---
type: MeshCircuitBreaker
name: tcp-health
spec:
  to:
  - targetRef: {kind: MeshService, labels: {app: tcp-health}}
    default: {outlierDetection: {healthyPanicThreshold: 0, detectors: {localOriginFailures: {consecutive: 1000}}}}`)
	traffic.Until(t, "connections go to endpoints that do not greet as expected", func() bool {
		for range 10 {
			if traffic.Connect(t, at) != "hello" {
				return false
			}
		}
		return true
	})
}

func balanceHash(t *testing.T, m *traffic.Mesh) {
	var ports []int
	for _, name := range []string{"a", "b", "c"} {
		ports = append(ports, traffic.Serve(t, traffic.Named(name)).Port)
	}
	url := "http://" + m.Service(t, "hash", "http", nil, ports...) + "/"
	for _, lb := range []string{"{type: RingHash, ringHash: {minRingSize: 512}}", "{type: Maglev, maglev: {tableSize: 100}}"} {
		m.Apply(t, fmt.Sprintf(`
type: MeshLoadBalancingStrategy
name: hash
spec:
  to:
  - targetRef: {kind: MeshService, labels: {app: hash}}
    default:
      loadBalancer: %s
      hashPolicies:
      - {type: Header, header: {name: x-user}, terminal: true}
      - {type: QueryParameter, queryParameter: {name: q}, terminal: true}
      - {type: Cookie, cookie: {name: session, ttl: 1h}}`, lb))
		sticks := func(what string, get func(i int) traffic.Reply) {
			t.Helper()
			first := get(0).Body
			for range 10 {
				if got := get(0).Body; got != first {
					t.Fatalf("%s, %s: %s, then %s", lb, what, first, got)
				}
			}
			seen := map[string]bool{}
			for i := range 30 {
				seen[get(i).Body] = true
			}
			if len(seen) < 2 {
				t.Errorf("%s, %s: all values lead to the same endpoint", lb, what)
			}
		}
		sticks("a header", func(i int) traffic.Reply { return traffic.Get(t, url, "x-user", fmt.Sprint(i)) })
		sticks("a parameter", func(i int) traffic.Reply { return traffic.Get(t, fmt.Sprintf("%s?q=%d", url, i)) })
		sticks("a cookie", func(i int) traffic.Reply { return traffic.Get(t, url, "cookie", fmt.Sprintf("session=%d", i)) })
		if c := traffic.Get(t, url).Header.Get("set-cookie"); !strings.Contains(c, "session=") || !strings.Contains(c, "Max-Age=3600") {
			t.Errorf("%s: a client without the cookie gets %q", lb, c)
		}
	}
}

func balanceAffinity(t *testing.T, m *traffic.Mesh) {
	near, far := traffic.Serve(t, traffic.Status(200)), traffic.Serve(t, traffic.Status(200))
	url := "http://" + m.Service(t, "affinity", "http", []string{"rack: r1", "rack: r2"}, near.Port, far.Port) + "/"
	m.Apply(t, `
type: MeshLoadBalancingStrategy
name: affinity
spec:
  to:
  - targetRef: {kind: MeshService, labels: {app: affinity}}
    default: {localityAwareness: {localZone: {affinityTags: [{key: rack, weight: 1000000}]}}}`)
	for range 30 {
		traffic.Get(t, url)
	}
	if n := far.Count.Load(); n > 1 {
		t.Errorf("%d of 30 requests went to the other rack", n)
	}
	m.Apply(t, `
type: MeshLoadBalancingStrategy
name: affinity
spec: {to: [{targetRef: {kind: MeshService, labels: {app: affinity}}, default: {loadBalancer: {type: RoundRobin}}}]}`)
	for range 30 {
		traffic.Get(t, url)
	}
	if n := far.Count.Load(); n < 10 {
		t.Errorf("without affinity %d of 30 requests went to the other rack", n)
	}
}

func routeTCP(t *testing.T, m *traffic.Mesh) {
	at := m.Service(t, "db", "tcp", nil, traffic.ServeTCP(t, "old"))
	m.Service(t, "db-next", "tcp", nil, traffic.ServeTCP(t, "new"))
	route := func(refs string) {
		m.Apply(t, fmt.Sprintf(`
type: MeshTCPRoute
name: db
spec: {to: [{targetRef: {kind: MeshService, labels: {app: db}}, rules: [{default: {backendRefs: [%s]}}]}]}`, refs))
	}
	route("{kind: MeshService, labels: {app: db}, weight: 50}, {kind: MeshService, labels: {app: db-next}, weight: 50}")
	seen := map[string]int{}
	for range 60 {
		seen[traffic.Connect(t, at)]++
	}
	if seen["old"] < 10 || seen["new"] < 10 || seen["old"]+seen["new"] != 60 {
		t.Errorf("in halves: %v", seen)
	}
	route("{kind: MeshService, labels: {app: db-next}}")
	for range 5 {
		if got := traffic.Connect(t, at); got != "new" {
			t.Errorf("moved: %q", got)
		}
	}
	route("{kind: MeshService, labels: {app: nowhere}}")
	if got := traffic.Connect(t, at); got != "" {
		t.Errorf("nowhere: %q", got)
	}
	m.Remove(t, "MeshTCPRoute", "db")
	if got := traffic.Connect(t, at); got != "old" {
		t.Errorf("after removal: %q", got)
	}
}
