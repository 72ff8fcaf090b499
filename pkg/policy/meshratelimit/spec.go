// Package meshratelimit is the policy MeshRateLimit: how many requests and
// connections each proxy lets through to its workload.
package meshratelimit

import (
	"github.com/atoll-mesh/atoll/pkg/policy"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// Spec of a MeshRateLimit.
type Spec struct {
	// TargetRef selects the servers. With rules its kind must be Dataplane.
	TargetRef *policy.ProxyRef `json:"targetRef,omitempty"`
	// To is accepted as tools may send it, and has no effect.
	To []policy.To[Conf] `json:"to,omitempty"`
	// Rules limit what reaches the selected servers.
	Rules []policy.Rule[Conf] `json:"rules,omitempty"`
}

// Conf is the limits.
type Conf struct {
	// Local limits count in each proxy by itself.
	Local *Local `json:"local,omitempty"`
}

// Local is limits by what they count.
type Local struct {
	// HTTP limits requests.
	HTTP *HTTP `json:"http,omitempty"`
	// TCP limits new connections.
	TCP *TCP `json:"tcp,omitempty"`
}

// HTTP is a limit of requests.
type HTTP struct {
	// Disabled switches off a limit that a more general policy sets.
	Disabled *bool `json:"disabled,omitempty"`
	// RequestRate is how many requests pass.
	RequestRate *Rate `json:"requestRate,omitempty"`
	// OnRateLimit is the answer to those that do not.
	OnRateLimit *OnRateLimit `json:"onRateLimit,omitempty"`
}

// TCP is a limit of connections; those above it are closed at once.
type TCP struct {
	// Disabled switches off a limit that a more general policy sets.
	Disabled *bool `json:"disabled,omitempty"`
	// ConnectionRate is how many new connections are accepted.
	ConnectionRate *Rate `json:"connectionRate,omitempty"`
}

// Rate is a number per interval.
type Rate struct {
	// Num is how many pass in each interval.
	Num uint32 `json:"num"`
	// Interval is longer than 50ms.
	Interval policy.Duration `json:"interval"`
}

// OnRateLimit is an answer.
type OnRateLimit struct {
	// Status is 429 when absent.
	Status *uint32 `json:"status,omitempty"`
	// Headers of the answer.
	Headers *policy.HeaderAdditions `json:"headers,omitempty"`
}

// Def is the policy.
var Def = policy.Define(resource.Names{
	Type: "MeshRateLimit", Short: "mrl",
	Plural: "meshratelimits", Single: "meshratelimit",
	Display: "Mesh Rate Limit", Displays: "Mesh Rate Limits",
}, policy.Hooks[Spec, Conf]{
	Bodies: func(s *Spec) policy.Bodies[Conf] {
		b := policy.Bodies[Conf]{TargetRef: s.TargetRef, To: s.To}
		if topKind(s) != policy.Mesh { // else they are refused as a whole
			b.Rules = s.Rules
		}
		return b
	},
	To:       []resource.Type{policy.Mesh},
	HasRules: true,
	Matches:  policy.StrictMatches,
	Validate: validate,
	Warnings: warnings,
	Inbound:  inbound,
})
