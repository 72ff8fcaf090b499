package explain

import (
	"slices"
	"strings"

	"github.com/atoll-mesh/atoll/pkg/compile"
	"github.com/atoll-mesh/atoll/pkg/ir"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/topology"
)

// maxServers bounds how many proxies of a destination are looked at: most often
// the same policies select all of them.
const maxServers = 50

// security says whether caller and servers know each other, and whether the
// servers of this zone let the caller in.
func (w *walk) security(c *ir.Cluster, d *topology.Destination, load *ir.ClusterLoad, row *topology.Endpoints) {
	id := w.spiffeID(w.dp)
	identity := len(w.steps)
	if c.TLS == nil {
		w.add("identity", OK, "the caller speaks in the clear")
		if id == "" {
			w.steps[identity].detail("no MeshIdentity gives the caller an identity")
		}
	} else {
		st := w.add("identity", OK, "the caller is %s", id)
		for _, name := range c.TLS.ServerIDs {
			st.detail("it expects the server to be %s", name)
		}
	}
	servers := w.servers(load, row)
	if len(servers) == 0 {
		if d.ID.Type != kind.MeshExternalService || c.TLS == nil {
			w.add("permission", Unknown, "it is decided in another zone").fix("ask that zone's control plane: atollctl explain, from any of its proxies")
			return
		}
	}
	if d.ID.Type == kind.MeshExternalService {
		if c.TLS == nil {
			st := &w.steps[identity]
			st.State = Broken
			st.fix("an egress lets in only clients that it knows: give caller and egress identities with a MeshIdentity")
			return
		}
		w.add("permission", Unknown, "the egress decides")
		return
	}
	w.servedBy(id, c, servers, identity)
}

// servers are the proxies of this zone behind endpoints that are used.
func (w *walk) servers(load *ir.ClusterLoad, row *topology.Endpoints) []topology.Endpoint {
	if row == nil {
		return nil
	}
	used := map[ir.Address]bool{}
	for _, l := range load.Localities {
		for _, e := range l.Endpoints {
			used[ir.Address{Address: e.Address, Port: e.Port}] = true
		}
	}
	var out []topology.Endpoint
	for _, e := range append(slices.Clone(row.List), row.Out...) {
		if e.Proxy.Name != "" && used[ir.Address{Address: e.Address, Port: e.Port}] && len(out) < maxServers {
			out = append(out, e)
		}
	}
	return out
}

// servedBy asks the inbounds of the servers.
func (w *walk) servedBy(id string, c *ir.Cluster, servers []topology.Endpoint, identity int) {
	permission := Step{Name: "permission", State: OK}
	broken := 0
	for _, e := range servers {
		dp := w.s.Get(e.Proxy)
		if dp == nil {
			continue
		}
		name := e.Proxy.Name
		if !w.in.Sees(dp) {
			name = "a proxy"
		}
		own, err := compile.BuildOwn(w.in.Compile, w.s, w.in.Info(e.Proxy, w.insight(e.Proxy)))
		if err != nil {
			continue
		}
		w.refused(e, name, own)
		chains := inboundAt(own, e.Address, e.Port)
		chain := choose(chains, c.TLS != nil)
		st := &w.steps[identity]
		switch {
		case chain == nil && c.TLS == nil:
			st.State = Broken
			st.detail("%s takes mutual TLS only", name)
			st.fix("give the caller an identity with a MeshIdentity that selects it, or set mode Permissive in a MeshTLS for the server")
			continue
		case chain == nil:
			st.State = Broken
			st.detail("%s does not speak TLS", name)
			st.fix("give the server an identity with a MeshIdentity that selects it, and wait for its certificate")
			continue
		case c.TLS != nil:
			if !w.known(st, id, c, chain, dp, name) {
				continue
			}
		}
		if chain.TLS == nil {
			continue
		}
		rbac := chain.RBAC
		if chain.HTTP != nil {
			rbac = ruling(own, chain.HTTP)
		}
		if allowed, by := decide(rbac, id, c.TLS.ServerName); !allowed {
			broken++
			if by == "" {
				permission.detail("%s: no MeshTrafficPermission allows %s", name, id)
			} else {
				permission.detail("%s: %s denies %s", name, w.named(by), id)
			}
		} else if by != "" && len(permission.Details) == 0 {
			permission.detail("%s: %s allows %s", name, w.named(by), id)
		}
	}
	if w.steps[identity].State == Broken {
		return
	}
	switch {
	case c.TLS == nil:
		permission.Text = "permissions play no part in the clear"
	case broken == 0:
		permission.Text = "all servers let the caller in"
	default:
		permission.State, permission.Text = Broken, "servers refuse the caller"
		permission.fix("allow it in a MeshTrafficPermission for the server: spec.rules[].default.allow with spiffeID %s", id)
	}
	w.steps = append(w.steps, permission)
}

// known checks that both sides take each other's certificates.
func (w *walk) known(st *Step, id string, c *ir.Cluster, chain *ir.Chain, dp *resource.Object, name string) bool {
	server := w.spiffeID(dp)
	switch {
	case len(c.TLS.ServerIDs) > 0 && !slices.Contains(c.TLS.ServerIDs, server):
		st.State = Broken
		st.detail("%s is %s, which the caller does not expect", name, server)
		st.fix("the service does not list this identity in spec.identities: it does once the proxy's MeshIdentity is ready")
		return false
	case w.ids.Of(&w.dp.Meta).Spire: // its agent knows whom to trust
	case w.ids.Trusts(domain(server)) == nil:
		st.State = Broken
		st.detail("%s is of trust domain %s, which the mesh does not trust here", name, domain(server))
		st.fix("add its CA to a MeshTrust of the mesh")
		return false
	}
	if list := chain.TLS.ClientPrefixes; len(list) > 0 && !slices.ContainsFunc(list, func(p string) bool { return strings.HasPrefix(id, p) }) {
		st.State = Broken
		st.detail("%s takes clients of %s only", name, strings.Join(list, ", "))
		st.fix("add the CA of trust domain %s to a MeshTrust of the mesh", domain(id))
		return false
	}
	return true
}

func (w *walk) spiffeID(dp *resource.Object) string {
	i := w.ids.Of(&dp.Meta)
	if i == nil || !i.Ready {
		return ""
	}
	id, err := i.SpiffeID(&dp.Meta)
	if err != nil {
		return ""
	}
	return id
}

func domain(spiffeID string) string {
	d, _, _ := strings.Cut(strings.TrimPrefix(spiffeID, "spiffe://"), "/")
	return d
}

// inboundAt are the chains of the listener at an address.
func inboundAt(own *ir.Config, address string, port uint32) []*ir.Chain {
	for _, l := range own.Listeners {
		if l.Address == address && l.Port == port && l.Direction == ir.Inbound && !l.OriginalDst {
			return l.Chains
		}
	}
	return nil
}

// ruling is what decides about requests; nil: nothing does.
func ruling(own *ir.Config, h *ir.HTTP) *ir.RBAC {
	if !h.Guarded {
		return nil
	}
	if h.Inline != nil {
		return h.Inline.RBAC
	}
	i := slices.IndexFunc(own.Routes, func(rc *ir.RouteConfig) bool { return rc.Name == h.RouteConfig })
	if i < 0 {
		return nil
	}
	return own.Routes[i].RBAC
}

// choose is the chain that takes a connection; nil: none does.
func choose(chains []*ir.Chain, tls bool) *ir.Chain {
	for _, c := range chains {
		if (c.TLS != nil) == tls {
			return c
		}
	}
	return nil
}

// decide is what the rules of a server do with a client, and which policy says
// so; empty: none.
func decide(r *ir.RBAC, id, serverName string) (allowed bool, policy string) {
	if r == nil {
		return true, ""
	}
	for _, rule := range r.Rules { // those that deny come first
		if slices.ContainsFunc(rule.Clients, func(m ir.ClientMatch) bool { return matches(m, id, serverName) }) {
			return !rule.Deny, rule.Policy
		}
	}
	return false, ""
}

func matches(m ir.ClientMatch, id, serverName string) bool {
	if m.ServerName != "" && m.ServerName != serverName {
		return false
	}
	switch v := m.SpiffeID; {
	case v == nil:
		return true
	case v.Kind == ir.MatchPrefix:
		return strings.HasPrefix(id, v.Value)
	default:
		return v.Value == id
	}
}
