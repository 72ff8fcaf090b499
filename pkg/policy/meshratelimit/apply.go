package meshratelimit

import (
	"slices"
	"time"

	"github.com/atoll-mesh/atoll/pkg/ir"
	"github.com/atoll-mesh/atoll/pkg/policy"
)

func isTrue(b *bool) bool { return b != nil && *b }

func (r Rate) bucket() ir.TokenBucket {
	return ir.TokenBucket{Tokens: r.Num, Interval: time.Duration(r.Interval)}
}

// requests is the limit of requests, nil when there is none.
func (c Conf) requests() *ir.RequestLimit {
	if c.Local == nil || c.Local.HTTP == nil {
		return nil
	}
	h := c.Local.HTTP
	if isTrue(h.Disabled) || h.RequestRate == nil {
		return nil
	}
	out := &ir.RequestLimit{TokenBucket: h.RequestRate.bucket()}
	if on := h.OnRateLimit; on != nil {
		if on.Status != nil {
			out.Status = *on.Status
		}
		out.Headers = on.Headers.Ops()
	}
	return out
}

// connections is the limit of connections, nil when there is none.
func (c Conf) connections() *ir.TokenBucket {
	if c.Local == nil || c.Local.TCP == nil {
		return nil
	}
	t := c.Local.TCP
	if isTrue(t.Disabled) || t.ConnectionRate == nil {
		return nil
	}
	b := t.ConnectionRate.bucket()
	return &b
}

func inbound(rules policy.InboundRules[Conf], in *policy.Inbound) {
	limited := map[*ir.RouteConfig]bool{}
	for _, chain := range in.Listener.Chains {
		conf := forChain(rules, in, chain)
		chain.ConnectionLimit = conf.connections()
		if chain.HTTP == nil {
			continue
		}
		for _, rc := range in.Routes {
			if rc.Name != chain.HTTP.RouteConfig {
				continue
			}
			if !limited[rc] { // several chains may share it
				limited[rc] = true
				limitRoutes(rules, in, rc, conf)
			}
			chain.HTTP.Limited = chain.HTTP.Limited || slices.ContainsFunc(rc.Routes, func(r *ir.Route) bool { return r.Limit != nil })
		}
	}
}

// forChain merges what is for all clients of a chain: of a zone proxy also what
// is for the server name that the chain is for.
func forChain(rules policy.InboundRules[Conf], in *policy.Inbound, chain *ir.Chain) Conf {
	conf, _ := rules.Merge(func(m *policy.Match) bool {
		return m == nil || in.ZoneProxy && m.SpiffeID == nil && m.SNI != nil && slices.Contains(chain.Match.ServerNames, m.SNI.Value)
	})
	return conf
}

// limitRoutes puts copies of the routes before them, one per match on a client
// whose rules say something about requests, the most specific first. A copy has
// the limit of all rules that include the clients of its match, on top of those
// for all clients.
func limitRoutes(rules policy.InboundRules[Conf], in *policy.Inbound, rc *ir.RouteConfig, base Conf) {
	matches := rules.ClientMatches(func(c Conf) bool { return c.Local != nil && c.Local.HTTP != nil })
	var out []*ir.Route
	for _, r := range rc.Routes {
		if r.Forward != nil {
			for _, m := range matches {
				conf, _ := rules.Merge(func(other *policy.Match) bool {
					return other == nil || other.SpiffeID != nil && other.Subsumes(m)
				})
				c := in.RouteFor(m, r)
				c.Limit = conf.requests()
				out = append(out, c)
			}
			r.Limit = base.requests()
		}
		out = append(out, r)
	}
	rc.Routes = out
}
