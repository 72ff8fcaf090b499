package delta_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	gcptypes "github.com/envoyproxy/go-control-plane/pkg/cache/types"
	gcpcache "github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	gcpdelta "github.com/envoyproxy/go-control-plane/pkg/server/delta/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/atoll-mesh/atoll/pkg/delta"
	"github.com/atoll-mesh/atoll/pkg/delta/client"
)

var oracleTypes = []string{client.ClusterURL, client.EndpointURL, client.ListenerURL, client.RouteURL}

// body makes a resource of a type whose content is its version.
func body(url, name, version string) proto.Message {
	switch url {
	case client.ClusterURL:
		return &cluster.Cluster{Name: name, AltStatName: version}
	case client.EndpointURL:
		return &endpoint.ClusterLoadAssignment{ClusterName: name, NamedEndpoints: map[string]*endpoint.Endpoint{version: {}}}
	case client.ListenerURL:
		return &listener.Listener{Name: name, StatPrefix: version}
	}
	return &route.RouteConfiguration{Name: name, ResponseHeadersToRemove: []string{version}}
}

// peer is a server that a test can talk to without a network.
type peer interface {
	request(*discovery.DeltaDiscoveryRequest)
	responses() [][]byte // what it sends now
	close()
}

// ours is a Stream.
type ours struct {
	t *testing.T
	s *delta.Stream
}

func (o *ours) request(req *discovery.DeltaDiscoveryRequest) {
	if err := o.s.Handle(req, time.Now()); err != nil {
		o.t.Fatal(err)
	}
}

// responses are all that come, also when gates expire: this client asks for types
// in any order, so that some wait for what it never asks for.
func (o *ours) responses() (out [][]byte) {
	for {
		for m := o.s.Next(time.Now()); m != nil; m = o.s.Next(time.Now()) {
			b, err := proto.Marshal(m)
			if err != nil {
				o.t.Fatal(err)
			}
			out = append(out, b)
		}
		at := o.s.Deadline(time.Now())
		if len(out) > 0 || at.IsZero() {
			return out
		}
		time.Sleep(time.Until(at)) // virtual
	}
}

func (o *ours) close() {}

// theirs is the server of go-control-plane.
type theirs struct {
	grpc.ServerStream
	ctx  context.Context
	end  context.CancelFunc
	in   chan *discovery.DeltaDiscoveryRequest
	mu   sync.Mutex
	sent [][]byte
}

func newTheirs(snapshots gcpcache.SnapshotCache) *theirs {
	s := &theirs{in: make(chan *discovery.DeltaDiscoveryRequest)}
	s.ctx, s.end = context.WithCancel(context.Background())
	server := gcpdelta.NewServer(s.ctx, snapshots, nil)
	go server.DeltaStreamHandler(s, "")
	return s
}

func (s *theirs) Context() context.Context { return s.ctx }

func (s *theirs) Recv() (*discovery.DeltaDiscoveryRequest, error) {
	select {
	case req := <-s.in:
		return req, nil
	case <-s.ctx.Done():
		return nil, io.EOF
	}
}

func (s *theirs) Send(r *discovery.DeltaDiscoveryResponse) error {
	b, err := proto.Marshal(r)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sent = append(s.sent, b)
	return nil
}

func (s *theirs) request(req *discovery.DeltaDiscoveryRequest) {
	req = proto.Clone(req).(*discovery.DeltaDiscoveryRequest)
	req.Node = &core.Node{Id: "n"}
	s.in <- req
	synctest.Wait()
}

func (s *theirs) responses() [][]byte {
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.sent
	s.sent = nil
	return out
}

func (s *theirs) close() {
	s.end()
	synctest.Wait()
}

// settle lets client and server talk until both are silent.
func settle(t *testing.T, c *client.State, p peer) {
	for range 1000 {
		requests := c.Requests()
		for _, req := range requests {
			p.request(req)
		}
		responses := p.responses()
		if len(requests)+len(responses) == 0 {
			return
		}
		for _, b := range responses {
			if err := c.Receive(b); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Fatal("client and server do not come to rest")
}

// The same random history against go-control-plane's server and against ours
// leaves a conforming client with the same resources, at every rest.
func TestSameAsGoControlPlane(t *testing.T) {
	independent := &delta.Config{}
	for _, url := range oracleTypes {
		independent.Types = append(independent.Types, delta.Type{URL: url})
	}
	phased := &delta.Config{
		Types: []delta.Type{
			{URL: client.ClusterURL, Required: true, Rearm: []int{1}, Uses: []int{1}},
			{URL: client.EndpointURL, Distrust: true},
			{URL: client.ListenerURL, Required: true, Uses: []int{0, 3}},
			{URL: client.RouteURL, Uses: []int{0}},
		},
		Phases: []delta.Phase{
			{Type: 0}, {Type: 1, Light: true}, {Type: 2, Wait: true}, {Type: 3, Wait: true},
			{Type: 2, Remove: true, Wait: true}, {Type: 3, Remove: true, Wait: true},
			{Type: 1, Remove: true, Wait: true}, {Type: 0, Remove: true, Wait: true},
		},
		Gate: 20 * time.Second, MaxBytes: 700, Names: new(delta.Pool),
	}
	for seed := range uint64(150) {
		for name, cfg := range map[string]*delta.Config{"independent": independent, "phased": phased} {
			t.Run(fmt.Sprint(name, seed), func(t *testing.T) {
				delta.SetFewest(t, 1+int(seed%6))
				synctest.Test(t, func(t *testing.T) { compare(t, cfg, rand.New(rand.NewPCG(seed, 7))) })
			})
		}
	}
}

func compare(t *testing.T, cfg *delta.Config, rnd *rand.Rand) {
	snapshots := gcpcache.NewSnapshotCache(false, gcpcache.IDHash{}, nil)
	tables := make([]*delta.Table, len(oracleTypes))
	a := client.NewState(client.Options{KeepBodies: true})
	b := client.NewState(client.Options{KeepBodies: true})
	var pa peer = newTheirs(snapshots)
	var pb peer = &ours{t, delta.New(cfg)}
	defer func() { pa.close() }()

	publish := func() {
		byType := map[string][]gcptypes.Resource{}
		for i, url := range oracleTypes {
			all := map[string]*delta.Resource{}
			for n := range 8 {
				name, version := fmt.Sprint("r", n), fmt.Sprint(rnd.IntN(3))
				if rnd.IntN(3) == 0 {
					continue
				}
				m := body(url, name, version)
				byType[url] = append(byType[url], m)
				value, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
				if err != nil {
					t.Fatal(err)
				}
				all[name] = delta.NewResource(name, version, url, value)
			}
			if rnd.IntN(4) == 0 {
				tables[i] = (*delta.Table)(nil).Becoming(all)
			} else {
				tables[i] = tables[i].Becoming(all)
			}
			pb.(*ours).s.Want(i, tables[i])
		}
		snapshot, err := gcpcache.NewSnapshot(fmt.Sprint(rnd.Uint64()), byType)
		if err != nil {
			t.Fatal(err)
		}
		if err := snapshots.SetSnapshot(t.Context(), "n", snapshot); err != nil {
			t.Fatal(err)
		}
	}
	publish()
	subscribed := map[string]map[string]bool{}
	// go-control-plane goes on counting as sent what a client forgot when it gave
	// up a wildcard. Until it reconnects, the two are not comparable on that type.
	narrowed := map[string]bool{}
	var history []string
	for range 40 {
		url := oracleTypes[rnd.IntN(len(oracleTypes))]
		name := fmt.Sprint("r", rnd.IntN(10))
		if rnd.IntN(4) == 0 {
			name = "*"
		}
		if subscribed[url] == nil {
			subscribed[url] = map[string]bool{}
		}
		switch op := rnd.IntN(10); {
		case op < 4:
			history = append(history, "publish")
			publish()
		case op < 7:
			if narrowed[url] || subscribed[url][name] && rnd.IntN(3) > 0 {
				continue
			}
			history = append(history, fmt.Sprint("subscribe ", url, name))
			subscribed[url][name] = true
			a.Subscribe(url, name)
			b.Subscribe(url, name)
		case op < 9:
			if !subscribed[url][name] {
				continue
			}
			history = append(history, fmt.Sprint("unsubscribe ", url, name))
			delete(subscribed[url], name)
			narrowed[url] = narrowed[url] || name == "*"
			a.Unsubscribe(url, name)
			b.Unsubscribe(url, name)
		default:
			history = append(history, "reconnect")
			clear(narrowed)
			pa.close()
			pa, pb = newTheirs(snapshots), &ours{t, delta.New(cfg)}
			for i := range tables {
				pb.(*ours).s.Want(i, tables[i])
			}
			a.Reconnect()
			b.Reconnect()
		}
		if rnd.IntN(3) == 0 {
			continue // more happens before anybody looks
		}
		settle(t, a, pa)
		settle(t, b, pb)
		for _, url := range oracleTypes {
			checkSame(t, url, a, b, history)
		}
	}
}

func checkSame(t *testing.T, url string, a, b *client.State, history []string) {
	t.Helper()
	for name := range a.Has(url) {
		if string(a.Body(url, name)) != string(b.Body(url, name)) {
			t.Fatalf("%s %s: theirs %q, ours %q\nafter %q", url, name, a.Body(url, name), b.Body(url, name), history)
		}
	}
	for name := range b.Has(url) {
		if _, ok := a.Has(url)[name]; !ok {
			t.Fatalf("%s %s: only we sent it\nafter %q", url, name, history)
		}
	}
}
