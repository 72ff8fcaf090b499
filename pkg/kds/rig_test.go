package kds

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	meshv1 "github.com/atoll-mesh/atoll/api/kuma/mesh/v1alpha1"
	systemv1 "github.com/atoll-mesh/atoll/api/kuma/system/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/auth"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/store"
	"github.com/atoll-mesh/atoll/pkg/store/memory"
	"github.com/atoll-mesh/atoll/pkg/view"
)

const policyType resource.Type = "TestPolicy"

type policySpec struct {
	Value string     `json:"value,omitempty"`
	To    []policyTo `json:"to,omitempty"`
}

type policyTo struct {
	TargetRef targetRef `json:"targetRef"`
}

type targetRef struct {
	Kind   string            `json:"kind"`
	Labels map[string]string `json:"labels,omitempty"`
}

func testKinds() *resource.Kinds {
	policy := resource.Define[policySpec, resource.NoStatus](resource.Kind{
		Names:  resource.Names{Type: policyType, Plural: "testpolicies", Single: "testpolicy", Short: "tp"},
		Scope:  resource.ScopeMesh,
		Flows:  resource.GlobalToZone | resource.ZoneToGlobal | resource.AcrossZones,
		Policy: &resource.PolicyInfo{HasTo: true},
		Validate: func(o *resource.Object) resource.FieldErrors {
			var errs resource.FieldErrors
			if resource.SpecOf[policySpec](o).Value == "bad" {
				errs.Add("spec.value", "must not be bad")
			}
			return errs
		},
	})
	return resource.NewKinds(append(kind.All(), policy)...)
}

// site is one control plane without its API: a store and a view that follows it.
type site struct {
	t     *testing.T
	name  string // of the zone; empty: a global
	store *memory.Store
	view  *view.View
	log   *slog.Logger
	stop  func()
}

func newSite(t *testing.T, zone string) *site {
	t.Helper()
	return siteOn(t, zone, memory.Open())
}

func siteOn(t *testing.T, zone string, st *memory.Store) *site {
	t.Helper()
	log := slog.New(slog.NewTextHandler(logWriter{t, zone}, &slog.HandlerOptions{Level: slog.LevelError}))
	where := resource.Site{Global: zone == "", Federated: zone != "", Zone: zone, Env: resource.EnvUniversal}
	s := &site{t: t, name: zone, store: st, view: view.New(testKinds(), where, log), log: log}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = view.Follow(ctx, s.store, s.view) }()
	s.stop = func() { cancel(); <-done }
	t.Cleanup(s.stop)
	<-s.view.Loaded()
	if zone != "" { // as the control plane of a zone does at its start
		s.write(s.id(kind.Zone, "", zone), &systemv1.Zone{}, nil)
	}
	return s
}

type logWriter struct {
	t    *testing.T
	name string
}

func (w logWriter) Write(b []byte) (int, error) {
	fmt.Printf("[%s %s] %s", w.t.Name(), w.name, b)
	return len(b), nil
}

func (s *site) id(t resource.Type, mesh, name string) resource.ID {
	return resource.ID{Type: t, Mesh: mesh, Name: name}
}

// write stores an object as the API would, and waits until the view has it.
func (s *site) write(id resource.ID, spec any, labels map[string]string) *resource.Object {
	s.t.Helper()
	k := s.view.Kinds().ByType(id.Type)
	o, err := k.New(resource.Meta{ID: id, Labels: s.view.Site().ComputeLabels(k, id.Name, id.Mesh, labels)}, spec, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	s.put(o)
	return o
}

func (s *site) put(objects ...*resource.Object) {
	s.t.Helper()
	var ops []store.Op
	for _, o := range objects {
		ops = append(ops, store.Put(o, store.Any, "test"))
	}
	s.do(ops...)
}

func (s *site) remove(id resource.ID) {
	s.t.Helper()
	s.do(store.Delete(id, store.Any, "test"))
}

func (s *site) do(ops ...store.Op) {
	s.t.Helper()
	rev, err := s.store.Write(context.Background(), ops...)
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err := s.view.Wait(context.Background(), rev); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) policy(name, value string) *resource.Object {
	s.t.Helper()
	return s.write(s.id(policyType, "default", name), &policySpec{Value: value}, nil)
}

func (s *site) clusterID(id string) {
	s.t.Helper()
	s.write(s.id(kind.Config, "", kind.ClusterID), &systemv1.Config{Config: id}, nil)
}

func (s *site) secret(mesh, name string, data []byte) {
	s.t.Helper()
	typ := kind.Secret
	if mesh == "" {
		typ = kind.GlobalSecret
	}
	s.write(s.id(typ, mesh, name), &systemv1.Secret{Data: wrapperspb.Bytes(data)}, nil)
}

// patience bounds waits for what comes in milliseconds, on a machine that does
// much else.
const patience = 30 * time.Second

// until waits for snapshots until one satisfies ok.
func (s *site) until(what string, ok func(*view.Snapshot) bool) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	sub := s.view.Subscribe()
	defer sub.Close()
	for {
		if ok(s.view.Snapshot()) {
			return
		}
		select {
		case <-sub.C():
		case <-ctx.Done():
			s.t.Fatalf("waited in vain at %q for: %s\nit has:\n%s", s.name, what, s.dump())
		}
	}
}

func (s *site) untilHas(id resource.ID) *resource.Object {
	s.t.Helper()
	s.until(id.String(), func(snap *view.Snapshot) bool { return snap.Get(id) != nil })
	return s.view.Snapshot().Get(id)
}

func (s *site) untilLacks(id resource.ID) {
	s.t.Helper()
	s.until("no "+id.String(), func(snap *view.Snapshot) bool { return snap.Get(id) == nil })
}

// copyOf is the ID under which another control plane has a resource.
func copyOf(o *resource.Object) resource.ID {
	id := o.ID
	id.Name = o.SyncedName()
	return id
}

func (s *site) untilEqual(id resource.ID, spec any) {
	s.t.Helper()
	s.until(fmt.Sprintf("%s with %v", id, spec), func(snap *view.Snapshot) bool {
		o := snap.Get(id)
		if o == nil {
			return false
		}
		if m, ok := spec.(proto.Message); ok {
			return proto.Equal(m, o.Spec.(proto.Message))
		}
		return fmt.Sprint(o.Spec) == fmt.Sprint(spec)
	})
}

func (s *site) dump() string {
	var b strings.Builder
	for k := range s.view.Kinds().All() {
		for o := range s.view.Snapshot().List(k.Type, "") {
			fmt.Fprintf(&b, "  %s %v %s\n", o.ID, o.Labels, o.SpecWire())
		}
	}
	return b.String()
}

// globalSite is a serving global.
type globalSite struct {
	*site
	g       *Global
	address string
	halt    func()
}

func (s *site) serve(tokens *auth.Tokens, instance string) *globalSite {
	s.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	return s.serveOn(l, tokens, instance)
}

func (s *site) serveOn(l net.Listener, tokens *auth.Tokens, instance string) *globalSite {
	s.t.Helper()
	g := NewGlobal(GlobalConfig{
		View: s.view, Store: s.store, Tokens: tokens, InstanceID: instance, FlushInterval: 20 * time.Millisecond,
		Version: Version{Product: "Atoll", Version: "3.0.0"}, Log: s.log,
		Admit: func(zone string, o *resource.Object) error {
			if o.Labels["not-from"] == zone {
				return errors.New("this zone may not say that")
			}
			return nil
		},
	})
	srv := grpc.NewServer(g.ServerOptions()...)
	g.Register(srv)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = g.Run(ctx) }()
	go func() { _ = srv.Serve(l) }()
	stopped := false
	gs := &globalSite{site: s, g: g, address: l.Addr().String()}
	gs.halt = func() {
		if !stopped {
			stopped = true
			srv.Stop()
			cancel()
			<-done
		}
	}
	s.t.Cleanup(gs.halt)
	return gs
}

// join connects a zone. The function returned disconnects it.
func (s *site) join(address string, change func(*ZoneConfig)) (*Zone, func()) {
	s.t.Helper()
	cfg := ZoneConfig{
		View: s.view, Store: s.store, Name: s.name, Address: "grpc://" + address, InstanceID: s.name + "-1",
		Version: Version{Product: "Atoll", Version: "3.0.0"}, Config: `{"store":{"type":"memory"}}`,
		FlushInterval: 20 * time.Millisecond, Log: s.log,
	}
	if change != nil {
		change(&cfg)
	}
	z, err := NewZone(cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = z.Run(ctx) }()
	left := false
	leave := func() {
		if !left {
			left = true
			cancel()
			<-done
		}
	}
	s.t.Cleanup(leave)
	return z, leave
}

// dial connects as a hand-written peer.
func dial(t *testing.T, address string) (meshv1.KDSSyncServiceClient, meshv1.GlobalKDSServiceClient) {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return meshv1.NewKDSSyncServiceClient(conn), meshv1.NewGlobalKDSServiceClient(conn)
}

// offline tells whether a zone was connected and no longer is.
func offline(s *view.Snapshot, zone string) bool {
	o := s.Get(insightID(zone))
	if o == nil {
		return false
	}
	i := resource.SpecOf[systemv1.ZoneInsight](o)
	return len(i.Subscriptions) > 0 && !kind.ZoneOnline(i)
}
