package meshtrafficpermission

import (
	"github.com/atoll-mesh/atoll/pkg/ir"
	"github.com/atoll-mesh/atoll/pkg/policy"
)

// inbound has the chains that know their clients decide about them, about
// requests by their routes. Without any policy nobody may call.
func inbound(rules policy.InboundRules[Conf], in *policy.Inbound) {
	var r *ir.RBAC
	for _, chain := range in.Listener.Chains {
		if chain.TLS == nil {
			continue
		}
		if r == nil {
			r = rbac(rules, in.Listener)
		}
		if chain.HTTP == nil {
			chain.RBAC = r
			continue
		}
		chain.HTTP.Guarded = true
		for _, rc := range in.Routes {
			if rc.Name == chain.HTTP.RouteConfig {
				rc.RBAC = r
			}
		}
	}
}

func rbac(rules policy.InboundRules[Conf], l *ir.Listener) *ir.RBAC {
	out := &ir.RBAC{}
	add := func(list *[]ir.RBACRule, deny bool, policy string, matches ...[]policy.Match) {
		if clients := clients(l, matches); len(clients) > 0 {
			*list = append(*list, ir.RBACRule{Policy: policy, Deny: deny, Clients: clients})
		}
	}
	for _, r := range rules.List {
		add(&out.Rules, true, r.Policy.KRI().String(), r.Conf.Deny)
	}
	for _, r := range rules.List {
		add(&out.Rules, false, r.Policy.KRI().String(), r.Conf.Allow, r.Conf.AllowWithShadowDeny)
		add(&out.Shadow, true, r.Policy.KRI().String(), r.Conf.AllowWithShadowDeny)
	}
	return out
}

// clients converts matches; one that asks for nothing selects nobody. A server
// name must be looked for to be known.
func clients(l *ir.Listener, lists [][]policy.Match) []ir.ClientMatch {
	var out []ir.ClientMatch
	for _, list := range lists {
		for _, m := range list {
			var c ir.ClientMatch
			if id := m.SpiffeID; id != nil {
				c.SpiffeID = &ir.ValueMatch{Kind: ir.MatchExact, Value: id.Value}
				if id.Type == policy.Prefix {
					c.SpiffeID.Kind = ir.MatchPrefix
				}
			}
			if m.SNI != nil {
				c.ServerName = m.SNI.Value
				l.InspectTLS = true
			}
			if c != (ir.ClientMatch{}) {
				out = append(out, c)
			}
		}
	}
	return out
}
