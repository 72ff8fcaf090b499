// Package traffic lets tests send traffic through a real Envoy that is served by
// the compiler, and change policies under it. Endpoints are servers of the test:
// they answer as the proxy of a service would, so that a test sees what a client
// does to them. Every Envoy is waited for, never slept for.
package traffic

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/grpc"
	"sigs.k8s.io/yaml"

	"github.com/atoll-mesh/atoll/pkg/compile"
	"github.com/atoll-mesh/atoll/pkg/envoy/envoytest"
	"github.com/atoll-mesh/atoll/pkg/identity"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/policy/all"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/store"
	"github.com/atoll-mesh/atoll/pkg/view"
	"github.com/atoll-mesh/atoll/pkg/xds"
	"github.com/atoll-mesh/atoll/test/fields"
	"github.com/atoll-mesh/atoll/test/ports"
)

// Applied notes which fields of policies the tests of this package set.
var Applied = fields.Recorder{Kinds: fields.Policies()}

var (
	site  = resource.Site{Zone: "east", Env: resource.EnvUniversal}
	epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
)

// Mesh is a view that the test writes to, an engine behind an ADS server, and
// the Envoys that it serves. Its methods are for one goroutine.
type Mesh struct {
	t     testing.TB
	ctx   context.Context
	kinds *resource.Kinds
	view  *view.View
	e     *compile.Engine
	rev   store.Revision
	port  int

	ca         *identity.CA // once there are identities
	redirected map[string]*compile.TransparentProxy
	client     []string // outbounds of the Dataplane "client"
	inbound    int      // its inbound
	listening  map[int]bool

	mu      sync.Mutex
	moved   chan struct{} // closed and replaced when a proxy reported
	proxies map[string]*session
}

type session struct {
	*compile.Proxy
	m        *Mesh
	reported xds.Report // guarded by m.mu
}

// Start runs a mesh until the test ends, at most for three minutes, without Envoys.
func Start(t testing.TB) *Mesh {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	kinds := kind.All()
	for _, d := range all.Policies() {
		kinds = append(kinds, d.Kind())
	}
	m := &Mesh{
		t: t, ctx: ctx, kinds: resource.NewKinds(kinds...), listening: map[int]bool{},
		moved: make(chan struct{}), proxies: map[string]*session{},
	}
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	m.view = view.New(m.kinds, site, log)
	m.e = compile.New(compile.Config{View: m.view, Policies: all.Policies(), Log: log})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	xds.NewServer(m, xds.Options{}).Register(s)
	var wg sync.WaitGroup
	wg.Go(func() { _ = m.e.Run(ctx) })
	wg.Go(func() { _ = s.Serve(l) })
	t.Cleanup(func() { cancel(); s.Stop(); wg.Wait() })
	m.port = l.Addr().(*net.TCPAddr).Port
	return m
}

// Open implements xds.Handler.
func (m *Mesh) Open(_ context.Context, node *core.Node, _ bool) (xds.Session, error) {
	_, name, _ := strings.Cut(node.GetId(), ".")
	id := resource.ID{Type: kind.Dataplane, Mesh: "default", Name: name}
	m.mu.Lock()
	redirect := m.redirected[name]
	m.mu.Unlock()
	s := &session{Proxy: m.e.Attach(compile.ProxyInfo{ID: id, TransparentProxy: redirect}), m: m}
	m.mu.Lock()
	m.proxies[name] = s
	m.mu.Unlock()
	return s, nil
}

func (s *session) Close(error) { s.Detach() }

func (s *session) Delivered(r xds.Report) {
	s.m.mu.Lock()
	s.reported = r
	close(s.m.moved)
	s.m.moved = make(chan struct{})
	s.m.mu.Unlock()
}

// Envoy starts the proxy of a Dataplane that was applied. stat returns one of its
// counters and gauges.
func (m *Mesh) Envoy(name string) (stat func(name string) int) {
	m.mu.Lock()
	m.proxies[name] = nil // expected
	m.mu.Unlock()
	return envoytest.Start(m.t, "default."+name, "127.0.0.1", m.port)
}

// Redirected starts the proxy of a Dataplane that was applied, as if all that its
// workload connects to were redirected to the port that it returns. Instead of
// the kernel the test says where a connection was going, by a line of the PROXY
// protocol at its beginning.
func (m *Mesh) Redirected(t testing.TB, name string) (port int) {
	t.Helper()
	in, out := freePort(t), freePort(t)
	m.mu.Lock()
	m.redirected = map[string]*compile.TransparentProxy{name: {InboundPort: uint32(in), OutboundPort: uint32(out)}}
	m.mu.Unlock()
	m.Apply(t, `
type: MeshProxyPatch
name: redirected
spec:
  default:
    appendModifications:
    - listener:
        operation: Patch
        match: {name: self_transparentproxy_passthrough_outbound_ipv4}
        jsonPatches:
        - op: add
          path: /listenerFilters/0
          value:
            name: envoy.filters.listener.proxy_protocol
            typedConfig: {'@type': type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol}`)
	m.Envoy(name)
	m.Listening(t, out)
	return out
}

// Apply writes resources, separated by ---, in one commit and waits until every
// Envoy has taken what follows from it.
func (m *Mesh) Apply(t testing.TB, docs string) {
	t.Helper()
	var changes []store.Change
	for doc := range strings.SplitSeq(docs, "\n---\n") {
		Applied.Applied(t, doc)
		o := m.decode(t, doc)
		r := store.Put(o, store.Any, "test").Record
		r.Version, r.Created, r.Modified = m.rev+1, epoch, epoch
		changes = append(changes, store.Change{ID: o.ID, Record: &r})
	}
	m.commit(t, changes)
}

// Remove deletes a resource of the mesh, and waits as Apply does.
func (m *Mesh) Remove(t testing.TB, typ resource.Type, name string) {
	t.Helper()
	m.commit(t, []store.Change{{ID: resource.ID{Type: typ, Mesh: "default", Name: name}}})
}

func (m *Mesh) commit(t testing.TB, changes []store.Change) {
	t.Helper()
	m.rev++
	m.view.Commit([]store.Commit{{Revision: m.rev, Time: epoch, Changes: changes}})
	m.Live(t)
}

func (m *Mesh) decode(t testing.TB, doc string) *resource.Object {
	t.Helper()
	js, err := yaml.YAMLToJSON([]byte(doc))
	if err != nil {
		t.Fatalf("%v in:\n%s", err, doc)
	}
	var head struct {
		Type   resource.Type
		Status json.RawMessage
	}
	if err := json.Unmarshal(js, &head); err != nil {
		t.Fatal(err)
	}
	k := m.kinds.ByType(head.Type)
	if k == nil {
		t.Fatalf("kind %q is not known, in:\n%s", head.Type, doc)
	}
	o, err := k.DecodeJSON(js)
	if err == nil && k.Validate != nil {
		err = k.Validate(o).Err()
	}
	if err != nil {
		t.Fatalf("%v in:\n%s", err, doc)
	}
	meta := o.Meta
	meta.Mesh, meta.Created = "default", epoch
	if meta.Labels[resource.LabelOrigin] != resource.OriginGlobal { // else it came by sync
		meta.Labels = site.ComputeLabels(k, meta.Name, meta.Mesh, meta.Labels)
	}
	var status any
	if head.Status != nil {
		status = k.NewStatus()
		if err := json.Unmarshal(head.Status, status); err != nil {
			t.Fatal(err)
		}
	}
	if o, err = k.New(meta, o.Spec, status); err != nil {
		t.Fatal(err)
	}
	return o
}

// Live waits until every Envoy has acknowledged all that was written.
func (m *Mesh) Live(t testing.TB) {
	t.Helper()
	if err := m.e.Wait(m.ctx, m.rev); err != nil {
		t.Fatal(err)
	}
	for {
		m.mu.Lock()
		moved, waiting := m.moved, ""
		for name, s := range m.proxies {
			switch {
			case s == nil || s.Set() == nil || s.reported.Revision < s.Set().Revision:
				waiting = name
			case len(s.reported.Rejections) > 0:
				t.Fatalf("Envoy %s refuses: %+v", name, s.reported.Rejections)
			}
		}
		m.mu.Unlock()
		if waiting == "" {
			return
		}
		select {
		case <-moved:
		case <-m.ctx.Done():
			t.Fatalf("Envoy %s did not acknowledge revision %d", waiting, m.rev)
		}
	}
}

// Service makes a MeshService with one port and an endpoint for each port that
// servers of the test listen on, with the labels given by place, and an outbound
// of the client. It returns the address where the client's Envoy listens for it.
func (m *Mesh) Service(t testing.TB, name, protocol string, labels []string, ports ...int) string {
	t.Helper()
	docs := []string{fmt.Sprintf(`
type: MeshService
name: %s
labels: {app: %[1]s}
spec:
  selector: {dataplaneLabels: {matchLabels: {app: %[1]s}}}
  ports: [{port: 80, name: main, targetPort: main, appProtocol: %[2]s}]`, name, protocol)}
	for i, port := range ports {
		more := ""
		if i < len(labels) {
			more = ", " + labels[i]
		}
		docs = append(docs, fmt.Sprintf(`
type: Dataplane
name: %s-%d
labels: {app: %[1]s%[3]s}
networking: {address: 127.0.0.1, inbound: [{port: %[4]d, name: main, protocol: %[5]s}]}`, name, i, more, port, protocol))
	}
	out := freePort(t)
	m.client = append(m.client, fmt.Sprintf("{port: %d, backendRef: {kind: MeshService, name: %s, port: 80}}", out, name))
	m.Apply(t, strings.Join(append(docs, m.clientDataplane(t)), "\n---\n"))
	m.Listening(t, out)
	return fmt.Sprintf("127.0.0.1:%d", out)
}

// Client starts the Envoy of the client, a Dataplane with the labels client: it
// and rack: r1.
func (m *Mesh) Client(t testing.TB) {
	t.Helper()
	m.client, m.inbound = nil, freePort(t)
	m.Apply(t, m.clientDataplane(t))
	m.Envoy("client")
	m.Live(t)
}

func (m *Mesh) clientDataplane(t testing.TB) string {
	return fmt.Sprintf(`
type: Dataplane
name: client
labels: {app: client, rack: r1, kuma.io/workload: client}
networking:
  address: 127.0.0.1
  inbound: [{port: %d, name: main, protocol: tcp}]
  outbound: [%s]`, m.inbound, strings.Join(m.client, ", "))
}

// Listening waits until Envoy accepts connections at a port of this host: it
// acknowledges a listener before that, and does not say when.
func (m *Mesh) Listening(t testing.TB, port int) {
	t.Helper()
	for {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			_ = c.Close()
			return
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-m.ctx.Done():
			t.Fatal(err)
		}
	}
}

// freePort returns a port that nobody listened on a moment ago, each once.
func freePort(t testing.TB) int {
	t.Helper()
	list, err := ports.Free("127.0.0.1", 1)
	if err != nil {
		t.Fatal(err)
	}
	return list[0]
}
