package kds

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
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

// stock is a hand-written zone that receives as the reference does: it states no
// versions, and takes the first response of a type as the complete list.
type stock struct {
	t      *testing.T
	stream meshv1.KDSSyncService_GlobalToZoneSyncClient
	zone   string
	held   map[string]map[string]string // type to name to version
	last   map[string]*discovery.DeltaDiscoveryResponse
	cancel context.CancelFunc
}

func newStock(t *testing.T, address, zone string, headers ...string) *stock {
	t.Helper()
	c, _ := dial(t, address)
	md := metadata.Pairs(append([]string{"client-id", zone, "features", "zone-ping-health", "features", "hash-suffix"}, headers...)...)
	ctx, cancel := context.WithCancel(metadata.NewOutgoingContext(context.Background(), md))
	t.Cleanup(cancel)
	s, err := c.GlobalToZoneSync(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return &stock{
		t: t, stream: s, zone: zone, held: map[string]map[string]string{},
		last: map[string]*discovery.DeltaDiscoveryResponse{}, cancel: cancel,
	}
}

func (s *stock) ask(typ resource.Type, versions map[string]string) {
	s.t.Helper()
	if err := s.stream.Send(&discovery.DeltaDiscoveryRequest{
		Node:    node(s.zone, "zone-cp", `{"store":{"type":"memory"}}`, Version{Version: "3.0.0"}),
		TypeUrl: string(typ), ResourceNamesSubscribe: []string{"*"}, InitialResourceVersions: versions,
	}); err != nil {
		s.t.Fatal(err)
	}
}

// take receives one response and acknowledges it.
func (s *stock) take() *discovery.DeltaDiscoveryResponse {
	s.t.Helper()
	resp, err := s.stream.Recv()
	if err != nil {
		s.t.Fatal(err)
	}
	if s.held[resp.TypeUrl] == nil {
		s.held[resp.TypeUrl] = map[string]string{}
	}
	for _, r := range resp.Resources {
		s.held[resp.TypeUrl][r.Name] = r.Version
	}
	for _, n := range resp.RemovedResources {
		delete(s.held[resp.TypeUrl], n)
	}
	s.last[resp.TypeUrl] = resp
	if err := s.stream.Send(&discovery.DeltaDiscoveryRequest{
		Node: &core.Node{Id: s.zone}, TypeUrl: resp.TypeUrl, ResponseNonce: resp.Nonce,
	}); err != nil {
		s.t.Fatal(err)
	}
	return resp
}

func TestStockZone(t *testing.T) {
	global := newSite(t, "").serve(nil, "g1")
	global.clusterID("one")
	for i := range 3000 { // far more than a chunk
		global.policy(fmt.Sprintf("policy-%d", i), strings.Repeat("x", 1000))
	}
	s := newStock(t, global.address, "east")
	s.ask(policyType, nil)
	s.ask(kind.MeshService, nil)
	s.ask("NotKnownHere", nil)
	for range 3 {
		s.take()
	}
	first := s.last[string(policyType)]
	if n := len(first.Resources); n != 3000 {
		t.Errorf("the first response has %d of 3000 resources", n)
	}
	if first.ControlPlane.GetIdentifier() != "global" || first.SystemVersionInfo == "" {
		t.Errorf("identifier %q, revision %q", first.ControlPlane.GetIdentifier(), first.SystemVersionInfo)
	}
	for _, typ := range []string{string(kind.MeshService), "NotKnownHere"} {
		if r := s.last[typ]; r == nil || len(r.Resources) != 0 || len(r.RemovedResources) != 0 {
			t.Errorf("%s was answered %v", typ, r)
		}
	}

	// Only what changed travels.
	p := global.policy("policy-7", "changed")
	resp := s.take()
	if len(resp.Resources) != 1 || resp.Resources[0].Name != copyOf(p).Name+".default" {
		t.Errorf("a change was sent as %d resources, %d removals", len(resp.Resources), len(resp.RemovedResources))
	}
	global.remove(p.ID)
	if resp = s.take(); len(resp.Resources) != 0 || len(resp.RemovedResources) != 1 {
		t.Errorf("a deletion was sent as %d resources, %d removals", len(resp.Resources), len(resp.RemovedResources))
	}

	// A peer that states what it holds gets nothing but the answer.
	held := s.held[string(policyType)]
	s.cancel()
	s = newStock(t, global.address, "east")
	s.ask(policyType, held)
	if resp := s.take(); len(resp.Resources) != 0 || len(resp.RemovedResources) != 0 {
		t.Errorf("resuming brought %d resources and %d removals", len(resp.Resources), len(resp.RemovedResources))
	}
	// One that is out of date gets exactly the difference.
	s.cancel()
	held[copyOf(p).Name+".default"] = "gone meanwhile"
	for name := range held {
		if strings.HasPrefix(name, "policy-100-") {
			delete(held, name)
		}
		if strings.HasPrefix(name, "policy-200-") {
			held[name] = "old"
		}
	}
	s = newStock(t, global.address, "east")
	s.ask(policyType, held)
	if resp := s.take(); len(resp.Resources) != 2 || len(resp.RemovedResources) != 1 {
		t.Errorf("resuming brought %d resources and %d removals, want 2 and 1", len(resp.Resources), len(resp.RemovedResources))
	}
}

func TestAtollZoneGetsChunks(t *testing.T) {
	global := newSite(t, "").serve(nil, "g1")
	for i := range 3000 {
		global.policy(fmt.Sprintf("policy-%d", i), strings.Repeat("x", 1000))
	}
	s := newStock(t, global.address, "east", "features", featureAtoll)
	s.ask(policyType, nil)
	responses := 0
	for len(s.held[string(policyType)]) < 3000 {
		resp := s.take()
		size := 0
		for _, r := range resp.Resources {
			size += len(r.Resource.Value)
		}
		if size > chunkBytes {
			t.Errorf("a response holds %d bytes", size)
		}
		responses++
	}
	if responses < 2 {
		t.Error("everything came in one response")
	}
}

// traffic counts the resources and removals that pass a zone's connection.
type traffic struct{ in, out, removed atomic.Int64 }

func (c *traffic) option() grpc.DialOption {
	return grpc.WithStreamInterceptor(func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string,
		streamer grpc.Streamer, opts ...grpc.CallOption,
	) (grpc.ClientStream, error) {
		s, err := streamer(ctx, desc, cc, method, opts...)
		return &countedStream{ClientStream: s, c: c}, err
	})
}

type countedStream struct {
	grpc.ClientStream
	c *traffic
}

func (s *countedStream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	if resp, ok := m.(*discovery.DeltaDiscoveryResponse); ok && err == nil {
		s.c.in.Add(int64(len(resp.Resources)))
		s.c.removed.Add(int64(len(resp.RemovedResources)))
	}
	return err
}

func (s *countedStream) SendMsg(m any) error {
	if msg, ok := m.(*delta.Message); ok {
		s.c.out.Add(int64(len(msg.Resources)))
		s.c.removed.Add(int64(len(msg.Removed)))
	}
	return s.ClientStream.SendMsg(m)
}

func TestReconnectSendsDifferences(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	gs := newSite(t, "")
	global := gs.serveOn(l, nil, "g1")
	global.clusterID("one")
	for i := range 50 {
		global.policy(fmt.Sprintf("policy-%d", i), "a")
	}
	east := newSite(t, "east")
	for i := range 20 {
		east.write(east.id(kind.MeshService, "default", fmt.Sprintf("svc-%d", i)), &kind.MeshServiceSpec{}, nil)
	}
	_, leave := east.join(address, nil)
	east.until("50 policies", func(s *view.Snapshot) bool { return s.Count(policyType, "") == 50 })
	global.until("20 services", func(s *view.Snapshot) bool { return s.Count(kind.MeshService, "") == 20 })
	leave()
	before := [2]uint64{uint64(east.view.Snapshot().Revision()), uint64(global.view.Snapshot().Revision())}

	// Meanwhile each side changes one, deletes one and adds one.
	changed := global.policy("policy-1", "b")
	gone := global.policy("policy-2", "a")
	global.remove(gone.ID)
	added := global.policy("policy-new", "c")
	svc := east.write(east.id(kind.MeshService, "default", "svc-1"), &kind.MeshServiceSpec{State: kind.ServiceAvailable}, nil)
	lost := east.view.Snapshot().Get(east.id(kind.MeshService, "default", "svc-2"))
	east.remove(lost.ID)

	global.halt()
	again, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	global = gs.serveOn(again, nil, "g2")
	_, leave = east.join(address, nil)
	east.untilEqual(copyOf(changed), &policySpec{Value: "b"})
	east.untilHas(copyOf(added))
	east.untilLacks(copyOf(gone))
	global.untilEqual(copyOf(svc), &kind.MeshServiceSpec{State: kind.ServiceAvailable})
	global.untilLacks(copyOf(lost))
	leave()

	// What was equal was not written again: the version of a row tells.
	for o := range east.view.Snapshot().List(policyType, "") {
		if o.Version > before[0] && o.Name != copyOf(changed).Name && o.Name != copyOf(added).Name {
			t.Errorf("%s was written again", o.ID)
		}
	}
	for o := range global.view.Snapshot().List(kind.MeshService, "") {
		if o.Version > before[1] && o.Name != copyOf(svc).Name {
			t.Errorf("%s was written again", o.ID)
		}
	}
}

// TestResumeIsSilent counts what travels when nothing changed.
func TestResumeIsSilent(t *testing.T) {
	global := newSite(t, "").serve(nil, "g1")
	global.clusterID("one")
	for i := range 50 {
		global.policy(fmt.Sprintf("policy-%d", i), "a")
	}
	global.secret("default", "cert", []byte("pem"))
	east := newSite(t, "east")
	east.write(east.id(kind.MeshService, "default", "svc"), &kind.MeshServiceSpec{}, nil)
	east.write(east.id(kind.Dataplane, "default", "dp"), &meshv1.Dataplane{Networking: &meshv1.Dataplane_Networking{
		Address: "127.0.0.1", Inbound: []*meshv1.Dataplane_Networking_Inbound{{Port: 80}},
	}}, nil)
	for round, want := range []struct{ in, out int64 }{{52, 2}, {0, 0}} {
		var c traffic
		zone, leave := east.join(global.address, func(cfg *ZoneConfig) { cfg.Dial = append(cfg.Dial, c.option()) })
		untilInStep(t, global.g, zone, "east")
		leave()
		if c.in.Load() != want.in || c.out.Load() != want.out || c.removed.Load() != 0 {
			t.Errorf("round %d: %d resources down, %d up, %d removals; want %d, %d, 0", round, c.in.Load(), c.out.Load(), c.removed.Load(), want.in, want.out)
		}
	}
}

// TestDriftIsRepaired changes a copy behind the back of sync.
func TestDriftIsRepaired(t *testing.T) {
	global := newSite(t, "").serve(nil, "g1")
	global.clusterID("one")
	p := global.policy("p", "right")
	east := newSite(t, "east")
	_, leave := east.join(global.address, nil)
	copied := east.untilHas(copyOf(p))
	leave()
	wrong, err := copied.Kind.New(copied.Meta, &policySpec{Value: "wrong"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	east.put(wrong)
	east.join(global.address, nil)
	east.untilEqual(copyOf(p), &policySpec{Value: "right"})
}

// untilInStep waits until both sides say that nothing is missing.
func untilInStep(t *testing.T, g *Global, z *Zone, name string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for !inStep(g.Status(name)) || !inStep(z.Status(name)) {
		if sleep(ctx, time.Millisecond) != nil {
			t.Fatalf("never in step: %v\n%v", g.Status(name), z.Status(name))
		}
	}
}

// inStep: both directions have all and said so.
func inStep(s *systemv1.ZoneSync) bool {
	for _, d := range []*systemv1.SyncDirection{s.GetGlobalToZone(), s.GetZoneToGlobal()} {
		if d.GetGlobalRevision() == 0 || d.GetGlobalRevision() != d.GetAppliedRevision() || d.GetLagSeconds() != 0 {
			return false
		}
	}
	return true
}
