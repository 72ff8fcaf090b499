package traffic_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/atoll-mesh/atoll/test/traffic"
)

// TestResilience shows retries and checks of gRPC, what protects a workload at
// its own Envoy, and what happens when all endpoints are bad.
func TestResilience(t *testing.T) {
	t.Parallel()
	m := traffic.Start(t)
	m.Client(t)
	for _, c := range []struct {
		name string
		run  func(*testing.T, *traffic.Mesh)
	}{
		{"MeshRetry/grpc", retryGRPC},
		{"MeshHealthCheck/grpc", healthGRPC},
		{"MeshCircuitBreaker/rules", breakerInbound},
		{"MeshCircuitBreaker/panic", breakerPanic},
		{"MeshLoadBalancingStrategy/all", balanceAll},
		{"MeshTCPRoute/http", routeHTTPAsTCP},
		{"MeshTCPRoute/open", routeHTTPAsTCPWhileOpen},
	} {
		if !t.Run(c.name, func(t *testing.T) { c.run(t, m) }) {
			break // others would show the same
		}
	}
}

// checked is a gRPC service that answers as state says.
type checked struct {
	healthpb.UnimplementedHealthServer
	state func(service string) (healthpb.HealthCheckResponse_ServingStatus, error)
}

func (c *checked) Check(_ context.Context, r *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	s, err := c.state(r.GetService())
	return &healthpb.HealthCheckResponse{Status: s}, err
}

func serveGRPC(t *testing.T, state func(string) (healthpb.HealthCheckResponse_ServingStatus, error)) int {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	healthpb.RegisterHealthServer(s, &checked{state: state})
	go func() { _ = s.Serve(l) }()
	t.Cleanup(s.Stop)
	return l.Addr().(*net.TCPAddr).Port
}

func dialGRPC(t *testing.T, address string) healthpb.HealthClient {
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return healthpb.NewHealthClient(conn)
}

func retryGRPC(t *testing.T, m *traffic.Mesh) {
	var calls atomic.Int64
	port := serveGRPC(t, func(string) (healthpb.HealthCheckResponse_ServingStatus, error) {
		if n := calls.Add(1); n%2 == 1 {
			return 0, status.Error(codes.Canceled, "again")
		}
		return healthpb.HealthCheckResponse_SERVING, nil
	})
	c := dialGRPC(t, m.Service(t, "grpc-retry", "grpc", nil, port))
	m.Apply(t, `
type: MeshRetry
name: grpc-retry
spec: {to: [{targetRef: {kind: MeshService, labels: {app: grpc-retry}}, default: {grpc: {numRetries: 1, retryOn: [Canceled], backOff: {baseInterval: 1ms}}}}]}`)
	for range 3 {
		if _, err := c.Check(t.Context(), &healthpb.HealthCheckRequest{}); err != nil {
			t.Errorf("a call that is cancelled once: %v", err)
		}
	}
	if n := calls.Load(); n != 6 {
		t.Errorf("%d calls arrived, want 6", n)
	}
}

func healthGRPC(t *testing.T, m *traffic.Mesh) {
	// The checks ask for "shop", the test's calls for nothing.
	named := func(state healthpb.HealthCheckResponse_ServingStatus, answer error) int {
		return serveGRPC(t, func(service string) (healthpb.HealthCheckResponse_ServingStatus, error) {
			if service == "shop" {
				return state, nil
			}
			return 0, answer
		})
	}
	good := named(healthpb.HealthCheckResponse_SERVING, nil)
	bad := named(healthpb.HealthCheckResponse_NOT_SERVING, status.Error(codes.Internal, "bad"))
	c := dialGRPC(t, m.Service(t, "grpc-health", "grpc", nil, good, bad))
	m.Apply(t, `
type: MeshHealthCheck
name: grpc-health
spec:
  to:
  - targetRef: {kind: MeshService, labels: {app: grpc-health}}
    default: {interval: 50ms, noTrafficInterval: 50ms, timeout: 1s, unhealthyThreshold: 1, healthyThreshold: 1, grpc: {serviceName: shop}}`)
	traffic.Until(t, "calls go to the endpoint that does not serve", func() bool {
		for range 10 {
			if _, err := c.Check(t.Context(), &healthpb.HealthCheckRequest{}); err != nil {
				return false
			}
		}
		return true
	})
}

func breakerInbound(t *testing.T, m *traffic.Mesh) {
	enter, leave := make(chan struct{}), make(chan struct{})
	s := traffic.Serve(t, func(http.ResponseWriter, *http.Request) { enter <- struct{}{}; <-leave })
	port := traffic.Dead(t) // until its Envoy listens there
	m.Apply(t, fmt.Sprintf(`
type: Dataplane
name: guarded
labels: {app: guarded}
networking: {address: 127.0.0.1, inbound: [{port: %d, name: web, servicePort: %d, protocol: http}]}
---
type: MeshCircuitBreaker
name: guarded
spec:
  targetRef: {kind: Dataplane, labels: {app: guarded}, sectionName: web}
  rules: [{default: {connectionLimits: {maxRequests: 1}}}]`, port, s.Port))
	m.Envoy("guarded")
	m.Listening(t, port)
	url := fmt.Sprintf("http://127.0.0.1:%d/", port)
	var wg sync.WaitGroup
	wg.Go(func() { traffic.Get(t, url) })
	<-enter
	if got := traffic.Get(t, url); got.Status != 503 || got.Header.Get("x-envoy-overloaded") != "true" {
		t.Errorf("a second request at once: %d %v", got.Status, got.Header)
	}
	close(leave)
	wg.Wait()
}

func breakerPanic(t *testing.T, m *traffic.Mesh) {
	s := traffic.Serve(t, traffic.Status(500))
	url := "http://" + m.Service(t, "panic", "http", nil, s.Port) + "/"
	m.Apply(t, `
type: MeshCircuitBreaker
name: panic
spec:
  to:
  - targetRef: {kind: MeshService, labels: {app: panic}}
    default: {outlierDetection: {baseEjectionTime: 60s, maxEjectionPercent: 100, detectors: {totalFailures: {consecutive: 1}}}}`)
	for range 5 {
		if got := traffic.Get(t, url); got.Status != 500 {
			t.Errorf("all endpoints are used when none is good, but the answer is %d", got.Status)
		}
	}
}

func balanceAll(t *testing.T, m *traffic.Mesh) {
	a, b := traffic.Serve(t, traffic.Status(200)), traffic.Serve(t, traffic.Status(200))
	url := "http://" + m.Service(t, "spread", "http", nil, a.Port, b.Port) + "/"
	for _, lb := range []string{"{type: RoundRobin}", "{type: Random}", "{type: LeastRequest, leastRequest: {choiceCount: 3, activeRequestBias: \"1.5\"}}"} {
		m.Apply(t, fmt.Sprintf(`
type: MeshLoadBalancingStrategy
name: spread
spec: {to: [{targetRef: {kind: MeshService, labels: {app: spread}}, default: {loadBalancer: %s}}]}`, lb))
		a.Count.Store(0)
		b.Count.Store(0)
		for range 40 {
			traffic.Get(t, url)
		}
		if a.Count.Load() < 3 || b.Count.Load() < 3 {
			t.Errorf("%s: %d and %d requests", lb, a.Count.Load(), b.Count.Load())
		}
	}
}

// routeHTTPAsTCPWhileOpen: requests of a connection that is older than the route
// go where it says.
func routeHTTPAsTCPWhileOpen(t *testing.T, m *traffic.Mesh) {
	at := m.Service(t, "web-open", "http", nil, traffic.Serve(t, traffic.Named("old")).Port)
	m.Service(t, "web-moved", "http", nil, traffic.Serve(t, traffic.Named("new")).Port)
	var kept http.Transport
	defer kept.CloseIdleConnections()
	ask := func() string {
		resp, err := (&http.Client{Transport: &kept, Timeout: 10 * time.Second}).Get("http://" + at + "/")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		b, _ := io.ReadAll(resp.Body)
		return fmt.Sprint(resp.StatusCode, " ", string(b))
	}
	if got := ask(); got != "200 old" {
		t.Fatalf("before: %s", got)
	}
	m.Apply(t, `
type: MeshTCPRoute
name: web-open
spec: {to: [{targetRef: {kind: MeshService, labels: {app: web-open}}, rules: [{default: {backendRefs: [{kind: MeshService, labels: {app: web-moved}}]}}]}]}`)
	for range 3 {
		if got := ask(); got != "200 new" {
			t.Errorf("after: %s", got)
		}
	}
}

func routeHTTPAsTCP(t *testing.T, m *traffic.Mesh) {
	s := traffic.Serve(t, traffic.Named("web"))
	at := m.Service(t, "web-tcp", "http", nil, s.Port)
	m.Service(t, "greeter", "tcp", nil, traffic.ServeTCP(t, "hello"))
	m.Apply(t, `
type: MeshTCPRoute
name: web-tcp
spec: {to: [{targetRef: {kind: MeshService, labels: {app: web-tcp}}, rules: [{default: {backendRefs: [{kind: MeshService, labels: {app: greeter}}]}}]}]}`)
	traffic.Until(t, "an HTTP port does not become TCP", func() bool { return traffic.Connect(t, at) == "hello" })
	m.Apply(t, `
type: MeshHTTPRoute
name: web-tcp
spec: {to: [{targetRef: {kind: MeshService, labels: {app: web-tcp}}, rules: [{matches: [{path: {type: Exact, value: /x}}], default: {}}]}]}`)
	traffic.Until(t, "an HTTP route does not go before", func() bool {
		resp, err := http.Get("http://" + at + "/")
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		return resp.StatusCode == 200
	})
}
