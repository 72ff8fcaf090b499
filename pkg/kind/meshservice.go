package kind

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/atoll-mesh/atoll/pkg/resource"
)

// Values of MeshServiceSpec.State.
const (
	ServiceAvailable   = "Available"
	ServiceUnavailable = "Unavailable"
)

// Values of ServiceTLS.Status.
const (
	TLSReady    = "Ready"
	TLSNotReady = "NotReady"
)

// MeshServiceSpec describes a service of one zone: whose proxies it consists
// of and the ports by which it is called.
type MeshServiceSpec struct {
	// State tells other zones whether any proxy can answer. The zone that owns
	// the service writes it.
	State string `json:"state,omitempty" schema:"enum=Available|Unavailable,default=Unavailable"`
	// Selector tells which Dataplanes belong to the service.
	Selector MeshServiceSelector `json:"selector,omitempty"`
	// Ports are the ports of the service.
	Ports []MeshServicePort `json:"ports,omitempty"`
	// Identities are the identities of the service's proxies.
	Identities []ServiceIdentity `json:"identities,omitempty"`
}

// MeshServiceSelector selects Dataplanes of the same mesh. With neither member
// it selects none.
type MeshServiceSelector struct {
	// DataplaneRef selects one Dataplane by its resource name.
	DataplaneRef *DataplaneRef `json:"dataplaneRef,omitempty"`
	// DataplaneLabels selects all Dataplanes with these labels.
	DataplaneLabels *DataplaneLabels `json:"dataplaneLabels,omitempty"`
}

// DataplaneRef names a Dataplane.
type DataplaneRef struct {
	Name string `json:"name,omitempty"`
}

// DataplaneLabels selects Dataplanes. Without labels it selects all.
type DataplaneLabels struct {
	MatchLabels map[string]string `json:"matchLabels,omitempty"`
}

// MeshServicePort is one port of a service.
type MeshServicePort struct {
	// Name identifies the port; if empty its number does.
	Name string `json:"name,omitempty"`
	// Port is what clients call.
	Port int32 `json:"port"`
	// TargetPort is the number or the name of the inbound that serves the port.
	// Without it nothing does.
	TargetPort *IntOrString `json:"targetPort,omitempty"`
	// AppProtocol is the protocol that is spoken on the port.
	AppProtocol string `json:"appProtocol,omitempty" schema:"default=tcp"`
}

// Section names the port in KRIs: its name, or its number.
func (p *MeshServicePort) Section() string { return sectionName(p.Name, uint32(p.Port)) }

// Protocol is AppProtocol as the rest of the system compares it.
func (p *MeshServicePort) Protocol() string { return NormalProtocol(p.AppProtocol) }

// ServedBy tells whether an inbound, ready or not, is the port's target.
func (p *MeshServicePort) ServedBy(in *DataplaneInbound) bool {
	switch t := p.TargetPort; {
	case t == nil:
		return false
	case t.Str != "":
		return in.GetName() == t.Str
	default:
		return t.Int > 0 && in.GetPort() == uint32(t.Int)
	}
}

// ServiceIdentity is one identity that proxies of a service may present.
type ServiceIdentity struct {
	Type  string `json:"type" schema:"enum=SpiffeID"`
	Value string `json:"value"`
}

// MeshServiceStatus is what the control plane decides and observes.
type MeshServiceStatus struct {
	Addresses          []HostnameAddress         `json:"addresses,omitempty"`
	VIPs               []VIP                     `json:"vips,omitempty"`
	TLS                ServiceTLS                `json:"tls,omitempty"`
	HostnameGenerators []HostnameGeneratorStatus `json:"hostnameGenerators,omitempty"`
	DataplaneProxies   ServiceProxies            `json:"dataplaneProxies,omitempty"`
}

// HostnameAddress is one host name of a destination.
type HostnameAddress struct {
	Hostname             string        `json:"hostname,omitempty"`
	Origin               string        `json:"origin,omitempty"`
	HostnameGeneratorRef *GeneratorRef `json:"hostnameGeneratorRef,omitempty"`
}

// GeneratorRef names a HostnameGenerator.
type GeneratorRef struct {
	CoreName string `json:"coreName"`
}

// HostnameGeneratorStatus tells what became of one generator's template.
type HostnameGeneratorStatus struct {
	HostnameGeneratorRef GeneratorRef `json:"hostnameGeneratorRef"`
	Conditions           []Condition  `json:"conditions,omitempty"`
}

// Condition is one observation in a status.
type Condition struct {
	Type    string `json:"type"`
	Status  string `json:"status" schema:"enum=True|False|Unknown"`
	Reason  string `json:"reason"`
	Message string `json:"message"`
}

// VIP is a virtual address of a destination in this zone.
type VIP struct {
	IP string `json:"ip,omitempty"`
}

// ServiceTLS tells whether every proxy of a service accepts mutual TLS.
type ServiceTLS struct {
	Status string `json:"status,omitempty" schema:"enum=Ready|NotReady"`
}

// ServiceProxies counts the proxies of a service.
type ServiceProxies struct {
	// Connected proxies have a control plane that serves them.
	Connected int `json:"connected,omitempty"`
	// Healthy proxies have, for each port of the service, a ready inbound.
	Healthy int `json:"healthy,omitempty"`
	// Total is all proxies that the service selects.
	Total int `json:"total,omitempty"`
}

// IntOrString is a port by number or by name. In JSON it is either.
type IntOrString struct {
	Int int32
	Str string // set: the value is a string
}

// UnmarshalJSON accepts a number or a string.
func (v *IntOrString) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		*v = IntOrString{}
		return json.Unmarshal(b, &v.Str)
	}
	n, err := strconv.ParseInt(string(b), 10, 32)
	if err != nil {
		return fmt.Errorf("%s is neither a string nor a 32-bit integer", b)
	}
	*v = IntOrString{Int: int32(n)}
	return nil
}

// MarshalJSON writes what UnmarshalJSON read, except that "" becomes 0.
func (v IntOrString) MarshalJSON() ([]byte, error) {
	if v.Str != "" {
		return json.Marshal(v.Str)
	}
	return json.Marshal(v.Int)
}

// JSONSchema is part of resource.Schemer.
func (IntOrString) JSONSchema() *resource.Schema { return &resource.Schema{IntOrString: true} }

func meshServiceKind() *resource.Kind {
	return resource.Define[MeshServiceSpec, MeshServiceStatus](resource.Kind{
		Names: resource.Names{
			Type: MeshService, Plural: "meshservices", Single: "meshservice", Short: "msvc",
			Display: "Mesh Service", Displays: "Mesh Services",
		},
		Scope: resource.ScopeMesh,
		Flows: resource.ZoneToGlobal | resource.AcrossZones,
		Ports: func(o *resource.Object) []resource.Port {
			spec := resource.SpecOf[MeshServiceSpec](o)
			ports := make([]resource.Port, len(spec.Ports))
			for i := range spec.Ports {
				p := &spec.Ports[i]
				ports[i] = resource.Port{Section: p.Section(), Number: uint32(p.Port), Protocol: p.Protocol()}
			}
			return ports
		},
		Validate: validateMeshService,
		Warnings: sniWarnings,
		Admit:    admitMeshService,
	})
}

// admitMeshService keeps what the control plane says about a service when a
// user writes it again.
func admitMeshService(_ resource.Site, o, old *resource.Object) (map[string]string, any) {
	if old == nil {
		return o.Labels, o.Spec
	}
	spec, before := *resource.SpecOf[MeshServiceSpec](o), resource.SpecOf[MeshServiceSpec](old)
	spec.State, spec.Identities = before.State, before.Identities
	return o.Labels, &spec
}

func validateMeshService(o *resource.Object) resource.FieldErrors {
	var errs resource.FieldErrors
	spec := resource.SpecOf[MeshServiceSpec](o)
	requireLabelName(&errs, o.DisplayName())
	if spec.Selector.DataplaneRef != nil && spec.Selector.DataplaneLabels != nil {
		errs.Add("spec.selector", "must have only one of dataplaneRef and dataplaneLabels")
	}
	for i := range spec.Ports {
		p := &spec.Ports[i]
		path := fmt.Sprintf("spec.ports[%d]", i)
		requirePort(&errs, path+".port", int64(p.Port))
		if p.AppProtocol != "" && !slices.Contains(appProtocols, p.Protocol()) {
			errs.Add(path+".appProtocol", "must be one of %s", strings.Join(appProtocols, ", "))
		}
	}
	return errs
}

// appProtocols are the protocols that a destination's port may name.
var appProtocols = []string{"grpc", "http", "http2", "tcp"}

// NormalProtocol is a protocol in lower case; empty means tcp, and Kafka is
// carried as that.
func NormalProtocol(p string) string {
	p = strings.ToLower(p)
	if p == "" || p == "kafka" {
		return "tcp"
	}
	return p
}

// ServiceProtocol is the protocol of a service's port for that of an inbound:
// what a port cannot state is tcp to its clients.
func ServiceProtocol(inbound string) string {
	if p := NormalProtocol(inbound); slices.Contains(appProtocols, p) {
		return p
	}
	return "tcp"
}

// sniWarnings says which ports of a destination other zones cannot reach,
// because their server name would not be a host name.
func sniWarnings(o *resource.Object) []string {
	var warnings []string
	for _, p := range o.Kind.Ports(o) {
		if _, ok := o.KRI().WithSection(p.Section).SNI(); !ok {
			warnings = append(warnings, fmt.Sprintf(
				"port %d cannot be reached from other zones: mesh, zone, name and port name %q must each be a DNS label (RFC 1123) and 253 characters together; rename the port or the %s",
				p.Number, p.Section, o.Type))
		}
	}
	return warnings
}

func sectionName(name string, port uint32) string {
	if name != "" {
		return name
	}
	return strconv.FormatUint(uint64(port), 10)
}

func requirePort(errs *resource.FieldErrors, path string, port int64) {
	if port < 1 || port > 65535 {
		errs.Add(path, "must be a port: 1 to 65535")
	}
}
