package kds

import (
	"net"
	"slices"
	"strconv"
	"sync"
	"testing"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	meshv1 "github.com/atoll-mesh/atoll/api/kuma/mesh/v1alpha1"
	systemv1 "github.com/atoll-mesh/atoll/api/kuma/system/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/delta"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/view"
)

// stockGlobal is a hand-written global as the reference is: no headers, no
// revisions, one complete response per type, no health checks. It says its
// cluster id only when it is let.
type stockGlobal struct {
	meshv1.UnimplementedKDSSyncServiceServer
	meshv1.UnimplementedGlobalKDSServiceServer
	honours bool // the versions that a zone states
	have    map[resource.Type][]*delta.Resource
	mayTell chan struct{} // closed: it sends Config

	mu     sync.Mutex
	header metadata.MD
	nodes  map[string]bool // types whose first request had node metadata
	nacks  []string
	ids    []string // of nodes in answers
	acked  chan string
}

func serveStock(t *testing.T, g *stockGlobal) string {
	t.Helper()
	g.mayTell, g.nodes, g.acked = make(chan struct{}), map[string]bool{}, make(chan string, 100)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer()
	meshv1.RegisterKDSSyncServiceServer(srv, g)
	meshv1.RegisterGlobalKDSServiceServer(srv, g)
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(srv.Stop)
	return l.Addr().String()
}

func (g *stockGlobal) GlobalToZoneSync(s meshv1.KDSSyncService_GlobalToZoneSyncServer) error {
	md, _ := metadata.FromIncomingContext(s.Context())
	g.mu.Lock()
	g.header = md
	g.mu.Unlock()
	var sending sync.Mutex
	nonce := 0
	reply := func(req *discovery.DeltaDiscoveryRequest) {
		sending.Lock()
		defer sending.Unlock()
		nonce++
		resp := &discovery.DeltaDiscoveryResponse{TypeUrl: req.TypeUrl, Nonce: strconv.Itoa(nonce)}
		present := map[string]bool{}
		for _, r := range g.have[resource.Type(req.TypeUrl)] {
			present[r.Name] = true
			if !g.honours || req.InitialResourceVersions[r.Name] != r.Version {
				resp.Resources = append(resp.Resources, &discovery.Resource{Name: r.Name, Version: r.Version, Resource: r.Body})
			}
		}
		for name := range req.InitialResourceVersions {
			if g.honours && !present[name] {
				resp.RemovedResources = append(resp.RemovedResources, name)
			}
		}
		_ = s.Send(resp)
	}
	for {
		req, err := s.Recv()
		if err != nil {
			return nil
		}
		if req.ResponseNonce != "" {
			g.mu.Lock()
			g.ids = append(g.ids, req.GetNode().GetId())
			if req.ErrorDetail != nil {
				g.nacks = append(g.nacks, req.TypeUrl)
			}
			g.mu.Unlock()
			g.acked <- req.TypeUrl
			continue
		}
		f := req.GetNode().GetMetadata().GetFields()
		g.mu.Lock()
		g.nodes[req.TypeUrl] = f["control-plane-id"] != nil && f["config"] != nil && f["version"] != nil && f["features"] != nil
		g.mu.Unlock()
		if req.TypeUrl == string(kind.Config) {
			go func() {
				select {
				case <-g.mayTell:
					reply(req)
				case <-s.Context().Done():
				}
			}()
			continue
		}
		reply(req)
	}
}

func TestStockGlobal(t *testing.T) {
	send := func(o *resource.Object) *delta.Resource {
		e, err := toZone(shape{hash: true}, nil, nil)(o)
		if err != nil {
			t.Fatal(err)
		}
		return e.res
	}
	kept := object(t, policyType, "default", "kept", nil, &policySpec{Value: "a"})
	added := object(t, policyType, "default", "added", nil, &policySpec{Value: "b"})
	cluster := object(t, kind.Config, "", kind.ClusterID, nil, &systemv1.Config{Config: "one"})
	for _, honours := range []bool{true, false} {
		east := newSite(t, "east")
		// What it got from this global earlier.
		zoneCopy := func(o *resource.Object) *resource.Object {
			res := send(o)
			p, err := decode(o.Kind, res.Name, res.Body)
			if err != nil {
				t.Fatal(err)
			}
			c, err := o.Kind.FromWire(resource.Meta{ID: p.id(), Labels: p.labels}, p.spec, nil)
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		gone := zoneCopy(object(t, policyType, "default", "gone", nil, &policySpec{Value: "c"}))
		east.put(zoneCopy(kept), gone)
		own := east.policy("own", "mine")
		east.put(object(t, kind.Config, "", GlobalIdentity, map[string]string{}, &systemv1.Config{Config: `{"clusterId":"one","revision":9}`}))

		g := &stockGlobal{honours: honours, have: map[resource.Type][]*delta.Resource{
			policyType: {send(kept), send(added)}, kind.Config: {send(cluster)},
		}}
		address := serveStock(t, g)
		east.join(address, nil)
		east.untilHas(copyOf(added))
		for typ := range g.acked { // the policies are dealt with
			if typ == string(policyType) {
				break
			}
		}
		if east.view.Snapshot().Get(gone.ID) == nil {
			t.Errorf("honours %v: deleted before the global said who it is", honours)
		}
		close(g.mayTell)
		east.untilLacks(gone.ID)
		if s := east.view.Snapshot(); s.Get(own.ID) == nil || s.Get(copyOf(kept)) == nil {
			t.Errorf("honours %v: too much was deleted", honours)
		}
		g.mu.Lock()
		if len(g.nacks) > 0 {
			t.Errorf("honours %v: rejected %v", honours, g.nacks)
		}
		if slices.ContainsFunc(g.ids, func(id string) bool { return id != "east" }) {
			t.Errorf("answers came from %v", g.ids)
		}
		for typ, ok := range g.nodes {
			if !ok {
				t.Errorf("the first request of %s lacks node metadata", typ)
			}
		}
		if h := g.header; !slices.Equal(h["client-id"], []string{"east"}) || h["kds-version"][0] != "v3" || h["zone-version"][0] != "v3" ||
			!slices.Contains(h["features"], "hash-suffix") || !slices.Contains(h["features"], "zone-ping-health") || h["version"][0] != "3.0.0" {
			t.Errorf("headers %v", h)
		}
		g.mu.Unlock()
	}
}

func (g *stockGlobal) ZoneToGlobalSync(s meshv1.KDSSyncService_ZoneToGlobalSyncServer) error {
	<-s.Context().Done()
	return nil
}

// TestPartition cuts the connection while both sides change, without either
// noticing at first.
func TestPartition(t *testing.T) {
	global := newSite(t, "").serve(nil, "g1")
	global.clusterID("one")
	wire := newWire(t, global.address)
	east := newSite(t, "east")
	east.join(wire.address, nil)
	p := global.policy("p", "a")
	east.untilHas(copyOf(p))

	wire.cut()
	p = global.policy("p", "b")
	svc := east.write(east.id(kind.MeshService, "default", "s"), &kind.MeshServiceSpec{}, nil)
	global.until("the zone is offline", func(s *view.Snapshot) bool {
		return offline(s, "east")
	})
	wire.mend()
	east.untilEqual(copyOf(p), &policySpec{Value: "b"})
	global.untilHas(copyOf(svc))
}

// wire is a network between a zone and its global that can be cut.
type wire struct {
	address string
	target  string
	mu      sync.Mutex
	broken  bool
	conns   []net.Conn
}

func newWire(t *testing.T, target string) *wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{address: l.Addr().String(), target: target}
	t.Cleanup(func() { l.Close(); w.cut() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			w.join(c)
		}
	}()
	return w
}

func (w *wire) join(c net.Conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	d, err := net.Dial("tcp", w.target)
	if err != nil || w.broken {
		c.Close()
		return
	}
	w.conns = append(w.conns, c, d)
	go pipe(c, d)
	go pipe(d, c)
}

func pipe(to, from net.Conn) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if err != nil {
			to.Close()
			return
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.broken = true
	for _, c := range w.conns {
		c.Close()
	}
	w.conns = nil
}

func (w *wire) mend() {
	w.mu.Lock()
	w.broken = false
	w.mu.Unlock()
}
