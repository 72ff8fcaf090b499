package policy

import (
	"slices"

	"github.com/atoll-mesh/atoll/pkg/ir"
)

// The server name that clients asked for is recorded for routes under this key.
const stateServerName = "atoll.server_name"

// ClientMatches returns the different matches by the identity of clients of
// those rules whose conf says something, most specific first.
func (r InboundRules[C]) ClientMatches(says func(C) bool) []*Match {
	var out []*Match
	for _, rule := range r.List {
		same := func(m *Match) bool { return m.Subsumes(rule.Match) && rule.Match.Subsumes(m) }
		if rule.Match != nil && rule.Match.SpiffeID != nil && says(rule.Conf) && !slices.ContainsFunc(out, same) {
			out = append(out, rule.Match)
		}
	}
	slices.SortStableFunc(out, (*Match).Compare)
	return out
}

// RouteFor returns a copy of a route of the inbound that takes only requests of
// the clients of a match by identity. Put before the route it was made of, it is
// a change of routes alone, unless the match is by server name too.
func (in *Inbound) RouteFor(m *Match, r *ir.Route) *ir.Route {
	c := *r
	if r.Forward != nil {
		forward := *r.Forward
		c.Forward = &forward
	}
	c.Match.Clients = append(slices.Clip(r.Match.Clients), ir.ValueMatch{Kind: m.SpiffeID.Type, Value: m.SpiffeID.Value})
	if m.SNI != nil {
		c.Match.FilterState = append(slices.Clip(r.Match.FilterState),
			ir.ValueMatch{Name: stateServerName, Kind: ir.MatchExact, Value: m.SNI.Value})
		for _, chain := range in.Listener.Chains {
			if chain.HTTP != nil {
				chain.FilterState = map[string]string{stateServerName: "%REQUESTED_SERVER_NAME%"}
			}
		}
	}
	return &c
}
