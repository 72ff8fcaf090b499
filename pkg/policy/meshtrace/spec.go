// Package meshtrace is the policy MeshTrace: which requests are traced, with
// which tags, and where spans go.
package meshtrace

import (
	"github.com/atoll-mesh/atoll/pkg/policy"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// Spec of a MeshTrace.
type Spec struct {
	// TargetRef selects the proxies; all of the mesh when absent.
	TargetRef *policy.ProxyRef `json:"targetRef,omitempty"`
	// Default is how the selected proxies trace.
	Default *Conf `json:"default,omitempty"`
}

// Conf is how requests are traced.
type Conf struct {
	// Backends has one element at most; none switches tracing off.
	Backends []Backend `json:"backends,omitzero" schema:"maxItems=1"`
	// Sampling tells which requests are traced; all when absent.
	Sampling *Sampling `json:"sampling,omitempty"`
	// Tags are added to each span.
	Tags []Tag `json:"tags,omitzero"`
}

// Types of a Backend.
const (
	Zipkin        = "Zipkin"
	Datadog       = "Datadog"
	OpenTelemetry = "OpenTelemetry"
)

// Backend takes spans, in the member that Type names.
type Backend struct {
	Type          string          `json:"type" schema:"enum=Zipkin|Datadog|OpenTelemetry"`
	Zipkin        *ZipkinBackend  `json:"zipkin,omitempty"`
	Datadog       *DatadogBackend `json:"datadog,omitempty"`
	OpenTelemetry *OTelBackend    `json:"openTelemetry,omitempty"`
}

// ZipkinBackend is a collector of Zipkin.
type ZipkinBackend struct {
	URL               string `json:"url"`
	TraceID128Bit     *bool  `json:"traceId128bit,omitempty" schema:"default=false"`
	APIVersion        string `json:"apiVersion,omitempty" schema:"enum=httpJson|httpProto,default=httpJson"`
	SharedSpanContext *bool  `json:"sharedSpanContext,omitempty" schema:"default=true"`
}

// DatadogBackend is an agent of Datadog.
type DatadogBackend struct {
	URL string `json:"url"`
	// SplitService gives inbounds and each destination a service of their own.
	SplitService *bool `json:"splitService,omitempty" schema:"default=false"`
}

// OTelBackend is a collector that takes spans.
type OTelBackend struct {
	BackendRef *policy.CollectorRef `json:"backendRef,omitempty"`

	// Collector is what BackendRef leads to.
	Collector *policy.Collector `json:"-"`
}

// Sampling is shares in percent: of requests that ask for a trace, of those
// that do not, and of both together.
type Sampling struct {
	Overall *policy.IntOrString `json:"overall,omitempty"`
	Client  *policy.IntOrString `json:"client,omitempty"`
	Random  *policy.IntOrString `json:"random,omitempty"`
}

// Tag is a name and where its value comes from: exactly one of the others.
type Tag struct {
	Name    string     `json:"name"`
	Literal *string    `json:"literal,omitempty"`
	Header  *HeaderTag `json:"header,omitempty"`
}

// HeaderTag takes the value of a request header.
type HeaderTag struct {
	Name    string  `json:"name"`
	Default *string `json:"default,omitempty"`
}

// Def is the policy.
var Def = policy.Define(resource.Names{
	Type: "MeshTrace", Short: "mtr",
	Plural: "meshtraces", Single: "meshtrace",
	Display: "Mesh Trace", Displays: "Mesh Traces",
}, policy.Hooks[Spec, Conf]{
	Bodies: func(s *Spec) policy.Bodies[Conf] {
		return policy.Bodies[Conf]{TargetRef: s.TargetRef, Default: s.Default}
	},
	HasStatus: true,
	Validate:  validate,
	// Clients of a destination trace it too.
	Everywhere:  true,
	Labels:      labels,
	ReadsClient: true,
	Outbound:    outbound,
	Served:      served,
	Proxy:       proxy,
	Resolve:     resolve,
})
