package xds

import (
	"context"
	"fmt"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	encproto "google.golang.org/grpc/encoding/proto"
	"google.golang.org/protobuf/proto"

	"github.com/atoll-mesh/atoll/pkg/delta"
	"github.com/atoll-mesh/atoll/pkg/delta/client"
)

// everything is a layer of n services: a cluster, endpoints, a listener and a
// route each, with bodies of usual sizes.
func everything(n int, version string) Changes {
	c := Changes{}
	for i := range n {
		name := fmt.Sprintf("kri_msvc_default_zone-1_namespace_service-%04d_http", i)
		for t, size := range map[Type]int{Clusters: 500, Endpoints: 400, Listeners: 1200, Routes: 400} {
			c.Put(t, delta.NewResource(name, version+"-0123456789abcdef", t.URL(), make([]byte, size)))
		}
	}
	return c
}

// inStep brings a stream to where it has all of a set.
func inStep(b testing.TB, cfg *delta.Config, set *Set, now time.Time) *delta.Stream {
	s := delta.New(cfg)
	for t := range NumTypes {
		s.Want(int(t), set.Source(t))
	}
	s.At(set.Revision)
	request := func(t Type, names []string) {
		if err := s.Handle(&discovery.DeltaDiscoveryRequest{TypeUrl: t.URL(), ResourceNamesSubscribe: names}, now); err != nil {
			b.Fatal(err)
		}
	}
	names := func(t Type) (out []string) {
		for r := range set.Source(t).All() {
			out = append(out, string([]byte(r.Name))) // as a request brings them
		}
		return out
	}
	request(Clusters, []string{"*"})
	drain(b, s, now)
	request(Endpoints, names(Endpoints))
	request(Listeners, nil)
	drain(b, s, now)
	request(Routes, names(Routes))
	drain(b, s, now)
	return s
}

// drain takes and acknowledges everything.
func drain(b testing.TB, s *delta.Stream, now time.Time) (resources int) {
	for m := s.Next(now); m != nil; m = s.Next(now) {
		resources += len(m.Resources)
		if err := s.Handle(&discovery.DeltaDiscoveryRequest{TypeUrl: m.URL, ResponseNonce: m.Nonce}, now); err != nil {
			b.Fatal(err)
		}
	}
	return resources
}

// A stream that is in step keeps no more for a thousand services than for one.
func TestMemoryOfStreamInStep(t *testing.T) {
	const streams, limit = 50, 4 << 10
	cfg := streamConfig("test")
	shared := NewLayer(everything(1000, "1"))
	now := time.Now()
	var kept []*delta.Stream
	for range 4 { // they pay for what is shared, indexes of names included
		kept = append(kept, inStep(t, cfg, NewSet(1, shared), now))
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for range streams {
		kept = append(kept, inStep(t, cfg, NewSet(1, shared), now))
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	per := (int64(after.HeapAlloc) - int64(before.HeapAlloc)) / streams
	t.Logf("%d bytes per stream", per)
	if per > limit {
		t.Errorf("a stream keeps %d bytes, want at most %d", per, limit)
	}
	if kept[len(kept)-1].Delivered() != 1 {
		t.Error("not in step")
	}
}

func BenchmarkFirstDelivery(b *testing.B) {
	cfg := streamConfig("test")
	set := NewSet(1, NewLayer(everything(1000, "1")), NewLayer(layer(Listeners, res("own", "1"))))
	keep := inStep(b, cfg, set, time.Now())
	b.ReportAllocs()
	for b.Loop() {
		inStep(b, cfg, set, time.Now())
	}
	runtime.KeepAlive(keep)
}

// One endpoint of a thousand changes: the cost for one stream.
func BenchmarkEndpointChange(b *testing.B) {
	for _, n := range []int{100, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			all := NewLayer(everything(n, "1"))
			own := NewLayer(layer(Listeners, res("own", "1")))
			name := ""
			for r := range all.Type(Endpoints).All() {
				name = r.Name
			}
			now := time.Now()
			s := inStep(b, streamConfig("test"), NewSet(1, all, own), now)
			b.ReportAllocs()
			rev := uint64(1)
			for b.Loop() {
				rev++
				all = all.With(layer(Endpoints, res(name, fmt.Sprint(rev))))
				set := NewSet(rev, all, own)
				for t := range NumTypes {
					s.Want(int(t), set.Source(t))
				}
				s.At(rev)
				if n := drain(b, s, now); n != 1 {
					b.Fatalf("%d resources", n)
				}
			}
		})
	}
}

// A first response of a thousand clusters, encoded for one stream.
func BenchmarkMarshal(b *testing.B) {
	m := &delta.Message{URL: Clusters.URL(), Nonce: "1"}
	for r := range NewLayer(everything(1000, "1")).Type(Clusters).All() {
		m.Resources = append(m.Resources, r)
	}
	usual := encoding.GetCodecV2(encproto.Name)
	plain := m.Response()
	for name, f := range map[string]func() error{
		"shared":    func() error { _, err := (&codec{CodecV2: usual}).Marshal(m); return err },
		"copied":    func() error { buf, err := usual.Marshal(m); buf.Free(); return err },
		"generated": func() error { _, err := proto.Marshal(plain); return err },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := f(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// many serves one set to all proxies.
type many struct {
	set      atomic.Pointer[Set]
	mu       sync.Mutex
	sessions []*one
}

type one struct {
	*many
	changed chan struct{}
}

func (m *many) Open(context.Context, *core.Node, bool) (Session, error) {
	o := &one{m, make(chan struct{}, 1)}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sessions = append(m.sessions, o)
	return o, nil
}

func (o *one) Set() *Set                { return o.set.Load() }
func (o *one) Changed() <-chan struct{} { return o.changed }
func (o *one) Delivered(Report)         {}
func (o *one) Close(error)              {}

func (m *many) put(set *Set) {
	m.set.Store(set)
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, o := range m.sessions {
		wake(o.changed)
	}
}

// One changed endpoint, from a new set to the last of a hundred clients.
func BenchmarkClients(b *testing.B) {
	const clients = 100
	h := &many{}
	all := NewLayer(everything(100, "1"))
	h.set.Store(NewSet(1, all))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	server := grpc.NewServer(ServerOptions()...)
	NewServer(h, Options{}).Register(server)
	go server.Serve(l)
	defer server.Stop()
	cache := new(client.Cache)
	var list []*client.Client
	for i := range clients {
		conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			b.Fatal(err)
		}
		defer conn.Close()
		c := client.New(client.Options{
			Node:      &core.Node{Id: fmt.Sprint("mesh.p", i)},
			Subscribe: []string{Clusters.URL(), Endpoints.URL(), Listeners.URL(), Routes.URL()},
			Cache:     cache,
		})
		go c.Run(b.Context(), conn)
		list = append(list, c)
	}
	wait := func(name, version string) {
		for _, c := range list {
			if err := c.Wait(b.Context(), func(s *client.State) bool {
				return len(s.Has(Routes.URL())) == 100 && (name == "" || s.Has(Endpoints.URL())[name] == version)
			}); err != nil {
				b.Fatal(err)
			}
		}
	}
	wait("", "")
	name := ""
	for r := range all.Type(Endpoints).All() {
		name = r.Name
	}
	rev := uint64(1)
	for b.Loop() {
		rev++
		all = all.With(layer(Endpoints, res(name, fmt.Sprint(rev))))
		h.put(NewSet(rev, all))
		wait(name, fmt.Sprint(rev))
	}
}
