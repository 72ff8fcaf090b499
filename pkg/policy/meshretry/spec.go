// Package meshretry is the policy MeshRetry: which requests and connections are
// tried again, how often, and where.
package meshretry

import (
	"github.com/atoll-mesh/atoll/pkg/policy"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// Spec of a MeshRetry.
type Spec struct {
	// TargetRef selects the clients; all proxies of the mesh when absent.
	TargetRef *policy.ProxyRef `json:"targetRef,omitempty"`
	// To sets retries per destination.
	To []policy.To[Conf] `json:"to,omitzero"`
}

// Conf is the retries of one destination, by its protocol.
type Conf struct {
	TCP  *TCP  `json:"tcp,omitempty"`
	HTTP *HTTP `json:"http,omitempty"`
	GRPC *GRPC `json:"grpc,omitempty"`
}

// TCP is retries of connecting.
type TCP struct {
	// MaxConnectAttempt is how often connecting is tried in all.
	MaxConnectAttempt *uint32 `json:"maxConnectAttempt,omitempty"`
}

// HTTP is retries of HTTP requests.
type HTTP struct {
	// NumRetries is how often a request is tried again; 0 never does.
	NumRetries *uint32 `json:"numRetries,omitempty"`
	// PerTryTimeout is how long one try may take; 0 is as long as the request.
	PerTryTimeout *policy.Duration `json:"perTryTimeout,omitempty"`
	// BackOff is the time between tries.
	BackOff *BackOff `json:"backOff,omitempty"`
	// RateLimitedBackOff takes the time between tries from the response.
	RateLimitedBackOff *RateLimitedBackOff `json:"rateLimitedBackOff,omitempty"`
	// RetryOn lists what is tried again: conditions, methods and statuses.
	RetryOn []string `json:"retryOn,omitzero"`
	// RetriableRequestHeaders: only requests with one of them are tried again.
	RetriableRequestHeaders []policy.HeaderMatch `json:"retriableRequestHeaders,omitzero"`
	// RetriableResponseHeaders: responses with one of them are failures.
	RetriableResponseHeaders []policy.HeaderMatch `json:"retriableResponseHeaders,omitzero"`
	// HostSelection says which endpoints a further try leaves out.
	HostSelection []HostSelection `json:"hostSelection,omitzero"`
	// HostSelectionMaxAttempts bounds the search for an endpoint that
	// HostSelection allows.
	HostSelectionMaxAttempts *int64 `json:"hostSelectionMaxAttempts,omitempty"`
}

// GRPC is retries of gRPC calls.
type GRPC struct {
	// NumRetries is how often a call is tried again; 0 never does.
	NumRetries *uint32 `json:"numRetries,omitempty"`
	// PerTryTimeout is how long one try may take; 0 is as long as the call.
	PerTryTimeout *policy.Duration `json:"perTryTimeout,omitempty"`
	// BackOff is the time between tries.
	BackOff *BackOff `json:"backOff,omitempty"`
	// RateLimitedBackOff takes the time between tries from the response.
	RateLimitedBackOff *RateLimitedBackOff `json:"rateLimitedBackOff,omitempty"`
	// RetryOn lists the statuses that are tried again.
	RetryOn []GRPCStatus `json:"retryOn,omitzero"`
}

// GRPCStatus is a status of gRPC.
type GRPCStatus string

// JSONSchema lists the statuses.
func (GRPCStatus) JSONSchema() *resource.Schema {
	return &resource.Schema{Type: "string", Enum: []string{
		"Canceled", "DeadlineExceeded", "Internal", "ResourceExhausted", "Unavailable",
	}}
}

// BackOff grows from BaseInterval to MaxInterval.
type BackOff struct {
	BaseInterval *policy.Duration `json:"baseInterval,omitempty"`
	MaxInterval  *policy.Duration `json:"maxInterval,omitempty"`
}

// RateLimitedBackOff waits as long as a response asks for.
type RateLimitedBackOff struct {
	// ResetHeaders are looked for in order.
	ResetHeaders []ResetHeader `json:"resetHeaders,omitzero"`
	// MaxInterval bounds what a response may ask for.
	MaxInterval *policy.Duration `json:"maxInterval,omitempty"`
}

// ResetHeader is a header of a response that says when to try again.
type ResetHeader struct {
	Name   policy.HeaderName `json:"name"`
	Format string            `json:"format" schema:"enum=Seconds|UnixTimestamp"`
}

// Predicates of a HostSelection.
const (
	OmitPreviousHosts      = "OmitPreviousHosts"
	OmitHostsWithTags      = "OmitHostsWithTags"
	OmitPreviousPriorities = "OmitPreviousPriorities"
)

// HostSelection leaves out endpoints.
type HostSelection struct {
	Predicate string `json:"predicate" schema:"enum=OmitPreviousHosts|OmitHostsWithTags|OmitPreviousPriorities"`
	// Tags of endpoints that OmitHostsWithTags leaves out.
	Tags map[string]string `json:"tags,omitempty"`
	// UpdateFrequency is after how many tries OmitPreviousPriorities counts anew.
	UpdateFrequency int32 `json:"updateFrequency" schema:"default=2,optional"`
}

// Def is the policy.
var Def = policy.Define(resource.Names{
	Type: "MeshRetry", Short: "mr",
	Plural: "meshretries", Single: "meshretry",
	Display: "Mesh Retry", Displays: "Mesh Retries",
}, policy.Hooks[Spec, Conf]{
	Bodies: func(s *Spec) policy.Bodies[Conf] {
		return policy.Bodies[Conf]{TargetRef: s.TargetRef, To: s.To}
	},
	To: []resource.Type{
		policy.Mesh, policy.MeshService, policy.MeshExternalService,
		policy.MeshMultiZoneService, policy.MeshHTTPRoute,
	},
	Validate: validate,
	Warnings: warnings,
	Outbound: outbound,
	Route:    route,
	Labels:   labels,
})
