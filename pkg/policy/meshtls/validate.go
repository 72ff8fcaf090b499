package meshtls

import (
	"fmt"
	"slices"

	"github.com/atoll-mesh/atoll/pkg/policy"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

const auto = "TLSAuto"

// versions from oldest to newest.
var versions = []string{"TLS10", "TLS11", "TLS12", "TLS13"}

func validate(s *Spec) resource.FieldErrors {
	var errs resource.FieldErrors
	whole := s.TargetRef == nil || s.TargetRef.Kind == policy.Mesh
	for i, r := range s.Rules {
		r.Default.validate(&errs, fmt.Sprintf("spec.rules[%d].default", i), whole)
	}
	return errs
}

func (c Conf) validate(errs *resource.FieldErrors, p string, whole bool) {
	if c.Mode != nil && *c.Mode != Strict && *c.Mode != Permissive {
		errs.Add(p+".mode", "must be %s or %s", Strict, Permissive)
	}
	if len(c.TLSCiphers) > 0 && !whole {
		errs.Add(p+".tlsCiphers", "can only be set for the whole mesh: set targetRef.kind to Mesh")
	}
	v := c.TLSVersion
	if v == nil {
		return
	}
	if !whole {
		errs.Add(p+".tlsVersion", "can only be set for the whole mesh: set targetRef.kind to Mesh")
	}
	low, okLow := rank(v.Min)
	high, okHigh := rank(v.Max)
	if !okLow {
		errs.Add(p+".tlsVersion.min", "%q is not a version", v.Min)
	}
	if !okHigh {
		errs.Add(p+".tlsVersion.max", "%q is not a version", v.Max)
	}
	if okLow && okHigh && low >= 0 && high >= 0 && low > high {
		errs.Add(p+".tlsVersion.min", "must not be later than max")
	}
}

// rank orders versions; -1 leaves it to Envoy.
func rank(version string) (int, bool) {
	if version == "" || version == auto {
		return -1, true
	}
	i := slices.Index(versions, version)
	return i, i >= 0
}
