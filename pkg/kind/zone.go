package kind

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

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
			z, _ := o.Spec.(*system_proto.Zone)
			validateDrain(&errs, z.GetDrain())
			return errs
		},
	})
}

// Defaults of a drain.
const (
	DefaultDrainRamp    = 10 * time.Second
	DefaultDrainTimeout = time.Minute
	maxDrainTime        = 24 * time.Hour
)

func validateDrain(errs *resource.FieldErrors, d *system_proto.ZoneDrain) {
	within := func(field string, t *durationpb.Duration) {
		if t != nil && (!t.IsValid() || t.AsDuration() < 0 || t.AsDuration() > maxDrainTime) {
			errs.Add(field, "must be between 0s and 24h")
		}
	}
	within("drain.ramp", d.GetRamp())
	within("drain.timeout", d.GetTimeout())
	type key struct{ mesh, name, namespace string }
	seen := map[key]bool{}
	for i, s := range d.GetServices() {
		at := fmt.Sprintf("drain.services[%d]", i)
		if s.GetMesh() == "" {
			errs.Add(at+".mesh", "must not be empty")
		}
		if s.GetName() == "" {
			errs.Add(at+".name", "must not be empty: it is the display name of a MeshService of the zone")
		}
		k := key{s.GetMesh(), s.GetName(), s.GetNamespace()}
		if seen[k] {
			errs.Add(at, "is listed twice")
		}
		seen[k] = true
	}
}

// DrainTimes are how long a drain ramps and waits.
func DrainTimes(d *system_proto.ZoneDrain) (ramp, timeout time.Duration) {
	ramp, timeout = DefaultDrainRamp, DefaultDrainTimeout
	if d.GetRamp() != nil {
		ramp = d.GetRamp().AsDuration()
	}
	if d.GetTimeout() != nil {
		timeout = d.GetTimeout().AsDuration()
	}
	return ramp, timeout
}

// ZoneEnabled tells whether other zones see what this zone offers. A zone that
// says nothing is enabled.
func ZoneEnabled(z *system_proto.Zone) bool {
	return z.GetEnabled() == nil || z.GetEnabled().GetValue()
}
