// Package meshtimeout is the policy MeshTimeout: how long connections, requests
// and streams may take, and how long they may be idle.
package meshtimeout

import (
	"github.com/atoll-mesh/atoll/pkg/policy"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// Spec of a MeshTimeout. To and Rules exclude each other.
type Spec struct {
	// TargetRef selects the proxies; all of the mesh when absent.
	TargetRef *policy.ProxyRef `json:"targetRef,omitempty"`
	// To sets timeouts of clients, per destination.
	To []policy.To[Conf] `json:"to,omitempty"`
	// Rules set timeouts of servers.
	Rules []policy.Rule[Conf] `json:"rules,omitempty"`
}

// Conf is the timeouts of one destination or inbound; nil is not set here.
type Conf struct {
	// ConnectionTimeout is how long establishing a connection may take.
	ConnectionTimeout *policy.Duration `json:"connectionTimeout,omitempty"`
	// IdleTimeout closes a connection without traffic; 0 never does.
	IdleTimeout *policy.Duration `json:"idleTimeout,omitempty"`
	// HTTP timeouts of HTTP connections, requests and streams.
	HTTP *HTTP `json:"http,omitempty"`
}

// HTTP is the timeouts that only HTTP has; 0 switches one off.
type HTTP struct {
	// RequestTimeout is how long until the response must be complete.
	RequestTimeout *policy.Duration `json:"requestTimeout,omitempty"`
	// StreamIdleTimeout ends a stream without activity.
	StreamIdleTimeout *policy.Duration `json:"streamIdleTimeout,omitempty"`
	// MaxStreamDuration is how long a stream may last.
	MaxStreamDuration *policy.Duration `json:"maxStreamDuration,omitempty"`
	// MaxConnectionDuration is how long a connection may be used.
	MaxConnectionDuration *policy.Duration `json:"maxConnectionDuration,omitempty"`
	// RequestHeadersTimeout is how long until the headers of a request are
	// complete.
	RequestHeadersTimeout *policy.Duration `json:"requestHeadersTimeout,omitempty"`
}

// Def is the policy.
var Def = policy.Define(resource.Names{
	Type: "MeshTimeout", Short: "mt",
	Plural: "meshtimeouts", Single: "meshtimeout",
	Display: "Mesh Timeout", Displays: "Mesh Timeouts",
}, policy.Hooks[Spec, Conf]{
	Bodies: func(s *Spec) policy.Bodies[Conf] {
		return policy.Bodies[Conf]{TargetRef: s.TargetRef, To: s.To, Rules: s.Rules}
	},
	To: []resource.Type{
		policy.Mesh, policy.MeshService, policy.MeshExternalService,
		policy.MeshMultiZoneService, policy.MeshHTTPRoute,
	},
	HasRules: true,
	Matches:  policy.StrictMatches,
	Validate: validate,
	Always:   true,
	Outbound: outbound,
	Route:    route,
	Cluster:  cluster,
	Inbound:  inbound,
})
