package xds

import (
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/atoll-mesh/atoll/pkg/delta"
	"github.com/atoll-mesh/atoll/pkg/delta/client"
)

// proxy is a Session whose set the test changes, and the Handler that opens it.
type proxy struct {
	set     atomic.Pointer[Set]
	changed chan struct{}

	mu      sync.Mutex
	end     context.Context // of the newest stream
	report  Report
	reports chan struct{} // wake bit
	closed  chan error
}

func newProxy(set *Set) *proxy {
	p := &proxy{changed: make(chan struct{}, 1), reports: make(chan struct{}, 1), closed: make(chan error, 16)}
	p.set.Store(set)
	return p
}

func (p *proxy) Open(ctx context.Context, node *core.Node, _ bool) (Session, error) {
	if node.GetId() == "intruder" {
		return nil, fmt.Errorf("node %q: not in this mesh", node.GetId())
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.end != nil {
		End(p.end, status.Error(codes.Aborted, "the proxy opened another stream"))
	}
	p.end = ctx
	return p, nil
}

func (p *proxy) Set() *Set                { return p.set.Load() }
func (p *proxy) Changed() <-chan struct{} { return p.changed }
func (p *proxy) Close(err error)          { p.closed <- err }

func (p *proxy) Delivered(r Report) {
	p.mu.Lock()
	p.report = r
	p.mu.Unlock()
	wake(p.reports)
}

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (p *proxy) put(set *Set) {
	p.set.Store(set)
	wake(p.changed)
}

// until waits for a report.
func (p *proxy) until(t testing.TB, what string, met func(Report) bool) {
	t.Helper()
	timeout := time.After(time.Minute)
	for {
		p.mu.Lock()
		r := p.report
		p.mu.Unlock()
		if met(r) {
			return
		}
		select {
		case <-p.reports:
		case <-timeout:
			t.Fatalf("%s: not reported: %+v", what, r)
		}
	}
}

// serve starts a server in memory and returns a connection to it.
func serve(t testing.TB, h Handler) *grpc.ClientConn {
	t.Helper()
	l := bufconn.Listen(1 << 20)
	server := grpc.NewServer(ServerOptions()...)
	NewServer(h, Options{Identifier: "test"}).Register(server)
	go server.Serve(l)
	t.Cleanup(server.Stop)
	conn, err := grpc.NewClient("passthrough:///test",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func res(name, version string) *delta.Resource {
	return delta.NewResource(name, version, "type.test/R", []byte(strings.Repeat(version, 100)))
}

func layer(t Type, resources ...*delta.Resource) Changes {
	c := Changes{}
	for _, r := range resources {
		c.Put(t, r)
	}
	return c
}

func TestStream(t *testing.T) {
	shared := NewLayer(layer(Clusters, res("a", "1"), res("b", "1")))
	own := NewLayer(layer(Listeners, res("in", "1")))
	p := newProxy(nil)
	conn := serve(t, p)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()

	var order []string
	c := client.New(client.Options{
		Node:      &core.Node{Id: "mesh.proxy"},
		Subscribe: []string{Clusters.URL(), Listeners.URL()},
		Reject: func(_ string, r client.Resource) error {
			if r.Version == "bad" {
				return fmt.Errorf("this is bad")
			}
			return nil
		},
		Received: func(r *client.Response) {
			if k, ok := TypeOf(r.URL); ok {
				order = append(order, k.String())
			}
		},
	})
	first, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- c.Run(first, conn) }()
	has := func(kind Type, want ...string) {
		t.Helper()
		var got []string
		err := c.Wait(ctx, func(s *client.State) bool {
			got = nil
			for _, name := range slices.Sorted(maps.Keys(s.Has(kind.URL()))) {
				got = append(got, name+"@"+s.Has(kind.URL())[name])
			}
			return slices.Equal(got, want)
		})
		if err != nil {
			t.Fatalf("%v: has %v, want %v: %v", kind, got, want, err)
		}
	}
	p.put(NewSet(7, shared, own)) // after the proxy asked
	has(Clusters, "a@1", "b@1")
	has(Listeners, "in@1")
	p.until(t, "revision 7", func(r Report) bool { return r.Revision == 7 })
	if got := strings.Join(order, " "); got != "cds lds" {
		t.Errorf("order: %s", got)
	}

	p.put(NewSet(8, shared.With(layer(Clusters, res("b", "bad"), res("c", "1"))), own))
	has(Clusters, "a@1", "b@1", "c@1")
	p.until(t, "rejection", func(r Report) bool {
		return r.Revision == 8 && len(r.Rejections) == 1 && r.Rejections[0].Name == "b" && strings.Contains(r.Rejections[0].Error, "this is bad")
	})
	p.until(t, "counters", func(r Report) bool {
		return r.Types[Clusters] == Counters{Sent: 4, Acked: 2, Rejected: 2}
	})

	// It comes back and has most of it.
	stop()
	<-ended
	if err := <-p.closed; err != nil {
		t.Errorf("closed with %v", err)
	}
	before := c
	var received uint64
	before.Do(func(s *client.State) { received = s.Resources })
	p.put(NewSet(9, shared.With(layer(Clusters, res("d", "1"))), own))
	go func() { ended <- c.Run(ctx, conn) }()
	has(Clusters, "a@1", "b@1", "d@1")
	p.until(t, "revision 9", func(r Report) bool { return r.Revision == 9 && len(r.Rejections) == 0 })
	c.Do(func(s *client.State) {
		if n := s.Resources - received; n != 1 {
			t.Errorf("%d resources after reconnecting", n)
		}
	})

	// The newest stream wins.
	other := client.New(client.Options{Node: &core.Node{Id: "mesh.proxy"}, Subscribe: []string{Clusters.URL()}})
	go other.Run(ctx, conn)
	if err := <-ended; status.Code(err) != codes.Aborted {
		t.Errorf("old stream ended with %v", err)
	}
	if err := <-p.closed; status.Code(err) != codes.Aborted {
		t.Errorf("session closed with %v", err)
	}
}

func TestRefusals(t *testing.T) {
	p := newProxy(NewSet(1))
	conn := serve(t, p)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	sotw, err := discovery.NewAggregatedDiscoveryServiceClient(conn).StreamAggregatedResources(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sotw.Recv(); status.Code(err) != codes.Unimplemented {
		t.Errorf("state of the world: %v", err)
	}
	for _, c := range []struct {
		node *core.Node
		url  string
		code codes.Code
	}{
		{nil, Clusters.URL(), codes.InvalidArgument},
		{&core.Node{Id: "intruder"}, Clusters.URL(), codes.PermissionDenied},
		{&core.Node{Id: "a"}, "", codes.InvalidArgument},
	} {
		s, err := discovery.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
		if err != nil {
			t.Fatal(err)
		}
		s.Send(&discovery.DeltaDiscoveryRequest{Node: c.node, TypeUrl: c.url})
		if _, err := s.Recv(); status.Code(err) != c.code {
			t.Errorf("node %v, type %q: %v", c.node, c.url, err)
		}
	}
}

// A server that was not given ServerOptions sends the same.
func TestWithoutServerOptions(t *testing.T) {
	p := newProxy(NewSet(3, NewLayer(layer(Clusters, res("a", "1")))))
	l := bufconn.Listen(1 << 20)
	server := grpc.NewServer()
	NewServer(p, Options{}).Register(server)
	go server.Serve(l)
	t.Cleanup(server.Stop)
	conn, err := grpc.NewClient("passthrough:///test",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	s, err := discovery.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.Send(&discovery.DeltaDiscoveryRequest{Node: &core.Node{Id: "a"}, TypeUrl: Clusters.URL()})
	resp, err := s.Recv()
	if err != nil || len(resp.Resources) != 1 || resp.Resources[0].Name != "a" || resp.SystemVersionInfo != "3" {
		t.Errorf("%v, %v", resp, err)
	}
}
