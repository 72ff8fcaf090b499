package rest

import (
	"iter"
	"net/http"
	"strings"
	"sync"

	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/policy"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/store"
	"github.com/atoll-mesh/atoll/pkg/view"
)

// Inspection tells which policies apply where, computed by the engine that
// compiles, from the snapshot alone: it works in every control plane.

// inspectRoutes are the endpoints about one proxy, and those that lead from
// policies and services to proxies.
func (a *API) inspectRoutes(get func(string, endpoint)) {
	dataplane := a.Kinds.ByType(kind.Dataplane)
	if dataplane == nil {
		return
	}
	const proxy = "/meshes/{mesh}/dataplanes/{name}"
	get(proxy+"/_rules", a.inspect(a.rules))
	get(proxy+"/_policies", a.inspect(a.proxyPolicies))
	get(proxy+"/_inbounds/{kri}/_policies", a.inspect(a.inboundPolicies))
	get(proxy+"/_outbounds/{kri}/_policies", a.inspect(a.outboundPolicies))
	get(proxy+"/_outbounds/{kri}/_routes", a.inspect(a.outboundRoutes))
	get(proxy+"/_outbounds/{kri}/_routes/{route}/_policies", a.inspect(a.routePolicies))
	get(proxy+"/_layout", a.inspect(a.layout))
	get(proxy+"/policies", a.inspect(a.matchedPolicies))
	get(proxy+"/_config", a.proxyConfig)
	get(proxy+"/{question}", a.askProxy)
	get("/meshes/{mesh}/_explain", a.explain)
	for _, d := range a.Compile.Policies {
		path := "/meshes/{mesh}/" + d.Kind().Plural + "/{name}"
		get(path+"/_resources/dataplanes", a.selectedDataplanes(d))
		get(path+"/-resources/dataplanes", a.selectedDataplanes(d)) // as kumactl asks
		get(path+"/dataplanes", a.attachments(d))
	}
	if k := a.Kinds.ByType(kind.MeshService); k != nil {
		get("/meshes/{mesh}/"+k.Plural+"/{name}/_dataplanes", a.serviceDataplanes(k))
	}
	for k := range a.Kinds.All() {
		if k.Ports != nil {
			get("/meshes/{mesh}/"+k.Plural+"/{name}/_hostnames", a.hostnames(k))
		}
	}
}

// inspected is one proxy and the policies that select it.
type inspected struct {
	*policy.Matched
	api   *API
	s     *view.Snapshot
	seen  rows // what the caller may read of s
	dp    *resource.Object
	proxy *policy.Proxy
}

// inspect finds the proxy that a path names and answers what show returns. Whom
// roles limit is shown the policies and destinations that they may read.
func (a *API) inspect(show func(*inspected, *http.Request) (any, error)) endpoint {
	return func(w http.ResponseWriter, r *http.Request) error {
		s := a.View.Snapshot()
		dp, err := a.dataplane(s, r)
		if err != nil {
			return err
		}
		proxy, seen := policy.ProxyOf(dp), a.visibleTo(r, s)
		p := &inspected{
			Matched: a.indexes.get(a, s, seen, dp.Mesh).Match(proxy, policy.Options{}),
			api:     a, s: s, seen: seen, dp: dp, proxy: proxy,
		}
		body, err := show(p, r)
		if err != nil {
			return err
		}
		noteRevision(w, s.Revision())
		writeJSON(w, http.StatusOK, body)
		return nil
	}
}

// dataplane returns the one that a path names.
func (a *API) dataplane(s *view.Snapshot, r *http.Request) (*resource.Object, error) {
	k := a.Kinds.ByType(kind.Dataplane)
	if err := a.mayRead(s, r, k); err != nil {
		return nil, err
	}
	dp := s.Get(idOf(k, r))
	if !a.shows(r, dp) {
		return nil, notFound(titleGet)
	}
	return dp, nil
}

// indexCache keeps the policies of meshes as they were read last.
type indexCache struct {
	mu       sync.Mutex
	revision store.Revision
	of       map[string]*policy.Index
}

// get returns the index of what is seen of a snapshot; it keeps those of all.
func (c *indexCache) get(a *API, s *view.Snapshot, seen rows, mesh string) *policy.Index {
	if seen != rows(s) {
		return policy.NewIndex(a.Compile.Policies, func(t resource.Type) iter.Seq[*resource.Object] { return seen.List(t, mesh) })
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.of == nil || c.revision != s.Revision() {
		c.of, c.revision = map[string]*policy.Index{}, s.Revision()
	}
	if c.of[mesh] == nil {
		c.of[mesh] = policy.NewIndex(a.Compile.Policies, func(t resource.Type) iter.Seq[*resource.Object] { return s.List(t, mesh) })
	}
	return c.of[mesh]
}

// metaBody names a resource.
type metaBody struct {
	Type   resource.Type     `json:"type"`
	Mesh   string            `json:"mesh,omitempty"`
	Name   string            `json:"name"`
	Labels map[string]string `json:"labels"`
}

func metaOf(o *resource.Object) metaBody {
	labels := o.Labels
	if labels == nil {
		labels = map[string]string{}
	}
	return metaBody{o.Type, o.Mesh, o.Name, labels}
}

// kriBody is an origin by identifier.
type kriBody struct {
	KRI string `json:"kri"`
}

// originKRIs lists policies once each, in order of their first contribution.
func originKRIs(origins []policy.Origin) []kriBody {
	out := []kriBody{}
	seen := map[string]bool{}
	for _, o := range origins {
		if k := o.Policy.KRI().String(); !seen[k] {
			seen[k] = true
			out = append(out, kriBody{k})
		}
	}
	return out
}

type appliedBody struct {
	Kind    resource.Type `json:"kind"`
	Conf    any           `json:"conf"`
	Origins []kriBody     `json:"origins"`
}

// proxyPolicies is what configures the proxy as a whole.
func (a *API) proxyPolicies(p *inspected, _ *http.Request) (any, error) {
	out := []appliedBody{}
	for _, got := range p.ProxyPolicies() {
		out = append(out, appliedBody{got.Type, got.Conf, originKRIs(got.Origins)})
	}
	return map[string]any{"policies": out}, nil
}

type inboundRuleBody struct {
	KRI   string        `json:"kri"`
	Match *policy.Match `json:"match,omitempty"`
	Conf  any           `json:"conf"`
}

type inboundBody struct {
	Kind    resource.Type     `json:"kind"`
	Rules   []inboundRuleBody `json:"rules"`
	Origins []kriBody         `json:"origins"`
}

// inboundPolicies is the rules of one inbound, or of one listener of a zone
// proxy. Only the section of the identifier counts.
func (a *API) inboundPolicies(p *inspected, r *http.Request) (any, error) {
	kri, err := a.parseKRI(r.PathValue("kri"))
	if err != nil {
		return nil, err
	}
	for _, section := range p.proxy.Sections {
		if section.Name != kri.Section {
			continue
		}
		out := []inboundBody{}
		for _, of := range p.InboundPolicies(section.Address, section.Port) {
			body := inboundBody{Kind: of.Type, Rules: []inboundRuleBody{}}
			var origins []policy.Origin
			for _, rule := range of.Rules {
				body.Rules = append(body.Rules, inboundRuleBody{rule.Policy.KRI().String(), rule.Match, rule.Conf})
				origins = append(origins, rule.Origin)
			}
			body.Origins = originKRIs(origins)
			out = append(out, body)
		}
		return map[string]any{"policies": out}, nil
	}
	return nil, &problem{http.StatusNotFound, titleGet, "the Dataplane has no inbound or listener " + kri.Section, nil}
}

// outboundPolicies is what applies to one port of a destination.
func (a *API) outboundPolicies(p *inspected, r *http.Request) (any, error) {
	d, err := p.destination(r.PathValue("kri"))
	if err != nil {
		return nil, err
	}
	return policiesBody(p.OutboundPolicies(d)), nil
}

func policiesBody(applied []policy.Applied) any {
	out := []appliedBody{}
	for _, got := range applied {
		out = append(out, appliedBody{got.Type, []any{got.Conf}, originKRIs(got.Origins)})
	}
	return map[string]any{"policies": out}
}

type routeRuleBody struct {
	KRI     string `json:"kri"`
	Matches any    `json:"matches"`
	Conf    any    `json:"conf"`
}

type routesBody struct {
	Kind    resource.Type   `json:"kind"`
	Rules   []routeRuleBody `json:"rules"`
	Origins []kriBody       `json:"origins"`
}

// outboundRoutes is the rules of the policies that make routes.
func (a *API) outboundRoutes(p *inspected, r *http.Request) (any, error) {
	d, err := p.destination(r.PathValue("kri"))
	if err != nil {
		return nil, err
	}
	out := []routesBody{}
	for _, got := range p.OutboundPolicies(d) {
		routed, ok := got.Conf.(policy.Routed)
		if !ok {
			continue
		}
		body := routesBody{Kind: got.Type, Rules: []routeRuleBody{}, Origins: originKRIs(got.Origins)}
		for _, rule := range routed.RouteRules() {
			kri := ""
			if rule.Origin.Policy != nil {
				kri = rule.Origin.Policy.KRI().String()
			}
			body.Rules = append(body.Rules, routeRuleBody{kri, rule.Matches, rule.Conf})
		}
		out = append(out, body)
	}
	return map[string]any{"routes": out}, nil
}

// routePolicies is what applies to the routes that a policy makes for a
// destination.
func (a *API) routePolicies(p *inspected, r *http.Request) (any, error) {
	d, err := p.destination(r.PathValue("kri"))
	if err != nil {
		return nil, err
	}
	route, err := a.parseKRI(r.PathValue("route"))
	if err != nil {
		return nil, err
	}
	return policiesBody(p.RoutePolicies(d, route)), nil
}

// matchedPolicies is the older, coarser form: which policies select the proxy.
func (a *API) matchedPolicies(p *inspected, _ *http.Request) (any, error) {
	matched := map[resource.Type][]any{}
	for _, d := range a.Compile.Policies {
		t := d.Kind().Type
		for _, o := range p.Policies(t) {
			matched[t] = append(matched[t], rawHead(o))
		}
	}
	type item struct {
		Type    string                  `json:"type"`
		Matched map[resource.Type][]any `json:"matchedPolicies"`
	}
	items := []item{}
	if len(matched) > 0 {
		items = append(items, item{"dataplane", matched})
	}
	return struct {
		Kind  string `json:"kind"`
		Total int    `json:"total"`
		Items []item `json:"items"`
	}{"SidecarDataplane", len(items), items}, nil
}

// destination finds the port of a destination of the proxy's mesh.
func (p *inspected) destination(text string) (policy.Dest, error) {
	kri, err := p.api.parseKRI(text)
	if err != nil {
		return policy.Dest{}, err
	}
	o := p.s.ByKRI(kri)
	if o == nil || o.Kind.Ports == nil || o.Mesh != p.dp.Mesh || p.seen.Get(o.ID) == nil {
		return policy.Dest{}, &problem{http.StatusNotFound, titleGet, "there is no destination " + text + " in mesh " + p.dp.Mesh, nil}
	}
	d := destinationOf(p.api.Site, o)
	if kri.Section == "" {
		return policy.Dest{Destination: d}, nil
	}
	for _, port := range d.Ports {
		if port.Section == kri.Section {
			return policy.Dest{Destination: d, Port: port}, nil
		}
	}
	var known []string
	for _, port := range d.Ports {
		known = append(known, port.Section)
	}
	return policy.Dest{}, &problem{http.StatusNotFound, titleGet, o.ID.String() + " has no port " + kri.Section + ", only " + strings.Join(known, ", "), nil}
}
