// Package meshaccesslog is the policy MeshAccessLog: a line for each request and
// connection, in what form, and where it goes.
package meshaccesslog

import (
	"encoding/json"

	"github.com/atoll-mesh/atoll/pkg/policy"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// Spec of a MeshAccessLog. To and Rules exclude each other.
type Spec struct {
	// TargetRef selects the proxies; all of the mesh when absent.
	TargetRef *policy.ProxyRef `json:"targetRef,omitempty"`
	// To logs what clients send, per destination.
	To []To `json:"to,omitempty"`
	// Rules log what servers receive.
	Rules []Rule `json:"rules,omitempty"`
}

// To is logs of a destination.
type To struct {
	TargetRef policy.ToRef `json:"targetRef"`
	Default   Conf         `json:"default"`
}

// Rule is logs of some clients, or all. All rules that match log.
type Rule struct {
	Matches []policy.Match `json:"matches,omitzero"`
	Default Conf           `json:"default"`
}

// Conf is where logs go; an empty list switches them off.
type Conf struct {
	Backends []Backend `json:"backends,omitzero"`
}

// Types of a Backend.
const (
	TCP           = "Tcp"
	File          = "File"
	OpenTelemetry = "OpenTelemetry"
)

// Backend is one place for logs, in the member that Type names.
type Backend struct {
	Type          string      `json:"type" schema:"enum=Tcp|File|OpenTelemetry"`
	TCP           *TCPBackend `json:"tcp,omitempty"`
	File          *FileLog    `json:"file,omitempty"`
	OpenTelemetry *OTelLog    `json:"openTelemetry,omitempty"`
}

// TCPBackend takes lines on connections from the agents of proxies.
type TCPBackend struct {
	Address string  `json:"address" schema:"minLen=1"`
	Format  *Format `json:"format,omitempty"`
}

// FileLog is a file on the machine of the proxy.
type FileLog struct {
	Path   string  `json:"path" schema:"minLen=1"`
	Format *Format `json:"format,omitempty"`
}

// OTelLog is a collector that takes log records.
type OTelLog struct {
	BackendRef *policy.CollectorRef `json:"backendRef,omitempty"`
	Attributes []Attribute          `json:"attributes,omitempty"`
	// Body is a value of OTLP, or any JSON.
	Body *Body `json:"body,omitempty"`

	// Collector is what BackendRef leads to.
	Collector *policy.Collector `json:"-"`
}

// Attribute of a log record.
type Attribute struct {
	Key   AttributeKey `json:"key"`
	Value string       `json:"value"`
}

// AttributeKey names an attribute.
type AttributeKey string

// JSONSchema states the form of a key.
func (AttributeKey) JSONSchema() *resource.Schema {
	return &resource.Schema{Type: "string", Pattern: `^[a-z]([a-z0-9]|[._][a-z0-9])*$`}
}

// Body is any JSON.
type Body json.RawMessage

// MarshalJSON writes the body as it was given.
func (v Body) MarshalJSON() ([]byte, error) { return json.RawMessage(v).MarshalJSON() }

// UnmarshalJSON keeps the body as it is.
func (v *Body) UnmarshalJSON(b []byte) error { return (*json.RawMessage)(v).UnmarshalJSON(b) }

// JSONSchema accepts anything.
func (Body) JSONSchema() *resource.Schema { return &resource.Schema{Open: true} }

// Types of a Format.
const (
	Plain = "Plain"
	JSON  = "Json"
)

// Format is the form of a line.
type Format struct {
	Type            string     `json:"type" schema:"enum=Plain|Json"`
	Plain           *string    `json:"plain,omitempty"`
	JSON            []KeyValue `json:"json,omitempty"`
	OmitEmptyValues *bool      `json:"omitEmptyValues,omitempty" schema:"default=false"`
}

// KeyValue is a member of a JSON line.
type KeyValue struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// Def is the policy.
var Def = policy.Define(resource.Names{
	Type: "MeshAccessLog", Short: "mal",
	Plural: "meshaccesslogs", Single: "meshaccesslog",
	Display: "Mesh Access Log", Displays: "Mesh Access Logs",
}, policy.Hooks[Spec, Conf]{
	Bodies: bodies,
	To: []resource.Type{
		policy.Mesh, policy.MeshService, policy.MeshExternalService,
		policy.MeshMultiZoneService, policy.MeshHTTPRoute,
	},
	HasRules:    true,
	HasStatus:   true,
	Matches:     policy.LooseMatches,
	Validate:    validate,
	Warnings:    warnings,
	Labels:      labels,
	ReadsClient: true,
	Outbound:    outbound,
	RouteOf:     route,
	Inbound:     inbound,
	Unknown:     unknown,
	Needs:       needs,
	Resolve:     resolve,
})

func bodies(s *Spec) policy.Bodies[Conf] {
	b := policy.Bodies[Conf]{TargetRef: s.TargetRef}
	for _, to := range s.To {
		b.To = append(b.To, policy.To[Conf](to))
	}
	for _, r := range s.Rules {
		b.Rules = append(b.Rules, policy.Rule[Conf](r))
	}
	return b
}
