package kind

import (
	"fmt"

	"github.com/atoll-mesh/atoll/pkg/resource"
)

// MeshZoneAddressSpec is where other zones reach the ingress of a zone.
type MeshZoneAddressSpec struct {
	// Address is an IP or a DNS name.
	Address string `json:"address" schema:"minLen=1"`
	Port    int32  `json:"port" schema:"min=1,max=65535"`
}

func meshZoneAddressKind() *resource.Kind {
	return resource.Define[MeshZoneAddressSpec, resource.NoStatus](resource.Kind{
		Names: resource.Names{
			Type: MeshZoneAddress, Plural: "meshzoneaddresses", Single: "meshzoneaddress", Short: "mza",
			Display: "Mesh Zone Address", Displays: "Mesh Zone Addresses",
		},
		Scope: resource.ScopeMesh,
		Flows: resource.ZoneToGlobal | resource.AcrossZones,
		Validate: func(o *resource.Object) resource.FieldErrors {
			var errs resource.FieldErrors
			requireAddress(&errs, "spec.address", resource.SpecOf[MeshZoneAddressSpec](o).Address)
			return errs
		},
		Warnings: func(o *resource.Object) []string {
			if a := resource.SpecOf[MeshZoneAddressSpec](o).Address; !isIP(a) {
				return []string{fmt.Sprintf("spec.address: zones do not resolve the name %q yet and do not enter this zone by it; use an IP address", a)}
			}
			return nil
		},
	})
}
