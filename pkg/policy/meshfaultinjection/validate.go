package meshfaultinjection

import (
	"fmt"
	"regexp"

	"github.com/atoll-mesh/atoll/pkg/policy"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

var bandwidths = regexp.MustCompile(`^(\d+)\s?(kbps|Mbps|Gbps)$`)

func validate(s *Spec) resource.FieldErrors {
	var errs resource.FieldErrors
	if len(s.To) > 0 && s.TargetRef != nil && s.TargetRef.Kind != policy.Mesh {
		errs.Add("spec.to", "must not be defined")
	}
	for i, to := range s.To {
		to.Default.validate(&errs, fmt.Sprintf("spec.to[%d].default", i))
	}
	for i, r := range s.Rules {
		for j, m := range r.Matches {
			if m.IsEmpty() {
				errs.Add(fmt.Sprintf("spec.rules[%d].matches[%d]", i, j), "at least one of spiffeID and sni must be set; without matches a rule is for all clients")
			}
		}
		r.Default.validate(&errs, fmt.Sprintf("spec.rules[%d].default", i))
	}
	return errs
}

func (c Conf) validate(errs *resource.FieldErrors, p string) {
	for i, f := range c.HTTP {
		path := func(kind, field string) string { return fmt.Sprintf("%s.http.%s[%d].%s", p, kind, i, field) }
		if a := f.Abort; a != nil {
			if a.HTTPStatus < 100 || a.HTTPStatus > 599 {
				errs.Add(path("abort", "httpStatus"), "must be in inclusive range [100, 599]")
			}
			policy.ValidatePercentage(errs, path("abort", "percentage"), a.Percentage)
		}
		if d := f.Delay; d != nil {
			policy.ValidateNotNegative(errs, path("delay", "value"), &d.Value)
			policy.ValidatePercentage(errs, path("delay", "percentage"), d.Percentage)
		}
		if b := f.ResponseBandwidth; b != nil {
			b.validate(errs, path("responseBandwidth", "limit"))
			policy.ValidatePercentage(errs, path("responseBandwidth", "percentage"), b.Percentage)
		}
	}
}

func (b *Bandwidth) validate(errs *resource.FieldErrors, p string) {
	if b.Limit == "" {
		errs.Add(p, "must be defined")
		return
	}
	if !bandwidths.MatchString(b.Limit) {
		errs.Add(p, "must be in kbps/Mbps/Gbps units")
	} else if b.kibps() == 0 {
		errs.Add(p, "must be above zero, and its number at most 1000000000")
	}
}

func warnings(s *Spec) []string {
	var out []string
	if len(s.To) > 0 {
		out = append(out, "spec.to has no effect: faults are injected by servers, set them in spec.rules")
	}
	return out
}
