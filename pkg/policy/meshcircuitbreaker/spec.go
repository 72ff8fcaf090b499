// Package meshcircuitbreaker is the policy MeshCircuitBreaker: how much may be
// under way to a destination, and which of its endpoints are left out for a
// while because of how they answer.
package meshcircuitbreaker

import (
	"github.com/atoll-mesh/atoll/pkg/policy"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// Spec of a MeshCircuitBreaker.
type Spec struct {
	// TargetRef selects the proxies; all of the mesh when absent.
	TargetRef *policy.ProxyRef `json:"targetRef,omitempty"`
	// To protects destinations, at their clients.
	To []policy.To[Conf] `json:"to,omitempty"`
	// Rules protect workloads, at their own proxies.
	Rules []Rule `json:"rules,omitempty"`
}

// Rule is an item of rules; it is about every client.
type Rule struct {
	Default Conf `json:"default,omitzero"`
}

// Conf is the limits of one destination or inbound; nil is not set here.
type Conf struct {
	// ConnectionLimits bound what is under way at once.
	ConnectionLimits *ConnectionLimits `json:"connectionLimits,omitempty"`
	// OutlierDetection leaves out endpoints that fail.
	OutlierDetection *OutlierDetection `json:"outlierDetection,omitempty"`
}

// ConnectionLimits are per client proxy and destination.
type ConnectionLimits struct {
	// MaxConnections bounds connections.
	MaxConnections *uint32 `json:"maxConnections,omitempty"`
	// MaxConnectionPools bounds pools of connections.
	MaxConnectionPools *uint32 `json:"maxConnectionPools,omitempty"`
	// MaxPendingRequests bounds requests that wait for a connection.
	MaxPendingRequests *uint32 `json:"maxPendingRequests,omitempty"`
	// MaxRetries bounds retries.
	MaxRetries *uint32 `json:"maxRetries,omitempty"`
	// MaxRequests bounds requests.
	MaxRequests *uint32 `json:"maxRequests,omitempty"`
}

// OutlierDetection watches answers and takes endpoints out for a while.
type OutlierDetection struct {
	// Disabled switches it off.
	Disabled *bool `json:"disabled,omitempty"`
	// Interval is the time between two looks at the statistics.
	Interval *policy.Duration `json:"interval,omitempty"`
	// BaseEjectionTime is how long an endpoint is out, times how often it was.
	BaseEjectionTime *policy.Duration `json:"baseEjectionTime,omitempty"`
	// MaxEjectionPercent of the endpoints may be out; one always may.
	MaxEjectionPercent *uint32 `json:"maxEjectionPercent,omitempty"`
	// SplitExternalAndLocalErrors counts errors of connecting apart.
	SplitExternalAndLocalErrors *bool `json:"splitExternalAndLocalErrors,omitempty"`
	// Detectors say what a failure is. Required.
	Detectors *Detectors `json:"detectors,omitempty"`
	// HealthyPanicThreshold is the percentage of healthy endpoints below which
	// all are used.
	HealthyPanicThreshold *policy.IntOrString `json:"healthyPanicThreshold,omitempty"`
}

// Detectors are ways of finding out that an endpoint fails.
type Detectors struct {
	// TotalFailures counts consecutive failures of any kind.
	TotalFailures *Consecutive `json:"totalFailures,omitempty"`
	// GatewayFailures counts consecutive statuses 502, 503 and 504.
	GatewayFailures *Consecutive `json:"gatewayFailures,omitempty"`
	// LocalOriginFailures counts consecutive failures to connect. It needs
	// splitExternalAndLocalErrors.
	LocalOriginFailures *Consecutive `json:"localOriginFailures,omitempty"`
	// SuccessRate compares endpoints with each other.
	SuccessRate *SuccessRate `json:"successRate,omitempty"`
	// FailurePercentage compares endpoints with a bound.
	FailurePercentage *FailurePercentage `json:"failurePercentage,omitempty"`
}

// Consecutive failures.
type Consecutive struct {
	Consecutive *uint32 `json:"consecutive,omitempty"`
}

// SuccessRate finds endpoints that succeed much less often than the average.
type SuccessRate struct {
	// MinimumHosts is how many endpoints must have enough requests.
	MinimumHosts *uint32 `json:"minimumHosts,omitempty"`
	// RequestVolume is how many requests in an interval are enough.
	RequestVolume *uint32 `json:"requestVolume,omitempty"`
	// StandardDeviationFactor is how many standard deviations below the mean.
	StandardDeviationFactor *policy.IntOrString `json:"standardDeviationFactor,omitempty"`
}

// FailurePercentage finds endpoints that fail more often than a bound.
type FailurePercentage struct {
	// MinimumHosts is how many endpoints must have enough requests.
	MinimumHosts *uint32 `json:"minimumHosts,omitempty"`
	// RequestVolume is how many requests in an interval are enough.
	RequestVolume *uint32 `json:"requestVolume,omitempty"`
	// Threshold is the percentage of failures.
	Threshold *uint32 `json:"threshold,omitempty"`
}

// Def is the policy.
var Def = policy.Define(resource.Names{
	Type: "MeshCircuitBreaker", Short: "mcb",
	Plural: "meshcircuitbreakers", Single: "meshcircuitbreaker",
	Display: "Mesh Circuit Breaker", Displays: "Mesh Circuit Breakers",
}, policy.Hooks[Spec, Conf]{
	Bodies:   bodies,
	To:       []resource.Type{policy.Mesh, policy.MeshService, policy.MeshExternalService, policy.MeshMultiZoneService},
	HasRules: true,
	Validate: validate,
	Cluster:  cluster,
	Inbound:  inbound,
})

func bodies(s *Spec) policy.Bodies[Conf] {
	b := policy.Bodies[Conf]{TargetRef: s.TargetRef, To: s.To}
	for _, r := range s.Rules {
		b.Rules = append(b.Rules, policy.Rule[Conf]{Default: r.Default})
	}
	return b
}
