package meshcircuitbreaker

import (
	"fmt"

	"github.com/atoll-mesh/atoll/pkg/policy"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

func validate(s *Spec) resource.FieldErrors {
	var errs resource.FieldErrors
	if len(s.To) == 0 && len(s.Rules) == 0 {
		errs.Add("spec", "at least one of to and rules must be set")
	}
	for i, to := range s.To {
		to.Default.validate(&errs, fmt.Sprintf("spec.to[%d].default", i))
	}
	for i, r := range s.Rules {
		// The API of reference reports violations below a member that there is not.
		n := len(errs)
		r.Default.validate(&errs, fmt.Sprintf("spec.from[%d].default", i))
		for n := n; n < len(errs); n++ {
			errs[n].Reason += fmt.Sprintf(" (in spec.rules[%d])", i)
		}
	}
	return errs
}

func (c Conf) validate(errs *resource.FieldErrors, p string) {
	if c.ConnectionLimits == nil && c.OutlierDetection == nil {
		errs.Add(p, "at least one of connectionLimits and outlierDetection must be set")
	}
	if l := c.ConnectionLimits; l != nil {
		p := p + ".connectionLimits"
		policy.ValidateAboveZero(errs, p+".maxConnections", l.MaxConnections)
		policy.ValidateAboveZero(errs, p+".maxConnectionPools", l.MaxConnectionPools)
		policy.ValidateAboveZero(errs, p+".maxPendingRequests", l.MaxPendingRequests)
		policy.ValidateAboveZero(errs, p+".maxRetries", l.MaxRetries)
		policy.ValidateAboveZero(errs, p+".maxRequests", l.MaxRequests)
	}
	if o := c.OutlierDetection; o != nil {
		p := p + ".outlierDetection"
		policy.ValidatePositive(errs, p+".interval", o.Interval)
		policy.ValidatePositive(errs, p+".baseEjectionTime", o.BaseEjectionTime)
		validatePercent(errs, p+".maxEjectionPercent", o.MaxEjectionPercent)
		if o.HealthyPanicThreshold != nil {
			policy.ValidatePercentage(errs, p+".healthyPanicThreshold", *o.HealthyPanicThreshold)
		}
		o.Detectors.validate(errs, p+".detectors")
	}
}

func (d *Detectors) validate(errs *resource.FieldErrors, p string) {
	if d == nil {
		errs.Add(p, "must be defined")
		return
	}
	if *d == (Detectors{}) {
		errs.Add(p, "must have at least one defined: totalFailures, gatewayFailures, localOriginFailures, successRate, failurePercentage")
	}
	d.TotalFailures.validate(errs, p+".totalFailures")
	d.GatewayFailures.validate(errs, p+".gatewayFailures")
	d.LocalOriginFailures.validate(errs, p+".localOriginFailures")
	if s := d.SuccessRate; s != nil {
		p := p + ".successRate"
		policy.ValidateAboveZero(errs, p+".minimumHosts", s.MinimumHosts)
		policy.ValidateAboveZero(errs, p+".requestVolume", s.RequestVolume)
		if f := s.StandardDeviationFactor; f != nil {
			if v, ok := f.Float(); !ok {
				errs.Add(p+".standardDeviationFactor", "invalid number")
			} else if v <= 0 {
				errs.Add(p+".standardDeviationFactor", "must be greater than 0")
			}
		}
	}
	if f := d.FailurePercentage; f != nil {
		p := p + ".failurePercentage"
		policy.ValidateAboveZero(errs, p+".minimumHosts", f.MinimumHosts)
		policy.ValidateAboveZero(errs, p+".requestVolume", f.RequestVolume)
		validatePercent(errs, p+".threshold", f.Threshold)
	}
}

func (c *Consecutive) validate(errs *resource.FieldErrors, p string) {
	if c != nil {
		policy.ValidateAboveZero(errs, p+".consecutive", c.Consecutive)
	}
}

func validatePercent(errs *resource.FieldErrors, p string, v *uint32) {
	if v != nil && *v > 100 {
		errs.Add(p, "must be in inclusive range [0, 100]")
	}
}
