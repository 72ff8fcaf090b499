package explain

import (
	"fmt"
	"slices"
	"strings"

	"github.com/atoll-mesh/atoll/pkg/compile"
	"github.com/atoll-mesh/atoll/pkg/ir"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/topology"
)

// address says how the name becomes an address that the proxy takes.
func (w *walk) address() bool {
	n := kind.NetworkingOf(w.dp)
	if n.GetTransparentProxying() == nil && w.info.TransparentProxy == nil && !slices.Contains(w.info.Features, compile.FeatureBindOutbounds) {
		w.add("address", OK, "the Dataplane lists what it calls in networking.outbound; virtual addresses play no part")
		return true
	}
	switch {
	case len(w.dest.VIPs) == 0:
		w.add("address", Broken, "it has no virtual address yet").
			fix("the zone's leader gives one out within seconds; if none comes look at its log, and whether the range (ipam) is used up")
	case len(w.dest.Hostnames) == 0:
		w.add("address", Warning, "it has the virtual address %s and no hostname", strings.Join(w.dest.VIPs, ", ")).
			fix("add a HostnameGenerator that selects it, or call its virtual address")
	default:
		w.add("address", OK, "%s is %s", w.dest.Hostnames[0], strings.Join(w.dest.VIPs, ", "))
	}
	return true
}

// listener finds where the proxy takes the connection.
func (w *walk) listener() bool {
	l := w.find()
	if l == nil {
		st := w.add("listener", Broken, "the proxy has no listener for it")
		for _, x := range w.result.Warnings {
			if x.Source == w.name || strings.HasPrefix(x.Source, "networking.") {
				st.detail("%s: %s", x.Source, x.Text)
			}
		}
		n := kind.NetworkingOf(w.dp)
		switch {
		case n.GetTransparentProxying().GetReachableBackends() != nil:
			st.fix("add it to networking.transparentProxying.reachableBackends of the Dataplane")
		case n.GetTransparentProxying() == nil && w.info.TransparentProxy == nil:
			st.fix("add it to networking.outbound of the Dataplane, or use transparent proxying")
		default:
			st.fix("see the details; a MeshProxyPatch may have removed it")
		}
		return false
	}
	var where []string
	for _, a := range append([]ir.Address{{Address: l.Address, Port: l.Port}}, l.Also...) {
		where = append(where, fmt.Sprintf("%s:%d", a.Address, a.Port))
	}
	bound := "listens on"
	if l.NoBind {
		bound = "takes redirected connections to"
	}
	st := w.add("listener", OK, "%s %s %s", l.Name, bound, strings.Join(where, ", "))
	if len(l.Patches) > 0 {
		st.detail("changed by %d patches of MeshProxyPatch", len(l.Patches))
	}
	return true
}

func (w *walk) find() *ir.Listener {
	for _, l := range w.result.Shared.Listeners {
		if l.Name == w.name {
			return l
		}
	}
	return nil
}

// clusters are those that the destination's listener and routes send to.
func (w *walk) clusters() []string {
	var out []string
	use := func(name string) {
		if !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	for _, c := range w.find().Chains {
		if c.TCP != nil {
			for _, x := range c.TCP.Clusters {
				use(x.Cluster)
			}
		}
	}
	if rc := w.routes(); rc != nil {
		for _, r := range rc.Routes {
			if r.Forward != nil {
				for _, x := range r.Forward.Clusters {
					use(x.Cluster)
				}
			}
		}
	}
	return out
}

func (w *walk) routes() *ir.RouteConfig {
	for _, c := range w.find().Chains {
		if c.HTTP == nil {
			continue
		}
		for _, rc := range w.result.Shared.Routes {
			if rc.Name == c.HTTP.RouteConfig {
				return rc
			}
		}
	}
	return nil
}

// route says where requests go, and what policies do to them.
func (w *walk) route() bool {
	clusters := w.clusters()
	st := w.add("route", OK, "to %d clusters", len(clusters))
	if len(clusters) == 1 {
		st.Text = "everything goes to " + clusters[0]
	}
	if rc := w.routes(); rc != nil {
		for _, r := range rc.Routes {
			st.detail("%s %s", matchText(&r.Match), actionText(r))
		}
	}
	if d, ok := destOf(w.dest, w.port.Section); ok {
		w.because(st, w.result.Matched.OutboundPolicies(d))
	}
	has := func(name string) bool {
		return slices.ContainsFunc(w.result.Shared.Clusters, func(c *ir.Cluster) bool { return c.Name == name })
	}
	for _, c := range clusters {
		if !has(c) {
			st.State = Broken
			st.detail("there is no cluster %s", c)
			st.fix("the route names a backend that does not exist, or a MeshProxyPatch removed its cluster")
		}
	}
	if len(clusters) == 0 {
		st.State, st.Text = Broken, "no route forwards requests anywhere"
		st.fix("look at backendRefs of the MeshHTTPRoutes and MeshTCPRoutes for it: what they name does not exist, or all weights are 0")
	}
	return len(clusters) > 0
}

func matchText(m *ir.RouteMatch) string {
	var parts []string
	for _, x := range []struct{ name, value string }{{"path", m.Path}, {"prefix", m.Prefix}, {"regex", m.Regex}, {"method", m.Method}} {
		if x.value != "" {
			parts = append(parts, x.name+" "+x.value)
		}
	}
	for _, h := range m.Headers {
		parts = append(parts, strings.TrimSpace("header "+h.Name+" "+h.Value))
	}
	for _, q := range m.Query {
		parts = append(parts, strings.TrimSpace("query "+q.Name+" "+q.Value))
	}
	return strings.Join(parts, ", ")
}

func actionText(r *ir.Route) string {
	switch {
	case r.Redirect != nil:
		return "is redirected"
	case r.Direct != nil:
		return "is answered by the proxy itself"
	case r.Forward == nil:
		return "goes nowhere"
	}
	var to []string
	for _, c := range r.Forward.Clusters {
		to = append(to, fmt.Sprintf("%s (weight %d)", c.Cluster, c.Weight))
	}
	return "goes to " + strings.Join(to, ", ")
}

// endpoints says, for each cluster, who would answer, and whether they can prove
// who they are and would let the caller in.
func (w *walk) endpoints() bool {
	for _, name := range w.clusters() {
		w.cluster(name)
	}
	return true
}

func (w *walk) cluster(name string) {
	k, err := resource.ParseKRI(name)
	if err != nil {
		return
	}
	o := w.s.ByKRI(k)
	if o == nil {
		return
	}
	d := w.s.Topology().Destination(o.ID)
	if d == nil {
		return
	}
	var load *ir.ClusterLoad
	for _, l := range w.result.Shared.Loads {
		if l.Cluster == name {
			load = l
		}
	}
	i := slices.IndexFunc(w.result.Shared.Clusters, func(c *ir.Cluster) bool { return c.Name == name })
	if load == nil || i < 0 {
		return
	}
	row := w.s.Topology().Endpoints(topology.EndpointsKey{Destination: d.ID, Section: k.Section})
	st := w.add("endpoints", OK, "")
	total := 0
	for _, x := range load.Localities {
		total += len(x.Endpoints)
		place := "of no zone"
		if x.Zone != "" {
			place = "in zone " + x.Zone
		}
		if x.SubZone != "" {
			place += ", " + x.SubZone
		}
		st.detail("priority %d: %d %s", x.Priority, len(x.Endpoints), place)
	}
	st.Text = fmt.Sprintf("%s has %d endpoints", name, total)
	if dest, ok := destOf(d, k.Section); ok && name != w.name {
		w.because(st, w.result.Matched.OutboundPolicies(dest))
	}
	if total == 0 {
		st.State = Broken
		w.noEndpoints(st, d, k.Section, row)
		return
	}
	if row != nil && len(row.List) == 0 && len(row.Out) > 0 {
		st.State = Warning
		st.Remedy = "all that serve are about to stop, withdrawn or drained, and are used only because there are no others"
	}
	w.security(w.result.Shared.Clusters[i], d, load, row)
}

// noEndpoints finds out why nobody answers.
func (w *walk) noEndpoints(st *Step, d *topology.Destination, section string, row *topology.Endpoints) {
	topo := w.s.Topology()
	if row != nil && len(row.List)+len(row.Out) > 0 {
		st.fix("there are %d endpoints, which a MeshLoadBalancingStrategy leaves out: let it cross zones", len(row.List)+len(row.Out))
		return
	}
	switch d.ID.Type {
	case kind.MeshMultiZoneService:
		members := topo.Joined(d.ID)
		for _, m := range members {
			st.detail("%s of zone %q, available: %t", m.ID.Name, m.Zone, m.Available)
		}
		if len(members) == 0 {
			st.fix("its selector matches no MeshService: change spec.selector.meshService.matchLabels")
		} else {
			st.fix("none of its %d MeshServices has an endpoint: explain the way to one of them", len(members))
		}
	case kind.MeshExternalService:
		if len(d.Exits) == 0 {
			st.fix("the zone has no egress: run a zone proxy with a ZoneEgress listener")
		} else {
			st.fix("no egress of the zone is ready: look at the zone proxies")
		}
	default:
		if !d.Local {
			st.fix("it is in zone %q, whose ingress is not known or not ready, or which says that nobody there can answer: look there", d.Zone)
			return
		}
		w.noMembers(st, d, section)
	}
}

// noMembers looks at the Dataplanes of a service of this zone.
func (w *walk) noMembers(st *Step, d *topology.Destination, section string) {
	n := 0
	for id := range w.s.Topology().Members(d.ID) {
		n++
		dp := w.s.Get(id)
		if dp == nil || len(st.Details) >= 10 || !w.in.Sees(dp) {
			continue
		}
		switch net := kind.NetworkingOf(dp); {
		case w.s.Topology().Starting(id):
			st.detail("the Envoy of %s is starting and does not listen yet", id.Name)
		case !slices.ContainsFunc(net.GetInbound(), kind.InboundReady):
			st.detail("no inbound of %s is ready", id.Name)
		default:
			st.detail("%s has no inbound with the target port of port %s", id.Name, section)
		}
	}
	if n == 0 {
		st.fix("its selector matches no Dataplane: change spec.selector, or the labels of the Dataplanes")
		return
	}
	st.fix("none of its %d Dataplanes serves this port: see the details", n)
}

// named is a policy, if whoever asks may know of it.
func (w *walk) named(kri string) string {
	k, err := resource.ParseKRI(kri)
	if err != nil {
		return kri
	}
	if o := w.s.ByKRI(k); o == nil || !w.in.Sees(o) {
		return "a policy that you may not read"
	}
	return kri
}
