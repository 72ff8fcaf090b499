package meshtimeout

import (
	"slices"

	"github.com/atoll-mesh/atoll/pkg/ir"
	"github.com/atoll-mesh/atoll/pkg/policy"
)

// perClient puts copies of the routes before them, one per match on a client,
// the most specific first. A copy has the timeouts of every rule whose clients
// include those of its match.
func perClient(rules policy.InboundRules[Conf], in *policy.Inbound) {
	matches := rules.ClientMatches(func(Conf) bool { return true })
	for _, rc := range in.Routes {
		var out []*ir.Route
		for _, r := range rc.Routes {
			for _, m := range matches {
				conf, _ := rules.Merge(func(other *policy.Match) bool {
					return other != nil && other.SpiffeID != nil && other.Subsumes(m)
				})
				h := conf.http()
				if r.Forward == nil || h.RequestTimeout == nil && h.StreamIdleTimeout == nil {
					continue
				}
				c := in.RouteFor(m, r)
				if h.RequestTimeout != nil {
					c.Forward.Timeout = h.RequestTimeout.Get()
				}
				if h.StreamIdleTimeout != nil {
					c.Forward.IdleTimeout = h.StreamIdleTimeout.Get()
				}
				out = append(out, c)
			}
			out = append(out, r)
		}
		rc.Routes = out
	}
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
