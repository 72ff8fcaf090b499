// Package meshtcproute is the policy MeshTCPRoute: where the connections to a
// destination go.
package meshtcproute

import (
	"github.com/atoll-mesh/atoll/pkg/policy"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// Spec of a MeshTCPRoute.
type Spec struct {
	// TargetRef selects the clients; all proxies of the mesh when absent.
	TargetRef *policy.ProxyRef `json:"targetRef,omitempty"`
	// To lists the destinations whose connections are routed.
	To []To `json:"to,omitzero" schema:"minItems=1"`
}

// To is where the connections to a destination go.
type To struct {
	// TargetRef selects the destinations.
	TargetRef policy.ToRef `json:"targetRef"`
	// Rules has at most one element; without it connections go where they are
	// addressed to.
	Rules []Rule `json:"rules" schema:"maxItems=1"`
}

// Rule holds what is done with every connection.
type Rule struct {
	Default RuleConf `json:"default"`

	// itself: the connections go to the destination they are addressed to.
	itself bool
	// origin is the policy that says so, once merged.
	origin policy.Origin
}

// RuleConf shares connections.
type RuleConf struct {
	// BackendRefs share the connections by weight.
	BackendRefs []policy.BackendRef `json:"backendRefs,omitzero"`
}

// Def is the policy.
var Def = policy.Define(resource.Names{
	Type: "MeshTCPRoute", Short: "mtcpr",
	Plural: "meshtcproutes", Single: "meshtcproute",
	Display: "Mesh TCP Route", Displays: "Mesh TCP Routes",
}, policy.Hooks[Spec, Rule]{
	Bodies:   bodies,
	To:       []resource.Type{policy.MeshService, policy.MeshExternalService, policy.MeshMultiZoneService},
	Validate: validate,
	Merge:    merge,
	Outbound: outbound,
	Reads:    reads,
})

func bodies(s *Spec) policy.Bodies[Rule] {
	b := policy.Bodies[Rule]{TargetRef: s.TargetRef}
	for _, to := range s.To {
		rule := Rule{itself: true}
		if len(to.Rules) > 0 {
			rule = to.Rules[0]
		} else {
			one := uint32(1)
			rule.Default.BackendRefs = []policy.BackendRef{{TargetRef: to.TargetRef.TargetRef, Weight: &one}}
		}
		b.To = append(b.To, policy.To[Rule]{TargetRef: to.TargetRef, Default: rule})
	}
	return b
}

// merge takes the strongest.
func merge(items []policy.Item[Rule]) Rule {
	last := items[len(items)-1]
	last.Conf.origin = last.Origin
	return last.Conf
}
