package traffic_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"

	"github.com/atoll-mesh/atoll/test/traffic"
)

// TestHealthChecks shows how endpoints are asked and what counts as healthy.
func TestHealthChecks(t *testing.T) {
	t.Parallel()
	m := traffic.Start(t)
	m.Client(t)
	h := &health{Mesh: m}
	t.Run("intervals", h.intervals)
	t.Run("jitter at first", h.initialJitter)
	t.Run("connections", h.connections)
	t.Run("thresholds", h.thresholds)
	t.Run("headers", h.headers)
	t.Run("log", h.log)
	t.Run("protocols", h.protocols)
	t.Run("tcp", h.tcp)
	t.Run("grpc", h.grpc)
	t.Run("panic", h.panic)
}

type health struct{ *traffic.Mesh }

// probes notes requests for /probe.
type probes struct {
	*traffic.Server
	mu     sync.Mutex
	seen   []time.Time
	from   []string
	header http.Header
	host   string
	status int
}

func probed(t *testing.T) *probes {
	p := &probes{status: 200}
	p.Server = traffic.Serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/probe" {
			return
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		p.seen, p.from, p.header, p.host = append(p.seen, time.Now()), append(p.from, r.RemoteAddr), r.Header, r.Host
		w.WriteHeader(p.status)
	})
	return p
}

// first returns what was noted once there are n probes after now.
func (p *probes) first(t *testing.T, n int) (seen []time.Time, from []string, header http.Header) {
	t.Helper()
	p.mu.Lock()
	p.seen, p.from = nil, nil
	p.mu.Unlock()
	traffic.Until(t, "checks do not come", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		seen, from, header = slices.Clone(p.seen), slices.Clone(p.from), p.header
		return len(seen) >= n
	})
	return seen, from, header
}

func (h *health) apply(t *testing.T, app, conf string) {
	t.Helper()
	h.Apply(t, fmt.Sprintf("type: MeshHealthCheck\nname: %s\nspec: {to: [{targetRef: {kind: MeshService, labels: {app: %[1]s}}, default: {%s}}]}", app, conf))
}

// intervals: the mean time between checks is at least what is said; a machine
// that does much else makes it longer.
func (h *health) intervals(t *testing.T) {
	p := probed(t)
	at := "http://" + h.Service(t, "intervals", "http", nil, p.Port)
	for _, c := range []struct {
		conf string
		mean time.Duration
	}{
		{"interval: 30ms, noTrafficInterval: 30ms", 30 * time.Millisecond},
		{"interval: 30ms, noTrafficInterval: 120ms", 120 * time.Millisecond},
		{"interval: 30ms, noTrafficInterval: 30ms, intervalJitter: 200ms", 60 * time.Millisecond},      // 130 on average
		{"interval: 80ms, noTrafficInterval: 80ms, intervalJitterPercent: 100", 90 * time.Millisecond}, // 120 on average
	} {
		h.apply(t, "intervals", c.conf+", timeout: 1s, http: {path: /probe}")
		seen, _, _ := p.first(t, 9)
		if mean := seen[len(seen)-1].Sub(seen[0]) / time.Duration(len(seen)-1); mean < c.mean*95/100 {
			t.Errorf("%s: a check every %v, want at least %v", c.conf, mean, c.mean)
		}
	}
	// With traffic the interval is the short one.
	traffic.Get(t, at)
	h.apply(t, "intervals", "interval: 20ms, noTrafficInterval: 1h, timeout: 1s, http: {path: /probe}")
	traffic.Get(t, at)
	h.apply(t, "intervals", "interval: 20ms, noTrafficInterval: 50ms, timeout: 1s, http: {path: /probe}")
	p.first(t, 2)
}

// initialJitter: endpoints are first asked at different times.
func (h *health) initialJitter(t *testing.T) {
	var apps []*probes
	var ports []int
	for range 6 {
		apps = append(apps, probed(t))
		ports = append(ports, apps[len(apps)-1].Port)
	}
	h.Service(t, "jitter", "http", nil, ports...)
	h.apply(t, "jitter", "initialJitter: 400ms, interval: 1h, timeout: 1s, http: {path: /probe}")
	var first []time.Time
	traffic.Until(t, "not all are asked", func() bool {
		first = nil
		for _, a := range apps {
			a.mu.Lock()
			if len(a.seen) > 0 {
				first = append(first, a.seen[0])
			}
			a.mu.Unlock()
		}
		return len(first) == len(apps)
	})
	slices.SortFunc(first, time.Time.Compare)
	if spread := first[len(first)-1].Sub(first[0]); spread < 40*time.Millisecond { // one in a hundred thousand
		t.Errorf("all are asked within %v", spread)
	}
}

func (h *health) connections(t *testing.T) {
	p := probed(t)
	h.Service(t, "reuse", "http", nil, p.Port)
	for _, c := range []struct {
		reuse string
		same  bool
	}{{"true", true}, {"false", false}} {
		h.apply(t, "reuse", "reuseConnection: "+c.reuse+", interval: 20ms, noTrafficInterval: 20ms, timeout: 1s, http: {path: /probe}")
		_, from, _ := p.first(t, 6)
		if same := from[4] == from[5]; same != c.same {
			t.Errorf("reuseConnection %s: checks come from %v", c.reuse, from)
		}
	}
}

// thresholds: so many checks must fail, and so many succeed.
func (h *health) thresholds(t *testing.T) {
	p := probed(t)
	at := "http://" + h.Service(t, "thresholds", "http", nil, p.Port)
	h.apply(t, "thresholds", "interval: 20ms, noTrafficInterval: 20ms, timeout: 1s, unhealthyThreshold: 3, healthyThreshold: 4, failTrafficOnPanic: true, http: {path: /probe, expectedStatuses: [200, 204]}")
	turn := func(status int, want int) (checks int) {
		p.mu.Lock()
		p.status, p.seen = status, nil
		p.mu.Unlock()
		traffic.Until(t, fmt.Sprintf("with %d it is not %d", status, want), func() bool { return traffic.Get(t, at).Status == want })
		p.mu.Lock()
		defer p.mu.Unlock()
		return len(p.seen)
	}
	turn(204, 200)
	// Any 5xx answer of a check counts; anything else unexpected is a failure at once.
	if n := turn(429, 503); n < 1 {
		t.Errorf("unhealthy after %d checks", n)
	}
	if n := turn(200, 200); n < 4 {
		t.Errorf("healthy after %d checks, want 4", n)
	}
	p.mu.Lock()
	p.status, p.seen = -1, nil
	p.mu.Unlock()
	var slow http.HandlerFunc = func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/probe" {
			p.mu.Lock()
			p.seen = append(p.seen, time.Now())
			p.mu.Unlock()
			wait(r, time.Minute)
		}
	}
	p.Answer.Store(&slow)
	h.apply(t, "thresholds", "interval: 20ms, noTrafficInterval: 20ms, timeout: 50ms, unhealthyThreshold: 3, failTrafficOnPanic: true, http: {path: /probe}")
	traffic.Until(t, "checks that take too long are no failures", func() bool { return traffic.Get(t, at).Status == 503 })
}

func (h *health) headers(t *testing.T) {
	p := probed(t)
	h.Service(t, "headers", "http", nil, p.Port)
	h.apply(t, "headers", "interval: 20ms, noTrafficInterval: 20ms, timeout: 1s, http: {path: /probe, requestHeadersToAdd: {set: [{name: user-agent, value: 'me, myself'}, {name: host, value: probed.test}], add: [{name: x-check, value: one}, {name: x-check, value: two}]}}")
	_, _, header := p.first(t, 1)
	if got := header.Values("x-check"); !slices.Equal(got, []string{"one", "two"}) && !slices.Equal(got, []string{"one,two"}) {
		t.Errorf("added: %q", got)
	}
	if got := header.Values("user-agent"); len(got) != 1 || got[0] != "me, myself" {
		t.Errorf("set: %q", got)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.host != "probed.test" {
		t.Errorf("host: %q", p.host)
	}
}

// log: failures after the first are logged only if asked for.
func (h *health) log(t *testing.T) {
	p := probed(t)
	h.Service(t, "log", "http", nil, p.Port)
	p.status = 500
	lines := func(conf string) (failures, changes int) {
		file := filepath.Join(t.TempDir(), "health.log")
		h.apply(t, "log", conf+", eventLogPath: "+file+", interval: 20ms, noTrafficInterval: 20ms, timeout: 1s, unhealthyThreshold: 1, http: {path: /probe}")
		p.first(t, 10)
		traffic.Until(t, "nothing is logged", func() bool {
			b, err := os.ReadFile(file)
			failures, changes = strings.Count(string(b), "health_check_failure_event"), strings.Count(string(b), "eject_unhealthy_event")
			return err == nil && failures > 0
		})
		return failures, changes
	}
	if f, _ := lines("alwaysLogHealthCheckFailures: false"); f != 1 {
		t.Errorf("%d failures are logged, want the first", f)
	}
	if f, _ := lines("alwaysLogHealthCheckFailures: true"); f < 5 {
		t.Errorf("%d failures are logged, want all", f)
	}
}

// protocols: what is disabled gives way to TCP.
func (h *health) protocols(t *testing.T) {
	p := probed(t)
	h.Service(t, "switched", "http", nil, p.Port)
	rest := ", interval: 20ms, noTrafficInterval: 20ms, timeout: 1s"
	h.apply(t, "switched", "http: {disabled: false, path: /probe}, tcp: {disabled: false}"+rest)
	p.first(t, 2)
	for _, conf := range []string{"http: {disabled: true, path: /probe}, tcp: {}", "http: {disabled: true, path: /probe}, tcp: {disabled: true}"} {
		h.apply(t, "switched", conf+rest)
		p.mu.Lock()
		p.seen = nil
		p.mu.Unlock()
		time.Sleep(100 * time.Millisecond) // five intervals
		p.mu.Lock()
		if len(p.seen) > 1 { // one may have been under way
			t.Errorf("%s: %d checks by HTTP", conf, len(p.seen))
		}
		p.mu.Unlock()
	}
}

// tcp: what is sent, and what must come back.
func (h *health) tcp(t *testing.T) {
	parrot := func(reply string) int {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					defer func() { _ = c.Close() }()
					for in := bufio.NewScanner(c); in.Scan(); {
						answer := reply
						if in.Text() != "ping" {
							answer = "hello " + reply
						}
						_, _ = io.WriteString(c, answer)
					}
				}()
			}
		}()
		return l.Addr().(*net.TCPAddr).Port
	}
	at := h.Service(t, "parrot", "tcp", nil, parrot("pong one"), parrot("sorry"))
	h.Apply(t, "type: MeshCircuitBreaker\nname: parrot\nspec: {to: [{targetRef: {kind: MeshService, labels: {app: parrot}}, default: {outlierDetection: {healthyPanicThreshold: 0, detectors: {localOriginFailures: {consecutive: 1000}}}}}]}")
	ask := func() string {
		c, err := net.Dial("tcp", at)
		if err != nil {
			return err.Error()
		}
		defer func() { _ = c.Close() }()
		_ = c.SetDeadline(time.Now().Add(time.Second))
		_, _ = c.Write([]byte("who\n"))
		b := make([]byte, 64)
		n, _ := c.Read(b)
		return string(b[:n])
	}
	h.apply(t, "parrot", `interval: 20ms, noTrafficInterval: 20ms, timeout: 200ms, unhealthyThreshold: 1, tcp: {send: "ping\n", receive: [pong, one]}`)
	traffic.Until(t, "connections go to the one that answers otherwise", func() bool {
		for range 6 {
			if ask() != "hello pong one" {
				return false
			}
		}
		return true
	})
	h.apply(t, "parrot", `interval: 20ms, noTrafficInterval: 20ms, timeout: 200ms, unhealthyThreshold: 1, tcp: {disabled: true, send: "ping\n", receive: [pong]}`)
	traffic.Until(t, "connections still go to one only", func() bool { return ask() == "hello sorry" })
}

// spied is a health service that tells what it was asked for.
type spied struct {
	healthpb.UnimplementedHealthServer
	mu        sync.Mutex
	authority []string
	service   string
}

func (s *spied) Check(ctx context.Context, r *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.authority, s.service = md.Get(":authority"), r.GetService()
	return &healthpb.HealthCheckResponse{Status: healthpb.HealthCheckResponse_SERVING}, nil
}

func (h *health) grpc(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, spy := grpc.NewServer(), &spied{}
	healthpb.RegisterHealthServer(s, spy)
	go func() { _ = s.Serve(l) }()
	t.Cleanup(s.Stop)
	h.Service(t, "spied", "grpc", nil, l.Addr().(*net.TCPAddr).Port)
	asked := func(authority, service string) bool {
		spy.mu.Lock()
		defer spy.mu.Unlock()
		return slices.Equal(spy.authority, []string{authority}) && spy.service == service
	}
	const rest = ", interval: 20ms, noTrafficInterval: 20ms, timeout: 1s"
	h.apply(t, "spied", "grpc: {serviceName: shop, authority: shop.test}"+rest)
	traffic.Until(t, "checks do not ask as they should", func() bool { return asked("shop.test", "shop") })
	h.apply(t, "spied", "grpc: {disabled: true, serviceName: other}, tcp: {}"+rest)
	time.Sleep(100 * time.Millisecond) // five intervals
	if asked("spied", "other") || asked("shop.test", "other") {
		t.Error("checks that are disabled come")
	}
}

// panic: when no endpoint is healthy all are used, or none.
func (h *health) panic(t *testing.T) {
	p := probed(t)
	p.status = 500
	at := "http://" + h.Service(t, "panicking", "http", nil, p.Port)
	for fail, want := range map[string]int{"false": 200, "true": 503} {
		h.apply(t, "panicking", "failTrafficOnPanic: "+fail+", interval: 20ms, noTrafficInterval: 20ms, timeout: 1s, unhealthyThreshold: 1, http: {path: /probe}")
		p.first(t, 2)
		traffic.Until(t, "failTrafficOnPanic "+fail, func() bool { return traffic.Get(t, at).Status == want })
	}
}
