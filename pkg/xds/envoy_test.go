package xds_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	router "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcm "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/atoll-mesh/atoll/pkg/delta"
	"github.com/atoll-mesh/atoll/pkg/envoy/envoytest"
	"github.com/atoll-mesh/atoll/pkg/xds"
	"github.com/atoll-mesh/atoll/test/ports"
)

// mesh is the one proxy of a test: Handler, Session and the record of reports.
type mesh struct {
	set     atomic.Pointer[xds.Set]
	changed chan struct{}

	mu      sync.Mutex
	cond    *sync.Cond
	reports []xds.Report
}

func newMesh(t *testing.T, set *xds.Set) (m *mesh, port int) {
	m = &mesh{changed: make(chan struct{}, 1)}
	m.cond = sync.NewCond(&m.mu)
	m.set.Store(set)
	l := listen(t)
	server := grpc.NewServer(xds.ServerOptions()...)
	xds.NewServer(m, xds.Options{Identifier: "test"}).Register(server)
	go server.Serve(l)
	t.Cleanup(server.Stop)
	return m, l.Addr().(*net.TCPAddr).Port
}

func (m *mesh) Open(context.Context, *core.Node, bool) (xds.Session, error) { return m, nil }

func (m *mesh) Set() *xds.Set            { return m.set.Load() }
func (m *mesh) Changed() <-chan struct{} { return m.changed }
func (m *mesh) Close(error)              {}

func (m *mesh) Delivered(r xds.Report) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reports = append(m.reports, r)
	m.cond.Broadcast()
}

func (m *mesh) put(set *xds.Set) {
	m.set.Store(set)
	select {
	case m.changed <- struct{}{}:
	default:
	}
}

// until waits for a report and returns it.
func (m *mesh) until(t *testing.T, what string, met func(xds.Report) bool) xds.Report {
	t.Helper()
	late := false
	timer := time.AfterFunc(30*time.Second, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		late = true
		m.cond.Broadcast()
	})
	defer timer.Stop()
	m.mu.Lock()
	defer m.mu.Unlock()
	for {
		var last xds.Report
		if n := len(m.reports); n > 0 {
			last = m.reports[n-1]
			if met(last) {
				return last
			}
		}
		if late {
			t.Fatalf("%s: not reported, but %+v", what, last)
		}
		m.cond.Wait()
	}
}

func (m *mesh) delivered(t *testing.T, revision uint64) xds.Report {
	t.Helper()
	return m.until(t, fmt.Sprintf("revision %d", revision), func(r xds.Report) bool { return r.Revision >= revision })
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func encode(t *testing.T, c xds.Changes, kind xds.Type, name, version string, m proto.Message) {
	t.Helper()
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	c.Put(kind, delta.NewResource(name, version, kind.URL(), b))
}

func anyOf(t *testing.T, m proto.Message) *anypb.Any {
	t.Helper()
	a, err := anypb.New(m)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func wrap(n uint32) *wrapperspb.UInt32Value { return wrapperspb.UInt32(n) }

var ads = &core.ConfigSource{
	ConfigSourceSpecifier: &core.ConfigSource_Ads{Ads: &core.AggregatedConfigSource{}},
	ResourceApiVersion:    core.ApiVersion_V3,
}

func address(port int) *core.Address {
	return &core.Address{Address: &core.Address_SocketAddress{SocketAddress: &core.SocketAddress{
		Address: "127.0.0.1", PortSpecifier: &core.SocketAddress_PortValue{PortValue: uint32(port)},
	}}}
}

// web is a listener with its routes by RDS.
func web(t *testing.T, c xds.Changes, name string, port int) {
	encode(t, c, xds.Listeners, name, fmt.Sprint(port), &listener.Listener{
		Name: name, Address: address(port),
		FilterChains: []*listener.FilterChain{{Filters: []*listener.Filter{{
			Name: "http",
			ConfigType: &listener.Filter_TypedConfig{TypedConfig: anyOf(t, &hcm.HttpConnectionManager{
				StatPrefix:     name,
				RouteSpecifier: &hcm.HttpConnectionManager_Rds{Rds: &hcm.Rds{RouteConfigName: name, ConfigSource: ads}},
				HttpFilters: []*hcm.HttpFilter{{Name: "router", ConfigType: &hcm.HttpFilter_TypedConfig{
					TypedConfig: anyOf(t, &router.Router{}),
				}}},
			})},
		}}}},
	})
}

// to makes the listener's routes lead to a cluster.
func to(t *testing.T, c xds.Changes, name, target string) {
	encode(t, c, xds.Routes, name, target, &route.RouteConfiguration{
		Name: name,
		VirtualHosts: []*route.VirtualHost{{Name: "all", Domains: []string{"*"}, Routes: []*route.Route{{
			Match:  &route.RouteMatch{PathSpecifier: &route.RouteMatch_Prefix{Prefix: "/"}},
			Action: &route.Route_Route{Route: &route.RouteAction{ClusterSpecifier: &route.RouteAction_Cluster{Cluster: target}}},
		}}}},
	})
}

func service(t *testing.T, c xds.Changes, name string, connect time.Duration, port int, change ...func(*cluster.Cluster)) {
	m := &cluster.Cluster{
		Name:                 name,
		ClusterDiscoveryType: &cluster.Cluster_Type{Type: cluster.Cluster_EDS},
		EdsClusterConfig:     &cluster.Cluster_EdsClusterConfig{EdsConfig: ads},
		ConnectTimeout:       durationpb.New(connect),
	}
	for _, f := range change {
		f(m)
	}
	encode(t, c, xds.Clusters, name, connect.String(), m)
	load(t, c, name, "1", port)
}

func load(t *testing.T, c xds.Changes, name, version string, port int) {
	encode(t, c, xds.Endpoints, name, version, &endpoint.ClusterLoadAssignment{
		ClusterName: name,
		Endpoints: []*endpoint.LocalityLbEndpoints{{LbEndpoints: []*endpoint.LbEndpoint{{
			HostIdentifier: &endpoint.LbEndpoint_Endpoint{Endpoint: &endpoint.Endpoint{Address: address(port)}},
		}}}},
	})
}

// freePort returns one that nobody listens on.
func freePort(t *testing.T) int {
	t.Helper()
	list, err := ports.Free("127.0.0.1", 1)
	if err != nil {
		t.Fatal(err)
	}
	return list[0]
}

func backend(t *testing.T) int {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") }))
	t.Cleanup(s.Close)
	return s.Listener.Addr().(*net.TCPAddr).Port
}

// get sends requests one after the other until ctx ends.
func get(ctx context.Context, url string, count *atomic.Int64, failed func(string)) {
	client := &http.Client{Timeout: 10 * time.Second}
	for ctx.Err() == nil {
		resp, err := client.Get(url)
		if err != nil {
			failed(err.Error())
			continue
		}
		b, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			failed(resp.Status + " " + string(b))
		}
		count.Add(1)
	}
}

// A thousand times a route moves to a new cluster and the old one goes, clusters
// change in between, and no request of a real Envoy fails.
func TestEnvoyMovesWithoutFailure(t *testing.T) {
	port, target := freePort(t), backend(t)
	first := xds.Changes{}
	web(t, first, "web", port)
	service(t, first, "c0", time.Second, target)
	to(t, first, "web", "c0")
	layer := xds.NewLayer(first)
	m, adsPort := newMesh(t, xds.NewSet(1, layer))
	envoytest.Start(t, "mesh.proxy", "127.0.0.1", adsPort)
	m.delivered(t, 1)
	// The listener's routes are asked for after it was acknowledged.
	m.until(t, "routes", func(r xds.Report) bool { return r.Types[xds.Routes].Acked > 0 })

	ctx, cancel := context.WithCancel(t.Context())
	var count atomic.Int64
	var mu sync.Mutex
	var failures []string
	var clients sync.WaitGroup
	url := fmt.Sprintf("http://127.0.0.1:%d/", port)
	for range 2 {
		clients.Go(func() {
			get(ctx, url, &count, func(what string) {
				mu.Lock()
				defer mu.Unlock()
				failures = append(failures, what)
			})
		})
	}
	revision := uint64(1)
	for i := 1; i <= 1000; i++ {
		revision++
		c := xds.Changes{}
		now, before := fmt.Sprint("c", i), fmt.Sprint("c", i-1)
		switch {
		case i%5 == 0: // the cluster in use changes as well as the route
			service(t, c, now, 2*time.Second, target)
			to(t, c, "web", now)
			c.Remove(xds.Clusters, before)
			c.Remove(xds.Endpoints, before)
		case i%5 == 1: // both clusters stay for one more step
			service(t, c, before, 3*time.Second, target)
			service(t, c, now, time.Second, target)
			to(t, c, "web", now)
		default:
			service(t, c, now, time.Second, target)
			to(t, c, "web", now)
			c.Remove(xds.Clusters, before)
			c.Remove(xds.Endpoints, before)
			c.Remove(xds.Clusters, fmt.Sprint("c", i-2))
			c.Remove(xds.Endpoints, fmt.Sprint("c", i-2))
		}
		layer = layer.With(c)
		m.put(xds.NewSet(revision, layer))
		if i%3 == 0 { // else changes pile up
			m.delivered(t, revision)
		}
	}
	last := m.delivered(t, revision)
	cancel()
	clients.Wait()
	t.Logf("%d requests; cds %+v, eds %+v, rds %+v", count.Load(), last.Types[xds.Clusters], last.Types[xds.Endpoints], last.Types[xds.Routes])
	if len(failures) > 0 {
		t.Errorf("%d of %d requests failed: %s", len(failures), count.Load(), failures[0])
	}
	if count.Load() < 100 || len(last.Rejections) > 0 || last.Degraded {
		t.Errorf("%d requests, %+v", count.Load(), last)
	}
}

// An Envoy that has started withholds the acknowledgement of a cluster until it
// is warm. Its endpoints follow at once, other endpoints pass, routes wait.
func TestEnvoyWithholdsAckWhileWarming(t *testing.T) {
	port, target := freePort(t), backend(t)
	silent := listen(t) // accepts, in the kernel, and never answers
	first := xds.Changes{}
	web(t, first, "web", port)
	service(t, first, "c0", time.Second, target)
	to(t, first, "web", "c0")
	layer := xds.NewLayer(first)
	m, adsPort := newMesh(t, xds.NewSet(1, layer))
	envoytest.Start(t, "mesh.proxy", "127.0.0.1", adsPort)
	m.delivered(t, 1)
	before := m.until(t, "routes", func(r xds.Report) bool { return r.Types[xds.Routes].Acked > 0 })

	c := xds.Changes{}
	service(t, c, "slow", time.Second, silent.Addr().(*net.TCPAddr).Port, func(m *cluster.Cluster) {
		m.HealthChecks = []*core.HealthCheck{{
			Timeout: durationpb.New(time.Second), Interval: durationpb.New(time.Second),
			UnhealthyThreshold: wrap(1), HealthyThreshold: wrap(1),
			HealthChecker: &core.HealthCheck_HttpHealthCheck_{HttpHealthCheck: &core.HealthCheck_HttpHealthCheck{Path: "/"}},
		}}
	})
	to(t, c, "web", "slow")
	layer = layer.With(c)
	m.put(xds.NewSet(2, layer))
	m.until(t, "endpoints of the warming cluster", func(r xds.Report) bool {
		return r.Types[xds.Endpoints].Acked > before.Types[xds.Endpoints].Acked
	})
	c = xds.Changes{}
	load(t, c, "c0", "2", target)
	layer = layer.With(c)
	m.put(xds.NewSet(3, layer))
	held := m.until(t, "endpoints of another cluster", func(r xds.Report) bool {
		return r.Types[xds.Endpoints].Acked > before.Types[xds.Endpoints].Acked+1
	})
	if k := held.Types[xds.Clusters]; k.Acked == k.Sent {
		t.Errorf("the warming cluster was acknowledged already: %+v", k)
	}
	m.delivered(t, 3)
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range m.reports {
		if r.Types[xds.Routes].Sent > before.Types[xds.Routes].Sent && r.Types[xds.Clusters].Acked < held.Types[xds.Clusters].Sent {
			t.Errorf("the route was sent before the cluster was acknowledged: %+v", r)
		}
	}
}

// A change of a cluster alone does not leave it warming without endpoints
// (envoyproxy/envoy#13009): it serves, at once, with its new settings.
func TestEnvoyGetsEndpointsOfChangedCluster(t *testing.T) {
	port, target := freePort(t), backend(t)
	first := xds.Changes{}
	web(t, first, "web", port)
	service(t, first, "c0", time.Second, target)
	to(t, first, "web", "c0")
	layer := xds.NewLayer(first)
	m, adsPort := newMesh(t, xds.NewSet(1, layer))
	envoytest.Start(t, "mesh.proxy", "127.0.0.1", adsPort)
	m.delivered(t, 1)
	for i := range 20 {
		c := xds.Changes{}
		service(t, c, "c0", time.Duration(i+2)*time.Second, target)
		layer = layer.With(c)
		start := time.Now()
		m.put(xds.NewSet(uint64(i+2), layer))
		m.delivered(t, uint64(i+2))
		// Envoy waits 15 s for endpoints that do not come.
		if d := time.Since(start); d > 5*time.Second {
			t.Fatalf("change %d took %v", i, d)
		}
	}
	resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/", port))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Error(resp.Status)
	}
}

// One bad listener is refused alone, in Envoy's words.
func TestEnvoyRefusesOne(t *testing.T) {
	target := backend(t)
	c := xds.Changes{}
	web(t, c, "good", freePort(t))
	web(t, c, "fine", freePort(t))
	service(t, c, "c0", time.Second, target)
	to(t, c, "good", "c0")
	to(t, c, "fine", "c0")
	encode(t, c, xds.Listeners, "bad", "1", &listener.Listener{Name: "bad"})
	m, adsPort := newMesh(t, xds.NewSet(1, xds.NewLayer(c)))
	envoytest.Start(t, "mesh.proxy", "127.0.0.1", adsPort)
	r := m.delivered(t, 1)
	if len(r.Rejections) != 1 || r.Rejections[0].Name != "bad" || !strings.Contains(r.Rejections[0].Error, "address is necessary") {
		t.Errorf("rejections: %+v", r.Rejections)
	}
	m.until(t, "routes of the good ones", func(r xds.Report) bool { return r.Types[xds.Routes].Acked > 0 })
}

// A listener takes the address of one that goes at the same time.
func TestEnvoyListenerTakesAddress(t *testing.T) {
	port, target := freePort(t), backend(t)
	c := xds.Changes{}
	web(t, c, "web", port)
	service(t, c, "c0", time.Second, target)
	to(t, c, "web", "c0")
	layer := xds.NewLayer(c)
	m, adsPort := newMesh(t, xds.NewSet(1, layer))
	envoytest.Start(t, "mesh.proxy", "127.0.0.1", adsPort)
	m.delivered(t, 1)
	names := []string{"web", "renamed", "again"}
	for i := 1; i < len(names); i++ {
		c := xds.Changes{}
		web(t, c, names[i], port)
		to(t, c, names[i], "c0")
		c.Remove(xds.Listeners, names[i-1])
		c.Remove(xds.Routes, names[i-1])
		layer = layer.With(c)
		m.put(xds.NewSet(uint64(i+1), layer))
		if r := m.delivered(t, uint64(i+1)); len(r.Rejections) > 0 {
			t.Fatalf("%+v", r.Rejections)
		}
	}
}
