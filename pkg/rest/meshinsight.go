package rest

import (
	"bytes"
	"net/http"
	"slices"
	"sync"
	"time"

	meshv1 "github.com/atoll-mesh/atoll/api/kuma/mesh/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/auth"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/store"
	"github.com/atoll-mesh/atoll/pkg/view"
)

// meshInsights are computed from the snapshot when somebody asks, once a
// revision. An insight that did not change keeps its modification time.
type meshInsights struct {
	mu       sync.Mutex
	revision store.Revision
	rows     map[string]*resource.Object // by mesh
}

// all returns the insights in order of their name. A federated zone has none:
// its global's tell of all zones.
func (m *meshInsights) all(a *API, s *view.Snapshot) []*resource.Object {
	k := a.Kinds.ByType(kind.MeshInsight)
	if a.Site.Federated {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.rows == nil || m.revision != s.Revision() {
		next := map[string]*resource.Object{}
		now := a.Now()
		for mesh := range s.List(kind.Mesh, "") {
			next[mesh.Name] = m.compute(a, s, k, mesh, now)
		}
		m.rows, m.revision = next, s.Revision()
	}
	out := make([]*resource.Object, 0, len(m.rows))
	for _, o := range m.rows {
		if o != nil {
			out = append(out, o)
		}
	}
	slices.SortFunc(out, func(a, b *resource.Object) int { return a.Compare(b.ID) })
	return out
}

func (m *meshInsights) compute(a *API, s *view.Snapshot, k *resource.Kind, mesh *resource.Object, now time.Time) *resource.Object {
	meta := resource.Meta{ID: resource.ID{Type: k.Type, Name: mesh.Name}, Version: uint64(s.Revision()), Created: mesh.Created, Modified: now}
	o, err := k.New(meta, meshInsightOf(a.Kinds, s, mesh.Name), nil)
	if err != nil {
		a.Log.Error("the insight of a mesh cannot be encoded", "mesh", mesh.Name, "error", err)
		return nil
	}
	if old := m.rows[mesh.Name]; old != nil && bytes.Equal(old.SpecWire(), o.SpecWire()) {
		return old
	}
	return o
}

type dataplaneStat = meshv1.MeshInsight_DataplaneStat

// meshInsightOf counts what a mesh consists of.
func meshInsightOf(kinds *resource.Kinds, s rows, mesh string) *meshv1.MeshInsight {
	out := &meshv1.MeshInsight{
		Dataplanes: &dataplaneStat{},
		DpVersions: &meshv1.MeshInsight_DpVersions{KumaDp: map[string]*dataplaneStat{}, Envoy: map[string]*dataplaneStat{}},
		MTLS: &meshv1.MeshInsight_MTLS{
			IssuedBackends: map[string]*dataplaneStat{}, SupportedBackends: map[string]*dataplaneStat{},
		},
		DataplanesByType: &meshv1.MeshInsight_DataplanesByType{
			Standard: &dataplaneStat{}, Gateway: &dataplaneStat{}, GatewayDelegated: &dataplaneStat{},
		},
		Resources: map[string]*meshv1.MeshInsight_ResourceStat{},
	}
	for k := range kinds.All() {
		insight := k.Type == kind.DataplaneInsight || k.Type == kind.ServiceInsight
		if n := s.Count(k.Type, mesh); k.Scope == resource.ScopeMesh && !insight && n > 0 {
			out.Resources[string(k.Type)] = &meshv1.MeshInsight_ResourceStat{Total: uint32(n)}
		}
	}
	for dp := range s.List(kind.Dataplane, mesh) {
		insight := insightOf(s, dp)
		ready, all := health(dp, insight)
		count := func(stat *dataplaneStat) { countReady(stat, ready, all) }
		count(out.Dataplanes)
		if kind.IsDelegatedGateway(kind.NetworkingOf(dp)) {
			count(out.DataplanesByType.Gateway)
			count(out.DataplanesByType.GatewayDelegated)
		} else {
			count(out.DataplanesByType.Standard)
		}
		var version *meshv1.Version
		if subs := insight.GetSubscriptions(); len(subs) > 0 {
			version = subs[len(subs)-1].GetVersion()
		}
		count(under(out.DpVersions.KumaDp, version.GetKumaDp().GetVersion()))
		count(under(out.DpVersions.Envoy, version.GetEnvoy().GetVersion()))
		if tls := insight.GetMTLS(); tls != nil {
			if tls.GetIssuedBackend() != "" {
				count(under(out.MTLS.IssuedBackends, tls.GetIssuedBackend()))
			}
			for _, b := range tls.GetSupportedBackends() {
				count(under(out.MTLS.SupportedBackends, b))
			}
		}
	}
	return out
}

// insightOf is what is known of a proxy's connection, or nil.
func insightOf(s rows, dp *resource.Object) *meshv1.DataplaneInsight {
	o := s.Get(resource.ID{Type: kind.DataplaneInsight, Mesh: dp.Mesh, Name: dp.Name})
	if o == nil {
		return nil
	}
	return resource.SpecOf[meshv1.DataplaneInsight](o)
}

// health counts how many parts of a proxy can be used. A gateway is one part.
func health(dp *resource.Object, insight *meshv1.DataplaneInsight) (ready, all int) {
	n := kind.NetworkingOf(dp)
	ready, all = 1, 1
	if !kind.IsDelegatedGateway(n) {
		ready, all = readiness(n)
	}
	if !kind.DataplaneOnline(insight) {
		ready = 0
	}
	return ready, all
}

func countReady(s *dataplaneStat, ready, all int) {
	s.Total++
	switch {
	case ready == 0:
		s.Offline++
	case ready < all:
		s.PartiallyDegraded++
	default:
		s.Online++
	}
}

// under is the counter of a key; versions that proxies do not state have one too.
func under(counters map[string]*dataplaneStat, key string) *dataplaneStat {
	if key == "" {
		key = "unknown"
	}
	if counters[key] == nil {
		counters[key] = &dataplaneStat{}
	}
	return counters[key]
}

// insightsFor are the insights of the meshes that the caller may read. For whom
// roles limit they count only what the caller may read.
func (a *API) insightsFor(r *http.Request, s *view.Snapshot) ([]*resource.Object, error) {
	all := a.meshes.all(a, s)
	sees := a.Access.Sees(auth.UserFrom(r.Context()))
	if sees == nil {
		return all, nil
	}
	var out []*resource.Object
	for _, o := range all {
		if mesh := s.Get(resource.ID{Type: kind.Mesh, Name: o.Name}); !sees(o) || mesh == nil || !sees(mesh) {
			continue
		}
		meta := o.Meta
		meta.Version = uint64(s.Revision()) // the counters of all may be the same while these change
		mine, err := o.Kind.New(meta, meshInsightOf(a.Kinds, visible{s, sees}, o.Name), nil)
		if err != nil {
			return nil, err
		}
		out = append(out, mine)
	}
	return out, nil
}

func (a *API) listMeshInsights(k *resource.Kind) endpoint {
	return func(w http.ResponseWriter, r *http.Request) error {
		s := a.View.Snapshot()
		if err := a.Access.Resource(auth.UserFrom(r.Context()), auth.Read, k); err != nil {
			return err
		}
		q := r.URL.Query()
		p, err := parsePage(q)
		if err != nil {
			return err
		}
		f, err := parseFilter(q, k, "/"+k.Plural)
		if err != nil {
			return err
		}
		all, err := a.insightsFor(r, s)
		if err != nil {
			return err
		}
		items, total := selected(slices.Values(all), len(all), &f, p)
		noteRevision(w, s.Revision())
		w.Header().Set("Content-Type", "application/json")
		writeList(w, items, total, a.next(r, p, total), (*resource.Object).JSON)
		return nil
	}
}

func (a *API) getMeshInsight(k *resource.Kind) endpoint {
	return func(w http.ResponseWriter, r *http.Request) error {
		s := a.View.Snapshot()
		if err := a.mayRead(s, r, k); err != nil {
			return err
		}
		all, err := a.insightsFor(r, s)
		if err != nil {
			return err
		}
		for _, o := range all {
			if o.Name == r.PathValue("name") {
				return a.answerObject(w, r, s, o)
			}
		}
		return notFound(titleGet)
	}
}
