// Package meshfaultinjection is the policy MeshFaultInjection: failing, late and
// slow answers on purpose, to learn how clients cope.
package meshfaultinjection

import (
	"github.com/atoll-mesh/atoll/pkg/policy"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// Spec of a MeshFaultInjection.
type Spec struct {
	// TargetRef selects the servers; all proxies of the mesh when absent.
	TargetRef *policy.ProxyRef `json:"targetRef,omitempty"`
	// To is accepted as tools may send it, and has no effect.
	To []policy.To[Conf] `json:"to,omitempty"`
	// Rules inject into requests to the selected servers. All that match do.
	Rules []Rule `json:"rules,omitempty"`
}

// Rule is faults for some clients, or all.
type Rule struct {
	Matches []policy.Match `json:"matches,omitzero"`
	Default Conf           `json:"default"`
}

// Conf is the faults.
type Conf struct {
	// HTTP faults, each with its own chance of happening to a request.
	HTTP []Fault `json:"http,omitzero"`
}

// Fault is what happens to a share of requests.
type Fault struct {
	// Abort answers instead of the workload.
	Abort *Abort `json:"abort,omitempty"`
	// Delay holds the request back.
	Delay *Delay `json:"delay,omitempty"`
	// ResponseBandwidth slows the body of the response down.
	ResponseBandwidth *Bandwidth `json:"responseBandwidth,omitempty"`
}

// Abort is an answer.
type Abort struct {
	HTTPStatus int32              `json:"httpStatus"`
	Percentage policy.IntOrString `json:"percentage"`
}

// Delay is a time.
type Delay struct {
	Value      policy.Duration    `json:"value"`
	Percentage policy.IntOrString `json:"percentage"`
}

// Bandwidth is a limit such as 100kbps, 10Mbps or 1Gbps.
type Bandwidth struct {
	Limit      string             `json:"limit"`
	Percentage policy.IntOrString `json:"percentage"`
}

// Def is the policy.
var Def = policy.Define(resource.Names{
	Type: "MeshFaultInjection", Short: "mfi",
	Plural: "meshfaultinjections", Single: "meshfaultinjection",
	Display: "Mesh Fault Injection", Displays: "Mesh Fault Injections",
}, policy.Hooks[Spec, Conf]{
	Bodies:   bodies,
	To:       []resource.Type{policy.Mesh},
	HasRules: true,
	Matches:  policy.LooseMatches,
	Validate: validate,
	Warnings: warnings,
	Inbound:  inbound,
})

func bodies(s *Spec) policy.Bodies[Conf] {
	b := policy.Bodies[Conf]{TargetRef: s.TargetRef, To: s.To}
	for _, r := range s.Rules {
		b.Rules = append(b.Rules, policy.Rule[Conf](r))
	}
	return b
}
