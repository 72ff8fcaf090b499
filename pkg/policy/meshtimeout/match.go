package meshtimeout

import (
	"slices"

	"github.com/atoll-mesh/atoll/pkg/ir"
	"github.com/atoll-mesh/atoll/pkg/policy"
)

// Facts of the TLS handshake that routes for single clients are conditioned on.
const (
	keySpiffeID   = "kuma.mesh_timeout.match.spiffe_id"
	keyServerName = "kuma.mesh_timeout.match.sni"
)

var facts = map[string]string{
	keySpiffeID:   "%DOWNSTREAM_PEER_URI_SAN%",
	keyServerName: "%REQUESTED_SERVER_NAME%",
}

// perClient puts copies of the routes before them, one per match on a client,
// the most specific first. A copy has the timeouts of every rule whose clients
// include those of its match.
func perClient(rules policy.InboundRules[Conf], in *policy.Inbound) {
	matches := clientMatches(rules)
	if len(matches) == 0 || len(in.Routes) == 0 {
		return
	}
	needed := map[string]bool{}
	for _, rc := range in.Routes {
		rc.Routes = withCopies(rc.Routes, matches, rules, needed)
	}
	for _, chain := range in.Listener.Chains {
		if chain.HTTP == nil {
			continue
		}
		for key := range needed {
			if chain.FilterState == nil {
				chain.FilterState = map[string]string{}
			}
			chain.FilterState[key] = facts[key]
		}
	}
}

// clientMatches returns the different matches on clients, most specific first.
func clientMatches(rules policy.InboundRules[Conf]) []*policy.Match {
	var out []*policy.Match
	for _, r := range rules.List {
		same := func(m *policy.Match) bool { return m.Subsumes(r.Match) && r.Match.Subsumes(m) }
		if r.Match != nil && r.Match.SpiffeID != nil && !slices.ContainsFunc(out, same) {
			out = append(out, r.Match)
		}
	}
	slices.SortStableFunc(out, (*policy.Match).Compare)
	return out
}

func withCopies(routes []*ir.Route, matches []*policy.Match, rules policy.InboundRules[Conf], needed map[string]bool) []*ir.Route {
	var out []*ir.Route
	for _, r := range routes {
		for _, m := range matches {
			conf, _ := rules.Merge(func(other *policy.Match) bool {
				return other != nil && other.SpiffeID != nil && other.Subsumes(m)
			})
			h := conf.http()
			if r.Forward == nil || h.RequestTimeout == nil && h.StreamIdleTimeout == nil {
				continue
			}
			out = append(out, copyFor(r, m, h))
			needed[keySpiffeID] = true
			if m.SNI != nil {
				needed[keyServerName] = true
			}
		}
		out = append(out, r)
	}
	return out
}

func copyFor(r *ir.Route, m *policy.Match, h HTTP) *ir.Route {
	c, forward := *r, *r.Forward
	c.Forward = &forward
	c.Match.FilterState = append(slices.Clip(r.Match.FilterState),
		ir.ValueMatch{Name: keySpiffeID, Kind: m.SpiffeID.Type, Value: m.SpiffeID.Value})
	if m.SNI != nil {
		c.Match.FilterState = append(c.Match.FilterState,
			ir.ValueMatch{Name: keyServerName, Kind: ir.MatchExact, Value: m.SNI.Value})
	}
	if h.RequestTimeout != nil {
		forward.Timeout = h.RequestTimeout.Get()
	}
	if h.StreamIdleTimeout != nil {
		forward.IdleTimeout = h.StreamIdleTimeout.Get()
	}
	return &c
}

// perServerName writes rules for a server name into the chain of a zone proxy
// that serves it and into the clusters behind.
func perServerName(rules policy.InboundRules[Conf], in *policy.Inbound) {
	for _, chain := range in.Listener.Chains {
		serves := func(m *policy.Match) bool {
			return m != nil && m.SpiffeID == nil && m.SNI != nil && slices.Contains(chain.Match.ServerNames, m.SNI.Value)
		}
		if _, ok := rules.Merge(serves); !ok {
			continue
		}
		conf, _ := rules.Merge(func(m *policy.Match) bool { return m == nil || serves(m) })
		conf.toChain(chain)
		for _, rc := range in.Routes {
			if chain.HTTP != nil && rc.Name == chain.HTTP.RouteConfig {
				conf.toRoutes(rc)
			}
		}
		for _, cl := range in.Clusters {
			if behind(chain, in.Routes, cl.Name) {
				conf.toCluster(cl, cl.Protocol)
			}
		}
	}
}

// behind reports whether a chain sends to a cluster.
func behind(chain *ir.Chain, routes []*ir.RouteConfig, cluster string) bool {
	is := func(w ir.WeightedRef) bool { return w.Cluster == cluster }
	if chain.TCP != nil {
		return slices.ContainsFunc(chain.TCP.Clusters, is)
	}
	for _, rc := range routes {
		if chain.HTTP == nil || rc.Name != chain.HTTP.RouteConfig {
			continue
		}
		for _, r := range rc.Routes {
			if r.Forward != nil && slices.ContainsFunc(r.Forward.Clusters, is) {
				return true
			}
		}
	}
	return false
}
