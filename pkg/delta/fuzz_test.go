package delta_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"

	"github.com/atoll-mesh/atoll/pkg/delta"
	"github.com/atoll-mesh/atoll/pkg/delta/client"
)

// Types of the model, in the order of the configuration.
const (
	clusters = iota
	endpoints
	listeners
	routes
)

var modelURL = []string{client.ClusterURL, client.EndpointURL, client.ListenerURL, client.RouteURL}

func modelConfig() *delta.Config {
	return &delta.Config{
		Types: []delta.Type{
			{URL: modelURL[clusters], Required: true, Rearm: []int{endpoints}, Uses: []int{endpoints}},
			{URL: modelURL[endpoints], Distrust: true},
			{URL: modelURL[listeners], Required: true, Uses: []int{clusters, endpoints, routes}},
			{URL: modelURL[routes], Uses: []int{clusters, endpoints}},
		},
		Phases: []delta.Phase{
			{Type: clusters}, {Type: endpoints, Light: true}, {Type: listeners, Replace: true, Wait: true}, {Type: routes, Wait: true},
			{Type: listeners, Remove: true, Wait: true}, {Type: routes, Remove: true, Wait: true},
			{Type: endpoints, Remove: true, Wait: true}, {Type: clusters, Remove: true, Wait: true},
		},
		Gate: 20 * time.Second, MaxBytes: 900,
	}
}

// model is a stream, and a client on the other side of a slow line. A listener's
// body lists its routes, a route's body its clusters, separated by spaces; a
// version that begins with "bad" is refused.
type model struct {
	t        *testing.T
	rnd      *rand.Rand
	cfg      *delta.Config
	s        *delta.Stream
	c        *client.State
	now      time.Time
	tables   [4]*delta.Table
	revision uint64
	up       []*discovery.DeltaDiscoveryRequest // under way
	down     [][]byte
	expired  bool              // some gate may have been
	pending  map[string]string // of clusters: nonce to names sent and not answered
	known    map[string]bool   // clusters that were answered once on this stream, or held before
	wants    map[string]bool   // "url name" subscribed by reference
	log      []string
}

func newModel(t *testing.T, seed uint64) *model {
	delta.SetFewest(t, 1+int(seed%6))
	m := &model{t: t, rnd: rand.New(rand.NewPCG(seed, 1)), cfg: modelConfig(), now: time.Unix(1e9, 0), wants: map[string]bool{}}
	m.c = client.NewState(client.Options{
		KeepBodies: true,
		Subscribe:  []string{client.ClusterURL, client.ListenerURL},
		Reject: func(_ string, r client.Resource) error {
			if strings.HasPrefix(r.Version, "bad") {
				return errors.New("refused")
			}
			return nil
		},
		Received: m.received,
	})
	m.connect()
	return m
}

func (m *model) fail(format string, args ...any) {
	m.t.Helper()
	m.t.Fatalf("%s\n%s", fmt.Sprintf(format, args...), strings.Join(m.log, "\n"))
}

// note keeps what happened for a failure to show; run with -v.
func (m *model) note(format string, args ...any) {
	if testing.Verbose() {
		m.log = append(m.log, fmt.Sprintf(format, args...))
	}
}

func (m *model) connect() {
	m.s = delta.New(m.cfg)
	m.up, m.down = nil, nil
	m.pending, m.known = map[string]string{}, map[string]bool{}
	for name := range m.c.Has(client.ClusterURL) {
		m.known[name] = true
	}
	m.c.Reconnect()
	m.want()
}

func (m *model) want() {
	for i, table := range m.tables {
		if table != nil {
			m.s.Want(i, table)
		}
	}
	m.s.At(m.revision)
}

// publish makes another consistent desired state.
func (m *model) publish(bad bool) {
	version := func() string {
		if bad && m.rnd.IntN(6) == 0 {
			return fmt.Sprint("bad", m.rnd.IntN(3))
		}
		return fmt.Sprint("v", m.rnd.IntN(3))
	}
	some := func(names []string) string {
		var out []string
		for _, name := range names {
			if m.rnd.IntN(2) == 0 {
				out = append(out, name)
			}
		}
		return strings.Join(out, " ")
	}
	all := [4]map[string]*delta.Resource{{}, {}, {}, {}}
	put := func(kind int, name, body string) {
		v := version() + ":" + body // what differs in body differs in version
		all[kind][name] = delta.NewResource(name, v, modelURL[kind], []byte(body))
	}
	for i := range 8 {
		if name := fmt.Sprint("c", i); m.rnd.IntN(3) > 0 {
			put(clusters, name, "")
			put(endpoints, name, "")
		}
	}
	for i := range 5 {
		if m.rnd.IntN(3) > 0 {
			put(routes, fmt.Sprint("r", i), some(slices.Sorted(maps.Keys(all[clusters]))))
		}
	}
	for i := range 4 {
		if m.rnd.IntN(3) > 0 {
			put(listeners, fmt.Sprint("l", i), some(slices.Sorted(maps.Keys(all[routes]))))
		}
	}
	for i := range all {
		m.tables[i] = m.tables[i].Becoming(all[i])
		if m.tables[i] == nil {
			m.tables[i] = delta.NewTable()
		}
	}
	m.revision++
	m.note("want %d: %v", m.revision, all)
	m.want()
}

// pump takes what the server sends now.
func (m *model) pump() {
	for msg := m.s.Next(m.now); msg != nil; msg = m.s.Next(m.now) {
		m.note("sent %v", msg.Response())
		b, err := proto.Marshal(msg)
		if err != nil {
			m.t.Fatal(err)
		}
		m.down = append(m.down, b)
		switch msg.URL {
		case client.ClusterURL:
			var sent []string
			for _, r := range msg.Resources {
				sent = append(sent, r.Name)
			}
			m.pending[msg.Nonce] = strings.Join(sent, " ")
		case client.RouteURL:
			for _, r := range msg.Resources {
				for _, name := range strings.Fields(string(r.Body.Value)) {
					if !m.expired && !m.known[name] {
						m.fail("route %s is sent before its cluster %s was answered", r.Name, name)
					}
				}
			}
		}
	}
}

// received checks what arrives against what the client holds.
func (m *model) received(r *client.Response) {
	if r.URL != client.ClusterURL {
		return
	}
	for _, removed := range r.Removed {
		for name := range m.c.Has(client.RouteURL) {
			if slices.Contains(strings.Fields(string(m.c.Body(client.RouteURL, name))), removed.Name) {
				m.fail("cluster %s is removed, route %s uses it", removed.Name, name)
			}
		}
	}
}

// references makes the client ask for what it refers to, as Envoy does.
func (m *model) references() {
	wants := map[string]bool{}
	for name := range m.c.Has(client.ClusterURL) {
		wants[client.EndpointURL+" "+name] = true
	}
	for name := range m.c.Has(client.ListenerURL) {
		for _, r := range strings.Fields(string(m.c.Body(client.ListenerURL, name))) {
			wants[client.RouteURL+" "+r] = true
		}
	}
	change := func(from, to map[string]bool, ask func(string, ...string)) {
		for _, url := range []string{client.EndpointURL, client.RouteURL} {
			var names []string
			for want := range to {
				if u, name, _ := strings.Cut(want, " "); u == url && !from[want] {
					names = append(names, name)
				}
			}
			if len(names) > 0 {
				ask(url, names...)
			}
		}
	}
	change(m.wants, wants, m.c.Subscribe)
	change(wants, m.wants, m.c.Unsubscribe)
	m.wants = wants
}

// deliver moves one request or response to its end of the line.
func (m *model) deliver() bool {
	m.up = append(m.up, m.c.Requests()...)
	switch {
	case len(m.down) > 0 && (len(m.up) == 0 || m.rnd.IntN(2) == 0):
		if err := m.c.Receive(m.down[0]); err != nil {
			m.t.Fatal(err)
		}
		m.down = m.down[1:]
		m.references()
	case len(m.up) > 0:
		req := m.up[0]
		m.up = m.up[1:]
		m.note("request %v", req)
		if err := m.s.Handle(req, m.now); err != nil {
			m.t.Fatal(err)
		}
		for _, name := range strings.Fields(m.pending[req.GetResponseNonce()]) {
			m.known[name] = true
		}
		delete(m.pending, req.GetResponseNonce())
	default:
		return false
	}
	return true
}

func (m *model) run(steps int) {
	for range steps {
		switch m.rnd.IntN(24) {
		case 0, 1:
			m.publish(true)
		case 2:
			if m.rnd.IntN(4) == 0 {
				m.note("reconnect")
				m.connect()
			}
		case 3:
			if m.rnd.IntN(8) == 0 {
				m.note("30 s pass")
				m.now = m.now.Add(30 * time.Second)
				m.expired = true
			}
		default:
			m.deliver()
		}
		if m.rnd.IntN(3) > 0 {
			m.pump()
		}
	}
	// All is well in the end.
	m.publish(false)
	m.pump()
	for i := 0; m.deliver() || len(m.down) > 0; i++ {
		m.pump()
		if i > 100_000 {
			m.fail("the stream does not come to rest")
		}
	}
	for kind, url := range modelURL {
		has := m.c.Has(url)
		n := 0
		for r := range m.tables[kind].All() {
			if kind == routes && !m.wants[url+" "+r.Name] {
				continue
			}
			n++
			if has[r.Name] != r.Version {
				m.fail("in the end %s %s is %q, want %q", url, r.Name, has[r.Name], r.Version)
			}
		}
		if n != len(has) {
			m.fail("in the end %s has %v, want %d", url, has, n)
		}
	}
	if m.s.Delivered() != m.revision || len(m.s.Rejections()) != 0 || m.s.Degraded() {
		m.fail("in the end delivered is %d of %d, rejections %v, degraded %v", m.s.Delivered(), m.revision, m.s.Rejections(), m.s.Degraded())
	}
}

func TestRandomClients(t *testing.T) {
	for seed := range uint64(150) {
		newModel(t, seed).run(400)
	}
}

func FuzzRandomClient(f *testing.F) {
	f.Add(uint64(1))
	f.Fuzz(func(t *testing.T, seed uint64) { newModel(t, seed).run(2000) })
}
