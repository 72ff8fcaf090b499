package meshloadbalancingstrategy

import (
	"fmt"
	"strings"

	"github.com/atoll-mesh/atoll/pkg/policy"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

func validate(s *Spec) resource.FieldErrors {
	var errs resource.FieldErrors
	for i, to := range s.To {
		to.Default.validate(&errs, fmt.Sprintf("spec.to[%d].default", i), to.TargetRef.Kind)
	}
	return errs
}

func (c Conf) validate(errs *resource.FieldErrors, p string, kind resource.Type) {
	if kind == policy.MeshHTTPRoute {
		if c.LoadBalancer != nil {
			errs.Add(p+".loadBalancer", "must not be set with kind MeshHTTPRoute: only hashPolicies can be")
		}
		if c.LocalityAwareness != nil {
			errs.Add(p+".localityAwareness", "must not be set with kind MeshHTTPRoute: only hashPolicies can be")
		}
	}
	if lb := c.LoadBalancer; lb != nil && lb.Type == LeastRequest && lb.LeastRequest != nil && lb.LeastRequest.ActiveRequestBias != nil {
		bp := p + ".loadBalancer.leastRequest.activeRequestBias"
		if v, ok := lb.LeastRequest.ActiveRequestBias.Float(); !ok {
			errs.Add(bp, "string must be a valid number")
		} else if v < 0 {
			errs.Add(bp, "must be greater or equal then: 0")
		}
	}
	if l := c.LocalityAwareness; l != nil {
		lp := p + ".localityAwareness"
		l.LocalZone.validate(errs, lp+".localZone.affinityTags")
		if l.CrossZone != nil && kind == policy.MeshService {
			errs.Add(lp+".crossZone", "must not be set with kind MeshService, whose traffic stays in its zone: use a MeshMultiZoneService")
		}
		l.CrossZone.validate(errs, lp+".crossZone")
	}
	for i, h := range c.HashPolicies {
		h.validate(errs, fmt.Sprintf("%s.hashPolicies[%d]", p, i))
	}
}

func (l *LocalZone) validate(errs *resource.FieldErrors, p string) {
	if l == nil {
		return
	}
	weighted := 0
	for i, t := range l.AffinityTags {
		if t.Key == "" {
			errs.Add(fmt.Sprintf("%s[%d].key", p, i), "must not be empty")
		}
		policy.ValidateAboveZero(errs, fmt.Sprintf("%s[%d].weight", p, i), t.Weight)
		if t.Weight != nil {
			weighted++
		}
	}
	if weighted > 0 && weighted < len(l.AffinityTags) {
		errs.Add(p, "either every tag has a weight or none has")
	}
}

func (c *CrossZone) validate(errs *resource.FieldErrors, p string) {
	if c == nil {
		return
	}
	for i, f := range c.Failover {
		fp := fmt.Sprintf("%s.failover[%d]", p, i)
		if f.From != nil && len(f.From.Zones) == 0 {
			errs.Add(fp+".from.zones", "must not be empty")
		}
		if f.From != nil {
			for n, zone := range f.From.Zones {
				if zone == "" {
					errs.Add(fmt.Sprintf("%s.from.zones[%d]", fp, n), "must not be empty")
				}
			}
		}
		switch named := len(f.To.Zones) > 0; {
		case named && (f.To.Type == Any || f.To.Type == None):
			errs.Add(fp+".to.zones", "must be empty when type is %s", f.To.Type)
		case !named && (f.To.Type == Only || f.To.Type == AnyExcept):
			errs.Add(fp+".to.zones", "must not be empty when type is %s", f.To.Type)
		}
	}
	if c.FailoverThreshold != nil {
		tp := p + ".failoverThreshold.percentage"
		if v, ok := c.FailoverThreshold.Percentage.Float(); ok && v == 0 {
			errs.Add(tp, "must be greater than 0")
		} else {
			policy.ValidatePercentage(errs, tp, c.FailoverThreshold.Percentage)
		}
	}
}

func (h HashPolicy) validate(errs *resource.FieldErrors, p string) {
	member, missing := "", false
	switch h.Type {
	case Header:
		member, missing = "header", h.Header == nil
	case Cookie:
		member, missing = "cookie", h.Cookie == nil
	case Connection:
		member, missing = "connection", h.Connection == nil
	case QueryParameter:
		member, missing = "queryParameter", h.QueryParameter == nil
	case FilterState:
		member, missing = "filterState", h.FilterState == nil
	}
	if missing {
		errs.Add(p+"."+member, "must be defined")
	}
	if h.Cookie != nil && h.Cookie.Path != nil && !strings.HasPrefix(*h.Cookie.Path, "/") {
		errs.Add(p+".cookie.path", "must be an absolute path")
	}
}
