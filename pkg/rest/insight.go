package rest

import (
	"encoding/json"
	"net/http"
	"time"

	meshv1 "github.com/atoll-mesh/atoll/api/kuma/mesh/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

type total struct {
	Total int `json:"total"`
}

type onlineTotal struct {
	Online int `json:"online"`
	Total  int `json:"total"`
}

type statusTotal struct {
	Online            int `json:"online"`
	Offline           int `json:"offline"`
	PartiallyDegraded int `json:"partiallyDegraded"`
	Total             int `json:"total"`
}

// add counts one with so many parts ready of all.
func (t *statusTotal) add(ready, all int) {
	t.Total++
	switch {
	case ready == 0:
		t.Offline++
	case ready < all:
		t.PartiallyDegraded++
	default:
		t.Online++
	}
}

// globalInsight is the state of everything in numbers.
type globalInsight struct {
	CreatedAt  time.Time `json:"createdAt"`
	Dataplanes struct {
		Standard         statusTotal `json:"standard"`
		GatewayDelegated statusTotal `json:"gatewayDelegated"`
	} `json:"dataplanes"`
	Meshes    total            `json:"meshes"`
	Policies  total            `json:"policies"`
	Resources map[string]total `json:"resources"`
	Services  struct {
		Internal         statusTotal `json:"internal"`
		GatewayDelegated statusTotal `json:"gatewayDelegated"`
		External         total       `json:"external"`
	} `json:"services"`
	Zones struct {
		ControlPlanes onlineTotal `json:"controlPlanes"`
		ZoneIngresses onlineTotal `json:"zoneIngresses"`
		ZoneEgresses  onlineTotal `json:"zoneEgresses"`
	} `json:"zones"`
}

// globalInsight answers with numbers that are computed once a revision.
func (a *API) globalInsight(w http.ResponseWriter, r *http.Request) error {
	s := a.View.Snapshot()
	if seen := a.visibleTo(r, s); seen != rows(s) {
		noteRevision(w, s.Revision())
		writeJSON(w, http.StatusOK, a.count(seen))
		return nil
	}
	a.insight.Lock()
	if a.insight.body == nil || a.insight.revision != s.Revision() {
		b, err := json.Marshal(a.count(s))
		if err != nil {
			a.insight.Unlock()
			return err
		}
		a.insight.body, a.insight.revision = b, s.Revision()
	}
	body := a.insight.body
	a.insight.Unlock()
	noteRevision(w, s.Revision())
	writeIndented(w, body)
	return nil
}

func (a *API) count(s rows) *globalInsight {
	g := &globalInsight{CreatedAt: a.Now().UTC(), Resources: map[string]total{}}
	g.Meshes.Total = s.Count(kind.Mesh, "")
	for k := range a.Kinds.All() {
		n := s.Count(k.Type, "")
		if k.Policy != nil {
			g.Policies.Total += n
		}
		special := k.ReadOnly || k.Internal || k.Type == kind.Mesh || k.Type == kind.Zone || k.Type == kind.GlobalSecret
		if n > 0 && !special {
			g.Resources[string(k.Type)] = total{n}
		}
	}
	a.countDataplanes(s, g)
	for o := range s.List(kind.MeshService, "") {
		ready, all := 0, 0
		if st := resource.StatusOf[kind.MeshServiceStatus](o); st != nil {
			p := st.DataplaneProxies
			ready, all = int(min(p.Connected, p.Healthy)), int(p.Total)
		}
		g.Services.Internal.add(ready, all)
	}
	g.Services.External.Total = s.Count(kind.MeshExternalService, "")
	for o := range s.List(kind.Zone, "") {
		g.Zones.ControlPlanes.Total++
		if i := zoneInsight(s, o.Name); i != nil && kind.ZoneOnline(i) || a.ownZone(o.Name) != nil {
			g.Zones.ControlPlanes.Online++
		}
	}
	return g
}

func (a *API) countDataplanes(s rows, g *globalInsight) {
	type service struct{ mesh, name string }
	type counts struct{ online, all int }
	gateways := map[service]counts{}
	for o := range s.List(kind.Dataplane, "") {
		ready, all := health(o, insightOf(s, o))
		if !kind.IsDelegatedGateway(kind.NetworkingOf(o)) {
			g.Dataplanes.Standard.add(ready, all)
			continue
		}
		g.Dataplanes.GatewayDelegated.add(ready, all)
		id := service{o.Mesh, gatewayService(o)}
		c := gateways[id]
		gateways[id] = counts{c.online + ready, c.all + all}
	}
	for _, c := range gateways {
		g.Services.GatewayDelegated.add(c.online, c.all)
	}
}

// gatewayService is the service that a delegated gateway belongs to.
func gatewayService(o *resource.Object) string {
	if name := kind.NetworkingOf(o).GetGateway().GetTags()[resource.LabelService]; name != "" {
		return name
	}
	if name := o.Labels[resource.LabelWorkload]; name != "" {
		return name
	}
	return o.Name
}

// readiness counts the inbounds and listeners of a proxy that are ready. One
// without any, such as a client, counts as one that is ready.
func readiness(n *kind.Networking) (ready, all int) {
	for _, in := range n.GetInbound() {
		all++
		if kind.InboundCountsReady(in) {
			ready++
		}
	}
	for _, l := range n.GetListeners() {
		all++
		if l.GetState() == meshv1.Dataplane_Networking_Listener_Ready {
			ready++
		}
	}
	if all == 0 {
		return 1, 1
	}
	return ready, all
}

// globalInsights is the older, smaller form.
func (a *API) globalInsights(w http.ResponseWriter, r *http.Request) error {
	s := a.visibleTo(r, a.View.Snapshot())
	counts := map[string]total{}
	for k := range a.Kinds.All() {
		if k.Scope == resource.ScopeGlobal && !k.ReadOnly && !k.Internal {
			counts[string(k.Type)] = total{s.Count(k.Type, "")}
		}
	}
	noteRevision(w, s.Revision())
	writeJSON(w, http.StatusOK, struct {
		Type         string           `json:"type"`
		CreationTime time.Time        `json:"creationTime"`
		Resources    map[string]total `json:"resources"`
	}{"GlobalInsights", a.Now().UTC(), counts})
	return nil
}
