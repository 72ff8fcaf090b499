package kind

import (
	"fmt"
	"slices"
	"strings"

	"github.com/atoll-mesh/atoll/pkg/resource"
)

// MeshMultiZoneServiceSpec joins MeshServices of several zones into one
// destination.
type MeshMultiZoneServiceSpec struct {
	// Selector tells which MeshServices belong to the destination.
	Selector MultiZoneSelector `json:"selector"`
	// Ports are the ports of the destination. Each is served by the ports of the
	// same name.
	Ports []MultiZonePort `json:"ports" schema:"minItems=1"`
}

// MultiZoneSelector selects MeshServices of the same mesh.
type MultiZoneSelector struct {
	MeshService LabelSelector `json:"meshService"`
}

// LabelSelector selects by labels.
type LabelSelector struct {
	MatchLabels map[string]string `json:"matchLabels,omitzero"`
}

// MultiZonePort is one port of a MeshMultiZoneService.
type MultiZonePort struct {
	// Name identifies the port; without it its number does.
	Name *string `json:"name,omitempty"`
	// Port is what clients call.
	Port int32 `json:"port"`
	// AppProtocol is the protocol that is spoken on the port.
	AppProtocol string `json:"appProtocol,omitempty" schema:"default=tcp"`
}

// Section names the port in KRIs: its name, or its number.
func (p *MultiZonePort) Section() string {
	if p.Name != nil {
		return sectionName(*p.Name, uint32(p.Port))
	}
	return sectionName("", uint32(p.Port))
}

// MeshMultiZoneServiceStatus is what the control plane decides and observes.
type MeshMultiZoneServiceStatus struct {
	Addresses          []HostnameAddress         `json:"addresses,omitempty"`
	VIPs               []VIP                     `json:"vips,omitempty"`
	MeshServices       []MatchedService          `json:"meshServices,omitempty"`
	HostnameGenerators []HostnameGeneratorStatus `json:"hostnameGenerators,omitempty"`
	Conditions         []Condition               `json:"conditions,omitempty"`
}

// MatchedService is a MeshService that the selector found.
type MatchedService struct {
	Name      string `json:"name"`
	Namespace string `json:"namespace"`
	Zone      string `json:"zone"`
	Mesh      string `json:"mesh"`
}

func meshMultiZoneServiceKind() *resource.Kind {
	return resource.Define[MeshMultiZoneServiceSpec, MeshMultiZoneServiceStatus](resource.Kind{
		Names: resource.Names{
			Type: MeshMultiZoneService, Plural: "meshmultizoneservices", Single: "meshmultizoneservice", Short: "mzsvc",
			Display: "Mesh Multi Zone Service", Displays: "Mesh Multi Zone Services",
		},
		Scope: resource.ScopeMesh,
		Flows: resource.GlobalToZone,
		Ports: func(o *resource.Object) []resource.Port {
			spec := resource.SpecOf[MeshMultiZoneServiceSpec](o)
			ports := make([]resource.Port, len(spec.Ports))
			for i := range spec.Ports {
				p := &spec.Ports[i]
				ports[i] = resource.Port{Section: p.Section(), Number: uint32(p.Port), Protocol: NormalProtocol(p.AppProtocol)}
			}
			return ports
		},
		Validate: validateMeshMultiZoneService,
		Warnings: sniWarnings,
	})
}

func validateMeshMultiZoneService(o *resource.Object) resource.FieldErrors {
	var errs resource.FieldErrors
	spec := resource.SpecOf[MeshMultiZoneServiceSpec](o)
	requireLabelName(&errs, o.DisplayName())
	if len(spec.Selector.MeshService.MatchLabels) == 0 {
		errs.Add("spec.selector.meshService.matchLabels", "must have at least one label")
	}
	for i := range spec.Ports {
		p := &spec.Ports[i]
		path := fmt.Sprintf("spec.ports[%d]", i)
		if p.Name != nil && *p.Name == "" {
			errs.Add(path+".name", "must not be empty when it is set")
		}
		requirePort(&errs, path+".port", int64(p.Port))
		if p.AppProtocol != "" && !slices.Contains(appProtocols, NormalProtocol(p.AppProtocol)) {
			errs.Add(path+".appProtocol", "must be one of %s", strings.Join(appProtocols, ", "))
		}
	}
	return errs
}
