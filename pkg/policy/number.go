package policy

import "github.com/atoll-mesh/atoll/pkg/resource"

// ValidateAboveZero adds a violation when v is set and 0.
func ValidateAboveZero(errs *resource.FieldErrors, p string, v *uint32) {
	if v != nil && *v == 0 {
		errs.Add(p, "must be greater than 0")
	}
}
