package kind

import (
	"cmp"
	"slices"
	"strings"

	"github.com/atoll-mesh/atoll/pkg/resource"
)

// Values of MeshOpenTelemetryBackendSpec.Protocol.
const (
	OTLPGRPC = "grpc"
	OTLPHTTP = "http"
)

// Values of OTLPEnv.
const (
	EnvOptional = "Optional" // of Mode: what is set counts
	EnvDisabled = "Disabled" // nothing counts
	EnvRequired = "Required" // without, nothing is exported

	EnvFirst      = "EnvFirst" // of Precedence
	ExplicitFirst = "ExplicitFirst"
)

// MeshOpenTelemetryBackendSpec describes a collector that policies of
// observability refer to. Empty: one beside each proxy.
type MeshOpenTelemetryBackendSpec struct {
	// Endpoint is where the collector listens.
	Endpoint *OTLPEndpoint `json:"endpoint,omitempty"`
	// Protocol is spoken to it; grpc when absent.
	Protocol string `json:"protocol,omitempty" schema:"enum=grpc|http"`
	// Env tells what the OTEL_* variables of an agent may change.
	Env *OTLPEnv `json:"env,omitempty"`
}

// OTLPEndpoint is the address of a collector.
type OTLPEndpoint struct {
	// Address is an IP address or DNS name; the node of the proxy when absent.
	Address *string `json:"address,omitempty"`
	// Port is 4317 when absent.
	Port *int32 `json:"port,omitempty"`
	// Path comes before the path of the signal. Only for http.
	Path *string `json:"path,omitempty"`
}

// OTLPEnv is how an agent treats its OTEL_* variables.
type OTLPEnv struct {
	Mode       string `json:"mode,omitempty" schema:"enum=Disabled|Optional|Required,default=Optional"`
	Precedence string `json:"precedence,omitempty" schema:"enum=ExplicitFirst|EnvFirst,default=EnvFirst"`
	// AllowSignalOverrides lets variables of one signal count; true when absent.
	AllowSignalOverrides *bool `json:"allowSignalOverrides,omitempty"`
}

// MeshOpenTelemetryBackendStatus is what the control plane observes.
type MeshOpenTelemetryBackendStatus struct {
	Conditions []Condition `json:"conditions,omitempty"`
}

// OTelBackendFor returns the MeshOpenTelemetryBackend of the mesh that a reference
// by labels means: of several the oldest, then the first by name. Nil: there is
// none.
func OTelBackendFor(labels map[string]string, all []*resource.Object) *resource.Object {
	if len(labels) == 0 {
		return nil
	}
	found := slices.DeleteFunc(slices.Clone(all), func(o *resource.Object) bool { return !o.Matches(labels) })
	if len(found) == 0 {
		return nil
	}
	return slices.MinFunc(found, func(a, b *resource.Object) int {
		return cmp.Or(a.Created.Compare(b.Created), strings.Compare(a.Name, b.Name))
	})
}

func meshOpenTelemetryBackendKind() *resource.Kind {
	return resource.Define[MeshOpenTelemetryBackendSpec, MeshOpenTelemetryBackendStatus](resource.Kind{
		Names: resource.Names{
			Type: MeshOpenTelemetryBackend, Plural: "meshopentelemetrybackends", Single: "meshopentelemetrybackend", Short: "motb",
			Display: "Mesh OpenTelemetry Backend", Displays: "Mesh OpenTelemetry Backends",
		},
		Scope:    resource.ScopeMesh,
		Flows:    resource.GlobalToZone | resource.ZoneToGlobal,
		Validate: validateMeshOpenTelemetryBackend,
	})
}

func validateMeshOpenTelemetryBackend(o *resource.Object) resource.FieldErrors {
	var errs resource.FieldErrors
	spec := resource.SpecOf[MeshOpenTelemetryBackendSpec](o)
	e := spec.Endpoint
	if e == nil {
		return errs
	}
	if e.Address != nil && !isIP(*e.Address) && !resource.IsDNS1123Subdomain(*e.Address) {
		errs.Add("spec.endpoint.address", "must be an IP address or a DNS name")
	}
	if e.Port != nil && (*e.Port < 1 || *e.Port > 65535) {
		errs.Add("spec.endpoint.port", "must be in inclusive range [1, 65535]")
	}
	if e.Path == nil {
		return errs
	}
	if spec.Protocol != OTLPHTTP {
		errs.Add("spec.endpoint.path", "can only be set with protocol http")
	}
	if !strings.HasPrefix(*e.Path, "/") || strings.ContainsAny(*e.Path, "?#") {
		errs.Add("spec.endpoint.path", "must start with / and have neither ? nor #")
	}
	return errs
}
