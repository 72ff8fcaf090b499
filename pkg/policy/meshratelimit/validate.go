package meshratelimit

import (
	"fmt"
	"net/http"
	"time"

	"github.com/atoll-mesh/atoll/pkg/policy"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// shortest is the interval that is already too short for Envoy.
const shortest = 50 * time.Millisecond

// mostHeaders is how many headers Envoy adds to an answer.
const mostHeaders = 10

func topKind(s *Spec) resource.Type {
	if s.TargetRef == nil {
		return policy.Mesh
	}
	return s.TargetRef.Kind
}

func validate(s *Spec) resource.FieldErrors {
	var errs resource.FieldErrors
	switch {
	case len(s.To) > 0 && len(s.Rules) > 0:
		errs.Add("spec", "to must be empty when rules is used")
	case len(s.To) == 0 && len(s.Rules) == 0:
		errs.Add("spec", "at least one of to and rules must be set")
	}
	if len(s.To) > 0 && topKind(s) != policy.Mesh {
		errs.Add("spec.to", "must not be defined")
	}
	for i, to := range s.To {
		to.Default.validate(&errs, fmt.Sprintf("spec.to[%d].default", i))
	}
	if len(s.Rules) > 0 && topKind(s) == policy.Mesh {
		errs.Add("spec.rules", "must not be defined unless targetRef.kind is Dataplane, which without labels selects every proxy of the mesh")
		return errs
	}
	for i, r := range s.Rules {
		p := fmt.Sprintf("spec.rules[%d].default", i)
		r.Default.validate(&errs, p)
		for _, m := range r.Matches {
			if m.SpiffeID != nil && r.Default.Local != nil && r.Default.Local.TCP != nil {
				errs.Add(p+".local.tcp", "cannot depend on the identity of the client: set it in a rule without spiffeID")
				break
			}
		}
	}
	return errs
}

func (c Conf) validate(errs *resource.FieldErrors, p string) {
	p += ".local"
	l := c.Local
	if l == nil {
		errs.Add(p, "must be defined")
		return
	}
	if l.HTTP == nil && l.TCP == nil {
		errs.Add(p, "must have at least one defined: tcp, http")
	}
	if h := l.HTTP; h != nil {
		if h.Disabled == nil && h.RequestRate == nil && h.OnRateLimit == nil {
			errs.Add(p+".http", "must have at least one defined: disabled, requestRate, onRateLimit")
		}
		h.RequestRate.validate(errs, p+".http.requestRate")
		if on := h.OnRateLimit; on != nil {
			policy.ValidateAboveZero(errs, p+".http.onRateLimit.status", on.Status)
			if ops := on.Headers.Ops(); len(ops.Set)+len(ops.Add) > mostHeaders {
				errs.Add(p+".http.onRateLimit.headers", "must have at most %d headers in total: Envoy adds no more", mostHeaders)
			}
		}
	}
	if t := l.TCP; t != nil {
		if t.Disabled == nil && t.ConnectionRate == nil {
			errs.Add(p+".tcp", "must have at least one defined: disabled, connectionRate")
		}
		t.ConnectionRate.validate(errs, p+".tcp.connectionRate")
	}
}

func (r *Rate) validate(errs *resource.FieldErrors, p string) {
	if r == nil {
		return
	}
	if r.Num == 0 {
		errs.Add(p+".num", "must be greater than 0")
	}
	if time.Duration(r.Interval) <= shortest {
		errs.Add(p+".interval", "must be greater than: %s", shortest.String())
	}
}

func warnings(s *Spec) []string {
	var out []string
	if len(s.To) > 0 {
		out = append(out, "spec.to has no effect: limits apply to servers, set them in spec.rules")
	}
	status := func(p string, c Conf) {
		if c.Local == nil || c.Local.HTTP == nil || c.Local.HTTP.OnRateLimit == nil {
			return
		}
		if st := c.Local.HTTP.OnRateLimit.Status; st != nil && (*st < 400 || !isKnown(*st)) {
			out = append(out, fmt.Sprintf("%s.local.http.onRateLimit.status: %d is not a status of an error that Envoy knows; it answers 429 instead", p, *st))
		}
	}
	for i, to := range s.To {
		status(fmt.Sprintf("spec.to[%d].default", i), to.Default)
	}
	for i, r := range s.Rules {
		status(fmt.Sprintf("spec.rules[%d].default", i), r.Default)
	}
	return out
}

// isKnown reports whether Envoy can answer with a status above 399.
func isKnown(status uint32) bool {
	switch status {
	case 418, 425, 451:
		return false
	}
	return http.StatusText(int(status)) != ""
}
