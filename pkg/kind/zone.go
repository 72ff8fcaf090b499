package kind

import (
	system_proto "github.com/atoll-mesh/atoll/api/kuma/system/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

func zoneKind() *resource.Kind {
	return resource.Define[system_proto.Zone, resource.NoStatus](resource.Kind{
		Names: resource.Names{
			Type: Zone, Plural: "zones", Single: "zone", Short: "z",
			Display: "Zone", Displays: "Zones",
		},
		Scope: resource.ScopeGlobal,
		Validate: func(o *resource.Object) resource.FieldErrors {
			var errs resource.FieldErrors
			requireLabelName(&errs, o.Name)
			return errs
		},
	})
}

// ZoneEnabled tells whether other zones see what this zone offers. A zone that
// says nothing is enabled.
func ZoneEnabled(z *system_proto.Zone) bool {
	return z.GetEnabled() == nil || z.GetEnabled().GetValue()
}
