package meshtcproute

import (
	"fmt"

	"github.com/atoll-mesh/atoll/pkg/policy"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

func validate(s *Spec) resource.FieldErrors {
	var errs resource.FieldErrors
	for i, to := range s.To {
		for j, r := range to.Rules {
			p := fmt.Sprintf("spec.to[%d].rules[%d].default.backendRefs", i, j)
			if len(r.Default.BackendRefs) == 0 {
				errs.Add(p, "must be defined")
			}
			for n, ref := range r.Default.BackendRefs {
				policy.ValidateBackendRef(&errs, fmt.Sprintf("%s[%d]", p, n), ref)
			}
		}
	}
	return errs
}
