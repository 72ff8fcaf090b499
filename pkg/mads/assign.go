// Package mads tells Prometheus servers which proxies have metrics for them:
// the Monitoring Assignment Discovery Service, version 1.
package mads

import (
	"cmp"
	"encoding/base64"
	"iter"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/zeebo/xxh3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	meshproto "github.com/atoll-mesh/atoll/api/kuma/mesh/v1alpha1"
	madsproto "github.com/atoll-mesh/atoll/api/kuma/observability/v1"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/policy"
	"github.com/atoll-mesh/atoll/pkg/policy/meshmetric"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/store"
	"github.com/atoll-mesh/atoll/pkg/view"
)

// set is what one client is told. It is immutable.
type set struct {
	version string // a hash of the content
	bodies  []*anypb.Any
}

// table is the assignments of all clients. It follows the view when somebody
// asks, and then looks only at what changed since it was asked last.
type table struct {
	view *view.View

	mu   sync.Mutex
	rev  store.Revision
	full bool // rows hold everything as of rev
	// meshes are the policies of meshes that have any.
	meshes map[string]*policy.Index
	rows   map[resource.ID][]row // of Dataplanes that have any
	sets   map[string]*set       // by client and meshes, of those that asked since rows changed
}

// row is one Dataplane for one client.
type row struct {
	client     string
	assignment *madsproto.MonitoringAssignment
}

func newTable(v *view.View) *table { return &table{view: v} }

// of returns what a client is told now. One that no policy names is told what is
// for clients without a name. sees tells of which meshes; nil is all.
func (t *table) of(client string, sees func(mesh string) bool) *set {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.follow()
	if !t.known(client) {
		client = meshmetric.DefaultClient
	}
	var hidden []string
	for mesh := range t.meshes {
		if sees != nil && !sees(mesh) {
			hidden = append(hidden, mesh)
		}
	}
	slices.Sort(hidden)
	key := client + "\x00" + strings.Join(hidden, "\x00")
	s := t.sets[key]
	if s == nil {
		s = t.build(client, hidden)
		t.sets[key] = s
	}
	return s
}

func (t *table) known(client string) bool {
	for _, rows := range t.rows {
		if slices.ContainsFunc(rows, func(r row) bool { return r.client == client }) {
			return true
		}
	}
	return false
}

// follow brings the rows up to date.
func (t *table) follow() {
	snap := t.view.Snapshot()
	keys, ok := t.view.Touched(t.rev, snap)
	if !ok || !t.full {
		t.meshes, t.rows, t.sets = map[string]*policy.Index{}, map[resource.ID][]row{}, map[string]*set{}
		for mesh := range snap.List(kind.Mesh, "") {
			t.mesh(snap, mesh.Name)
		}
		t.rev, t.full = snap.Revision(), true
		return
	}
	meshes, proxies := map[string]bool{}, map[resource.ID]bool{}
	for _, k := range keys {
		if k.Table != view.Objects {
			continue
		}
		switch k.Type {
		case kind.Mesh:
			meshes[k.Name] = true
		case meshmetric.Type:
			meshes[k.Mesh] = true
		case kind.Dataplane, kind.DataplaneInsight:
			id := k.ID
			id.Type = kind.Dataplane
			if id.Name != "" {
				proxies[id] = true
			}
		}
	}
	for mesh := range meshes {
		t.mesh(snap, mesh)
	}
	for id := range proxies {
		t.proxy(snap, id, snap.Get(id))
	}
	t.rev = snap.Revision()
}

// mesh looks at all proxies of a mesh.
func (t *table) mesh(snap *view.Snapshot, mesh string) {
	for id := range t.rows {
		if id.Mesh == mesh {
			delete(t.rows, id)
		}
	}
	clear(t.sets)
	delete(t.meshes, mesh)
	if mesh == "" || snap.Get(resource.ID{Type: kind.Mesh, Name: mesh}) == nil || snap.Count(meshmetric.Type, mesh) == 0 {
		return
	}
	t.meshes[mesh] = policy.NewIndex([]*policy.Def{meshmetric.Def}, func(typ resource.Type) iter.Seq[*resource.Object] {
		return snap.List(typ, mesh)
	})
	for dp := range snap.List(kind.Dataplane, mesh) {
		t.proxy(snap, dp.ID, dp)
	}
}

// proxy looks at one proxy, which is nil when it is gone.
func (t *table) proxy(snap *view.Snapshot, id resource.ID, dp *resource.Object) {
	ix := t.meshes[id.Mesh]
	var rows []row
	if ix != nil && dp != nil {
		if c, ok := ix.Match(policy.ProxyOf(dp), policy.Options{}).Default(meshmetric.Type).(*meshmetric.Conf); ok {
			rows = assignments(c, dp, snap.Get(resource.ID{Type: kind.DataplaneInsight, Mesh: id.Mesh, Name: id.Name}))
		}
	}
	same := slices.EqualFunc(rows, t.rows[id], func(a, b row) bool {
		return a.client == b.client && proto.Equal(a.assignment, b.assignment)
	})
	if same {
		return
	}
	clear(t.sets)
	if rows == nil {
		delete(t.rows, id)
		return
	}
	t.rows[id] = rows
}

// assignments are what clients are told about a proxy.
func assignments(c *meshmetric.Conf, dp, insight *resource.Object) []row {
	var rows []row
	taken := map[uint32]bool{} // Envoy listens once on a port
	cert, key := certificate(insight)
	for i := range c.Backends {
		b := c.Backends[i].Prometheus
		if c.Backends[i].Type != meshmetric.Prometheus || b == nil {
			continue
		}
		port, path := b.Where()
		if taken[port] {
			continue
		}
		taken[port] = true
		scheme := "http"
		if b.Secured(cert, key) {
			scheme = "https"
		}
		rows = append(rows, row{client: b.Client(), assignment: &madsproto.MonitoringAssignment{
			Mesh: dp.Mesh, Service: cmp.Or(dp.Labels[resource.LabelWorkload], "unknown"),
			Targets: []*madsproto.MonitoringAssignment_Target{{
				Name: dp.Name, Scheme: scheme, MetricsPath: path,
				Address: net.JoinHostPort(kind.NetworkingOf(dp).GetAddress(), strconv.FormatUint(uint64(port), 10)),
			}},
		}})
	}
	return rows
}

// certificate is the files that a proxy said it has for those who read its
// metrics. Of one that never connected nothing is known, and it is taken to have
// them.
func certificate(insight *resource.Object) (cert, key string) {
	if insight == nil {
		return "unknown", "unknown"
	}
	m := resource.SpecOf[meshproto.DataplaneInsight](insight).GetMetadata()
	if m == nil {
		return "unknown", "unknown"
	}
	return m.GetFields()["metricsCertPath"].GetStringValue(), m.GetFields()["metricsKeyPath"].GetStringValue()
}

// build collects what is for a client, in order of names.
func (t *table) build(client string, hidden []string) *set {
	s := &set{bodies: []*anypb.Any{}}
	h := xxh3.New()
	ids := slices.SortedFunc(maps.Keys(t.rows), func(a, b resource.ID) int {
		return cmp.Or(strings.Compare(a.Mesh, b.Mesh), strings.Compare(a.Name, b.Name))
	})
	for _, id := range ids {
		if slices.Contains(hidden, id.Mesh) {
			continue
		}
		for _, r := range t.rows[id] {
			if r.client != client {
				continue
			}
			b, err := proto.MarshalOptions{Deterministic: true}.Marshal(r.assignment)
			if err != nil {
				continue // names that are no text cannot be stored
			}
			s.bodies = append(s.bodies, &anypb.Any{TypeUrl: TypeURL, Value: b})
			_, _ = h.Write(b)
			_, _ = h.WriteString("\x00" + id.Name + "\x00")
		}
	}
	sum := h.Sum128().Bytes()
	s.version = base64.RawURLEncoding.EncodeToString(sum[:])
	return s
}
