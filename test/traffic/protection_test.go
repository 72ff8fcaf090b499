package traffic_test

import (
	"fmt"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/atoll-mesh/atoll/test/traffic"
)

// TestProtection shows limits and outlier detection, of clients and at the
// workload's own proxy.
func TestProtection(t *testing.T) {
	t.Parallel()
	m := traffic.Start(t)
	m.Client(t)
	p := &protection{Mesh: m, app: traffic.Serve(t, traffic.Status(200)), in: traffic.Dead(t), inTCP: traffic.Dead(t), inHole: traffic.Dead(t)}
	m.Apply(t, fmt.Sprintf(`
type: Dataplane
name: server
labels: {app: server}
networking:
  address: 127.0.0.1
  inbound:
  - {port: %d, name: web, servicePort: %d, protocol: http}
  - {port: %d, name: tcp, servicePort: %d, protocol: tcp}
  - {port: %d, name: hole, servicePort: %d, protocol: http}`, p.in, p.app.Port, p.inTCP, traffic.ServeTCP(t, "hello"), p.inHole, traffic.BlackHole(t)))
	p.stat = m.Envoy("server")
	for _, port := range []int{p.in, p.inTCP, p.inHole} {
		m.Listening(t, port)
	}
	for _, s := range []side{
		{"to", "spec: {to: [{targetRef: {kind: Mesh}, default: %s}]}", m.Service(t, "app", "http", nil, p.app.Port), m.Service(t, "tcp", "tcp", nil, traffic.ServeTCP(t, "hello")), m.Service(t, "hole", "http", nil, traffic.BlackHole(t))},
		{"rules", "spec: {targetRef: {kind: Dataplane, labels: {app: server}}, rules: [{default: %s}]}", local(p.in), local(p.inTCP), local(p.inHole)},
	} {
		t.Run(s.name+"/limits", func(t *testing.T) { p.limits(t, s) })
		t.Run(s.name+"/outliers", func(t *testing.T) { p.outliers(t, s) })
		m.Remove(t, "MeshCircuitBreaker", "breaker")
	}
	t.Run("retries", p.retries)
	t.Run("pools", p.pools)
	t.Run("success rate", p.successRate)
	t.Run("split", p.split)
}

// side is a client or a server: how its policies are written, and where the
// application, one of TCP, and one that cannot be connected are called through
// its Envoy and no other.
type side struct{ name, head, app, tcp, hole string }

type protection struct {
	*traffic.Mesh
	app               *traffic.Server
	in, inTCP, inHole int
	stat              func(string) int
}

func (p *protection) apply(t *testing.T, s side, conf string) {
	t.Helper()
	p.Apply(t, "type: MeshCircuitBreaker\nname: breaker\n"+fmt.Sprintf(s.head, conf))
}

func (p *protection) limits(t *testing.T, s side) {
	p.apply(t, s, "{connectionLimits: {maxRequests: 1}}")
	enter, leave := make(chan struct{}), make(chan struct{})
	var hold http.HandlerFunc = func(http.ResponseWriter, *http.Request) { enter <- struct{}{}; <-leave }
	p.app.Answer.Store(&hold)
	var wg sync.WaitGroup
	wg.Go(func() { traffic.Get(t, "http://"+s.app) })
	<-enter
	if got := traffic.Get(t, "http://"+s.app); got.Status != 503 || got.Header.Get("x-envoy-overloaded") != "true" {
		t.Errorf("a second request: %d %v", got.Status, got.Header)
	}
	close(leave)
	wg.Wait()

	p.apply(t, s, "{connectionLimits: {maxConnections: 1}}")
	var first net.Conn
	traffic.Until(t, "a second connection is greeted", func() bool {
		if first != nil {
			_ = first.Close()
		}
		first = traffic.Hold(t, s.tcp)
		return traffic.Connect(t, s.tcp) == ""
	})
	_ = first.Close()
	traffic.Until(t, "no connection after the first was closed", func() bool { return traffic.Connect(t, s.tcp) == "hello" })

	// Of two requests for what cannot be connected one waits and one may not.
	p.apply(t, s, "{connectionLimits: {maxPendingRequests: 1}}")
	overloaded := make(chan bool, 2)
	for range 2 {
		wg.Go(func() {
			c := http.Client{Timeout: time.Second}
			resp, err := c.Get("http://" + s.hole)
			if err != nil {
				overloaded <- false
				return
			}
			_ = resp.Body.Close()
			overloaded <- resp.Header.Get("x-envoy-overloaded") == "true"
		})
	}
	if !<-overloaded {
		t.Error("requests wait without limit")
	}
	wg.Wait()
	if s.name == "rules" { // which has one endpoint and retries nothing
		p.apply(t, s, "{connectionLimits: {maxRetries: 7, maxConnectionPools: 9}}")
		traffic.Until(t, "limits of retries and pools are not there", func() bool {
			return p.stat("cluster.self_inbound_dp_tcp.circuit_breakers.default.remaining_retries") == 7 &&
				p.stat("cluster.self_inbound_dp_tcp.circuit_breakers.default.remaining_cx_pools") == 9
		})
	}
}

// outliers: the only endpoint is out after failures of the kind that counts, and
// used all the same in a panic.
func (p *protection) outliers(t *testing.T, s side) {
	status := func(code int) {
		a := traffic.Status(code)
		p.app.Answer.Store(&a)
	}
	const usual = "interval: 50ms, baseEjectionTime: 200ms, maxEjectionPercent: 100"
	for _, c := range []struct {
		conf    string
		status  int
		ejected bool
	}{
		{usual + ", healthyPanicThreshold: 0, detectors: {totalFailures: {consecutive: 2}}", 500, true},
		{usual + ", healthyPanicThreshold: 0, detectors: {gatewayFailures: {consecutive: 2}}", 500, false},
		{usual + ", healthyPanicThreshold: 0, detectors: {gatewayFailures: {consecutive: 2}}", 502, true},
		{usual + ", healthyPanicThreshold: 0, detectors: {failurePercentage: {minimumHosts: 1, requestVolume: 3, threshold: 90}}", 500, true},
		{usual + `, healthyPanicThreshold: "0.0", splitExternalAndLocalErrors: true, detectors: {localOriginFailures: {consecutive: 2}}`, 500, false},
		{usual + ", healthyPanicThreshold: 0, detectors: {successRate: {minimumHosts: 1, requestVolume: 3, standardDeviationFactor: 1}}", 500, false}, // it is the mean
		{usual + ", healthyPanicThreshold: 60, detectors: {totalFailures: {consecutive: 2}}", 500, false},
		{usual + ", disabled: true, detectors: {totalFailures: {consecutive: 2}}", 500, false},
	} {
		status(200)
		p.apply(t, s, "{outlierDetection: {"+c.conf+"}}")
		status(c.status)
		out := func() bool { return traffic.Get(t, "http://"+s.app).Status == 503 }
		if c.ejected {
			traffic.Until(t, c.conf+": an endpoint that fails stays", out)
			status(200)
			traffic.Until(t, c.conf+": the endpoint does not return", func() bool { return !out() })
			continue
		}
		for range 10 {
			if out() {
				t.Errorf("%s: the endpoint is out because of status %d", c.conf, c.status)
			}
			time.Sleep(10 * time.Millisecond) // twice the interval in all
		}
	}
	status(200)
}

// retries: no more than some are waiting at once.
func (p *protection) retries(t *testing.T) {
	app := traffic.Serve(t, traffic.Status(503))
	at := "http://" + p.Service(t, "again", "http", nil, app.Port)
	for _, c := range []struct{ limit, low, high int64 }{{1, 11, 15}, {20, 20, 20}} {
		p.Apply(t, fmt.Sprintf(`
type: MeshRetry
name: again
spec: {to: [{targetRef: {kind: MeshService, labels: {app: again}}, default: {http: {numRetries: 1, retryOn: [5xx], backOff: {baseInterval: 300ms, maxInterval: 300ms}}}}]}
---
type: MeshCircuitBreaker
name: again
spec: {to: [{targetRef: {kind: MeshService, labels: {app: again}}, default: {connectionLimits: {maxRetries: %d}}}]}`, c.limit))
		app.Count.Store(0)
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() { traffic.Get(t, at) })
		}
		wg.Wait()
		if n := app.Count.Load(); n < c.low || n > c.high {
			t.Errorf("ten requests with at most %d retries at once: tried %d times, want %d to %d", c.limit, n, c.low, c.high)
		}
	}
}

// pools: each endpoint has its own.
func (p *protection) pools(t *testing.T) {
	enter, leave := make(chan struct{}, 10), make(chan struct{})
	hold := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hold" {
			enter <- struct{}{}
			<-leave
		}
	}
	at := "http://" + p.Service(t, "pools", "http", nil, traffic.Serve(t, hold).Port, traffic.Serve(t, hold).Port)
	p.Apply(t, "type: MeshCircuitBreaker\nname: pools\nspec: {to: [{targetRef: {kind: MeshService, labels: {app: pools}}, default: {connectionLimits: {maxConnectionPools: 1}}}]}")
	var wg sync.WaitGroup
	wg.Go(func() { traffic.Get(t, at+"/hold") })
	<-enter
	refused, served := 0, 0
	for range 10 {
		if traffic.Get(t, at+"/").Status == 503 {
			refused++
		} else {
			served++
		}
	}
	if refused == 0 || served == 0 {
		t.Errorf("with one endpoint in use, %d requests are refused and %d served", refused, served)
	}
	close(leave)
	wg.Wait()
}

// successRate: the endpoint that succeeds less than others is out, as far as the
// factor says.
func (p *protection) successRate(t *testing.T) {
	bad := traffic.Serve(t, traffic.Status(500))
	ports := []int{bad.Port}
	for range 3 {
		ports = append(ports, traffic.Serve(t, traffic.Status(200)).Port)
	}
	at := "http://" + p.Service(t, "rate", "http", nil, ports...)
	stays := func() bool {
		before := bad.Count.Load()
		for range 40 {
			traffic.Get(t, at)
		}
		return bad.Count.Load() > before
	}
	// The mean is 75%, the deviation 43.
	for _, c := range []struct {
		factor string
		out    bool
	}{{`"9"`, false}, {`"1.1"`, true}} {
		p.Apply(t, "type: MeshCircuitBreaker\nname: rate\nspec: {to: [{targetRef: {kind: MeshService, labels: {app: rate}}, default: {outlierDetection: {interval: 50ms, baseEjectionTime: 60s, maxEjectionPercent: 50, detectors: {successRate: {minimumHosts: 4, requestVolume: 2, standardDeviationFactor: "+c.factor+"}}}}}]}")
		if c.out {
			traffic.Until(t, "the worst endpoint stays", func() bool { return !stays() })
			continue
		}
		for range 3 {
			if !stays() {
				t.Errorf("factor %s: the worst endpoint is out", c.factor)
			}
		}
	}
}

// split: failures to connect count with others or apart.
func (p *protection) split(t *testing.T) {
	at := "http://" + p.Service(t, "split", "http", nil, traffic.Dead(t), traffic.Serve(t, traffic.Status(200)).Port)
	fails := func() (n int) {
		for range 10 {
			if traffic.Get(t, at).Status != 200 {
				n++
			}
		}
		return n
	}
	for _, c := range []struct {
		conf string
		out  bool
	}{
		{"splitExternalAndLocalErrors: true, detectors: {totalFailures: {consecutive: 1}}", false},
		{"splitExternalAndLocalErrors: false, detectors: {totalFailures: {consecutive: 1}}", true},
		{"splitExternalAndLocalErrors: true, detectors: {localOriginFailures: {consecutive: 1}}", true},
	} {
		p.Apply(t, "type: MeshCircuitBreaker\nname: split\nspec: {to: [{targetRef: {kind: MeshService, labels: {app: split}}, default: {outlierDetection: {interval: 50ms, baseEjectionTime: 60s, maxEjectionPercent: 50, "+c.conf+"}}}]}")
		if c.out {
			traffic.Until(t, c.conf+": an endpoint that cannot be connected stays", func() bool { return fails() == 0 })
		} else if fails()+fails() == 0 {
			t.Errorf("%s: the endpoint is out", c.conf)
		}
	}
}
