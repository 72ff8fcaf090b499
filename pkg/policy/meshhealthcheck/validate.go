package meshhealthcheck

import (
	"fmt"

	"github.com/atoll-mesh/atoll/pkg/policy"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

func validate(s *Spec) resource.FieldErrors {
	var errs resource.FieldErrors
	for i, to := range s.To {
		to.Default.validate(&errs, fmt.Sprintf("spec.to[%d].default", i))
	}
	return errs
}

func (c Conf) validate(errs *resource.FieldErrors, p string) {
	policy.ValidatePositive(errs, p+".interval", c.Interval)
	policy.ValidatePositive(errs, p+".timeout", c.Timeout)
	policy.ValidatePositive(errs, p+".initialJitter", c.InitialJitter)
	policy.ValidatePositive(errs, p+".intervalJitter", c.IntervalJitter)
	policy.ValidatePositive(errs, p+".noTrafficInterval", c.NoTrafficInterval)
	validateCount(errs, p+".unhealthyThreshold", c.UnhealthyThreshold)
	validateCount(errs, p+".healthyThreshold", c.HealthyThreshold)
	if v := c.IntervalJitterPercent; v != nil && (*v < 0 || *v > 100) {
		errs.Add(p+".intervalJitterPercent", "must be in inclusive range [0, 100]")
	}
	if c.EventLogPath != nil && !policy.IsFilePath(*c.EventLogPath) {
		errs.Add(p+".eventLogPath", "must be a valid path when defined")
	}
	if c.TCP == nil && c.HTTP == nil && c.GRPC == nil {
		errs.Add(p, "must have at least one defined: http, tcp, grpc")
	}
	if h := c.HTTP; h != nil {
		if h.Path != nil && *h.Path == "" {
			errs.Add(p+".http.path", "must be defined")
		}
		for n, status := range h.ExpectedStatuses {
			if status < 100 || status > 599 {
				errs.Add(fmt.Sprintf("%s.http.expectedStatuses[%d]", p, n), "must be in inclusive range [100, 599]")
			}
		}
	}
}

func validateCount(errs *resource.FieldErrors, p string, v *int32) {
	if v != nil && *v <= 0 {
		errs.Add(p, "must be greater than zero when defined")
	}
}
