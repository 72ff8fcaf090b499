// Package meshmetric is the policy MeshMetric: which metrics of proxies and
// workloads are offered, and to whom.
package meshmetric

import (
	"github.com/atoll-mesh/atoll/pkg/policy"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// Spec of a MeshMetric.
type Spec struct {
	// TargetRef selects the proxies; all of the mesh when absent.
	TargetRef *policy.ProxyRef `json:"targetRef,omitempty"`
	// Default is what the selected proxies offer.
	Default *Conf `json:"default,omitempty"`
}

// Conf is metrics and who gets them.
type Conf struct {
	// Sidecar tells which metrics of the proxy are offered.
	Sidecar *Sidecar `json:"sidecar,omitempty"`
	// Applications are where the workload offers metrics of its own.
	Applications []Application `json:"applications,omitzero"`
	// Backends take metrics.
	Backends []Backend `json:"backends,omitzero"`
}

// Sidecar is a choice of metrics.
type Sidecar struct {
	// Profiles choose; the profile Basic when absent.
	Profiles *Profiles `json:"profiles,omitempty"`
	// IncludeUnused offers what was never counted, too.
	IncludeUnused *bool `json:"includeUnused,omitempty"`
}

// Profiles choose by name: Include before Exclude before AppendProfiles.
type Profiles struct {
	AppendProfiles []Profile  `json:"appendProfiles,omitempty"`
	Exclude        []Selector `json:"exclude,omitempty"`
	Include        []Selector `json:"include,omitempty"`
}

// Profile is a named set of metrics.
type Profile struct {
	Name string `json:"name" schema:"enum=All|Basic|None"`
}

// Selector compares the name of a metric.
type Selector struct {
	Type  string `json:"type" schema:"enum=Prefix|Regex|Exact|Contains"`
	Match string `json:"match"`
}

// Application is where a workload offers metrics.
type Application struct {
	Name    *string `json:"name,omitempty"`
	Path    *string `json:"path,omitempty" schema:"default=/metrics"`
	Address *string `json:"address,omitempty"`
	Port    int32   `json:"port"`
}

// Types of a Backend.
const (
	Prometheus    = "Prometheus"
	OpenTelemetry = "OpenTelemetry"
)

// Backend takes metrics, in the member that Type names.
type Backend struct {
	Type          string             `json:"type" schema:"enum=Prometheus|OpenTelemetry"`
	Prometheus    *PrometheusBackend `json:"prometheus,omitempty"`
	OpenTelemetry *OTelBackend       `json:"openTelemetry,omitempty"`
}

// PrometheusBackend offers metrics to Prometheus on a port of the proxy.
type PrometheusBackend struct {
	ClientID *string `json:"clientId,omitempty"`
	Port     int32   `json:"port,omitempty" schema:"default=5670"`
	Path     string  `json:"path,omitempty" schema:"default=/metrics"`
	TLS      *TLS    `json:"tls,omitempty"`
}

// Modes of TLS.
const (
	Disabled          = "Disabled"
	ProvidedTLS       = "ProvidedTLS"
	ActiveMTLSBackend = "ActiveMTLSBackend"
)

// TLS protects what Prometheus reads.
type TLS struct {
	Mode string `json:"mode,omitempty" schema:"enum=Disabled|ProvidedTLS|ActiveMTLSBackend,default=Disabled"`
}

// OTelBackend is a collector that metrics are sent to.
type OTelBackend struct {
	BackendRef *policy.CollectorRef `json:"backendRef,omitempty"`
	// RefreshInterval is 60s when absent.
	RefreshInterval *policy.Duration `json:"refreshInterval,omitempty"`

	// Collector is what BackendRef leads to.
	Collector *policy.Collector `json:"-"`
}

// Type is that of the policy.
const Type = "MeshMetric"

// Def is the policy.
var Def = policy.Define(resource.Names{
	Type: Type, Short: "mm",
	Plural: "meshmetrics", Single: "meshmetric",
	Display: "Mesh Metric", Displays: "Mesh Metrics",
}, policy.Hooks[Spec, Conf]{
	Bodies: func(s *Spec) policy.Bodies[Conf] {
		return policy.Bodies[Conf]{TargetRef: s.TargetRef, Default: s.Default}
	},
	HasStatus: true,
	Validate:  validate,
	Proxy:     proxy,
	Resolve:   resolve,
})
