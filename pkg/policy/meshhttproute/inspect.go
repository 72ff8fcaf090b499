package meshhttproute

import "github.com/atoll-mesh/atoll/pkg/policy"

// RouteRules implements policy.Routed.
func (c Conf) RouteRules() []policy.RouteRule {
	out := make([]policy.RouteRule, len(c.Rules))
	for i, r := range c.Rules {
		out[i] = policy.RouteRule{Origin: r.origin, Matches: r.Matches, Hash: Hash(r.Matches), Conf: r.Default}
	}
	return out
}
