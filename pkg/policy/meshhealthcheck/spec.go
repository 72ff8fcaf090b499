// Package meshhealthcheck is the policy MeshHealthCheck: how clients find out by
// asking which endpoints of a destination can serve.
package meshhealthcheck

import (
	"github.com/atoll-mesh/atoll/pkg/policy"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// Spec of a MeshHealthCheck.
type Spec struct {
	// TargetRef selects the clients; all proxies of the mesh when absent.
	TargetRef *policy.ProxyRef `json:"targetRef,omitempty"`
	// To sets checks per destination.
	To []policy.To[Conf] `json:"to,omitempty"`
}

// Conf is the checks of one destination; nil is not set here.
type Conf struct {
	// Interval is the time between two checks of an endpoint; 1m when not set.
	Interval *policy.Duration `json:"interval,omitempty"`
	// Timeout is how long an answer may take; 15s when not set.
	Timeout *policy.Duration `json:"timeout,omitempty"`
	// UnhealthyThreshold is how many checks must fail; 5 when not set.
	UnhealthyThreshold *int32 `json:"unhealthyThreshold,omitempty"`
	// HealthyThreshold is how many checks must succeed; 1 when not set.
	HealthyThreshold *int32 `json:"healthyThreshold,omitempty"`
	// InitialJitter is added to the first interval, randomly up to it.
	InitialJitter *policy.Duration `json:"initialJitter,omitempty"`
	// IntervalJitter is added to every interval, randomly up to it.
	IntervalJitter *policy.Duration `json:"intervalJitter,omitempty"`
	// IntervalJitterPercent of the interval is added to it, randomly up to it.
	IntervalJitterPercent *int32 `json:"intervalJitterPercent,omitempty"`
	// FailTrafficOnPanic makes requests fail instead of going to endpoints that
	// are not healthy when too few are healthy.
	FailTrafficOnPanic *bool `json:"failTrafficOnPanic,omitempty"`
	// EventLogPath is a file for changes of health, at the proxy.
	EventLogPath *string `json:"eventLogPath,omitempty"`
	// AlwaysLogHealthCheckFailures logs every failure, not only changes.
	AlwaysLogHealthCheckFailures *bool `json:"alwaysLogHealthCheckFailures,omitempty"`
	// NoTrafficInterval is the interval until the destination is used.
	NoTrafficInterval *policy.Duration `json:"noTrafficInterval,omitempty"`
	// ReuseConnection keeps the connection between checks.
	ReuseConnection *bool `json:"reuseConnection,omitempty"`
	// TCP checks connect, and send and expect bytes.
	TCP *TCP `json:"tcp,omitempty"`
	// HTTP checks request a path.
	HTTP *HTTP `json:"http,omitempty"`
	// GRPC checks call the health service.
	GRPC *GRPC `json:"grpc,omitempty"`
}

// TCP is a check of connecting.
type TCP struct {
	Disabled *bool `json:"disabled,omitempty"`
	// Send is what to send.
	Send *string `json:"send,omitempty"`
	// Receive is what the answer must contain, in order.
	Receive []string `json:"receive,omitzero"`
}

// HTTP is a check by request.
type HTTP struct {
	Disabled *bool `json:"disabled,omitempty"`
	// Path of the request; / when not set.
	Path *string `json:"path,omitempty"`
	// RequestHeadersToAdd to the request.
	RequestHeadersToAdd *policy.HeaderAdditions `json:"requestHeadersToAdd,omitempty"`
	// ExpectedStatuses are successes; 200 when not set.
	ExpectedStatuses []int32 `json:"expectedStatuses,omitzero"`
}

// GRPC is a check by grpc.health.v1.Health.
type GRPC struct {
	Disabled *bool `json:"disabled,omitempty"`
	// ServiceName to ask for.
	ServiceName *string `json:"serviceName,omitempty"`
	// Authority of the call.
	Authority *string `json:"authority,omitempty"`
}

// Def is the policy.
var Def = policy.Define(resource.Names{
	Type: "MeshHealthCheck", Short: "mhc",
	Plural: "meshhealthchecks", Single: "meshhealthcheck",
	Display: "Mesh Health Check", Displays: "Mesh Health Checks",
}, policy.Hooks[Spec, Conf]{
	Bodies: func(s *Spec) policy.Bodies[Conf] {
		return policy.Bodies[Conf]{TargetRef: s.TargetRef, To: s.To}
	},
	To:       []resource.Type{policy.Mesh, policy.MeshService, policy.MeshExternalService, policy.MeshMultiZoneService},
	Validate: validate,
	Cluster:  cluster,
})
