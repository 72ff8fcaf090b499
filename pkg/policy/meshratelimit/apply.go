package meshratelimit

import (
	"slices"
	"time"

	"github.com/atoll-mesh/atoll/pkg/ir"
	"github.com/atoll-mesh/atoll/pkg/policy"
)

// Facts of the TLS handshake that routes for single clients are conditioned on.
const (
	keySpiffeID   = "kuma.mesh_rate_limit.match.spiffe_id"
	keyServerName = "kuma.mesh_rate_limit.match.sni"
)

var facts = map[string]string{
	keySpiffeID:   "%DOWNSTREAM_PEER_URI_SAN%",
	keyServerName: "%REQUESTED_SERVER_NAME%",
}

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
	for _, chain := range in.Listener.Chains {
		conf := forChain(rules, in, chain)
		chain.ConnectionLimit = conf.connections()
		if chain.HTTP == nil {
			continue
		}
		for _, rc := range in.Routes {
			if rc.Name == chain.HTTP.RouteConfig {
				limitRoutes(rules, in, chain, rc, conf)
			}
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

// limitRoutes puts copies of the routes before them, one per match on a client,
// the most specific first. A copy has the limit of all rules that include the
// clients of its match, on top of those for all clients.
func limitRoutes(rules policy.InboundRules[Conf], in *policy.Inbound, chain *ir.Chain, rc *ir.RouteConfig, base Conf) {
	var out []*ir.Route
	for _, r := range rc.Routes {
		if r.Forward != nil {
			for _, m := range clientMatches(rules) {
				conf, _ := rules.Merge(func(other *policy.Match) bool {
					return other == nil || other.SpiffeID != nil && other.Subsumes(m)
				})
				out = append(out, copyFor(r, m, conf.requests(), chain))
			}
			r.Limit = base.requests()
		}
		out = append(out, r)
	}
	rc.Routes = out
	for _, r := range out {
		chain.HTTP.Limited = chain.HTTP.Limited || r.Limit != nil
	}
}

// clientMatches returns the different matches on clients whose rules say
// something about requests, most specific first.
func clientMatches(rules policy.InboundRules[Conf]) []*policy.Match {
	var out []*policy.Match
	for _, r := range rules.List {
		same := func(m *policy.Match) bool { return m.Subsumes(r.Match) && r.Match.Subsumes(m) }
		if r.Match != nil && r.Match.SpiffeID != nil && r.Conf.Local != nil && r.Conf.Local.HTTP != nil && !slices.ContainsFunc(out, same) {
			out = append(out, r.Match)
		}
	}
	slices.SortStableFunc(out, (*policy.Match).Compare)
	return out
}

func copyFor(r *ir.Route, m *policy.Match, limit *ir.RequestLimit, chain *ir.Chain) *ir.Route {
	c, forward := *r, *r.Forward
	c.Forward, c.Limit = &forward, limit
	record := func(key, kind, value string) {
		c.Match.FilterState = append(slices.Clip(c.Match.FilterState), ir.ValueMatch{Name: key, Kind: kind, Value: value})
		if chain.FilterState == nil {
			chain.FilterState = map[string]string{}
		}
		chain.FilterState[key] = facts[key]
	}
	record(keySpiffeID, m.SpiffeID.Type, m.SpiffeID.Value)
	if m.SNI != nil {
		record(keyServerName, ir.MatchExact, m.SNI.Value)
	}
	return &c
}
