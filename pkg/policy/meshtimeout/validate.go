package meshtimeout

import (
	"fmt"

	"github.com/atoll-mesh/atoll/pkg/policy"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

func validate(s *Spec) resource.FieldErrors {
	var errs resource.FieldErrors
	switch {
	case len(s.To) > 0 && len(s.Rules) > 0:
		errs.Add("spec", "to must be empty when rules is used: write two policies, one for clients and one for servers")
	case len(s.To) == 0 && len(s.Rules) == 0:
		errs.Add("spec", "at least one of to and rules must be set")
	}
	for i, to := range s.To {
		to.Default.validate(&errs, fmt.Sprintf("spec.to[%d].default", i))
	}
	for i, r := range s.Rules {
		p := fmt.Sprintf("spec.rules[%d].default", i)
		r.Default.validate(&errs, p)
		for _, m := range r.Matches {
			if m.SpiffeID != nil {
				r.Default.validateShared(&errs, p)
				break
			}
		}
	}
	return errs
}

func (c Conf) validate(errs *resource.FieldErrors, p string) {
	if c.ConnectionTimeout == nil && c.IdleTimeout == nil && c.HTTP == nil {
		errs.Add(p, "at least one timeout must be configured")
	}
	policy.ValidatePositive(errs, p+".connectionTimeout", c.ConnectionTimeout)
	policy.ValidateNotNegative(errs, p+".idleTimeout", c.IdleTimeout)
	h := c.HTTP
	if h == nil {
		return
	}
	p += ".http"
	// requestHeadersTimeout alone does not count, as in the API of reference.
	if h.RequestTimeout == nil && h.StreamIdleTimeout == nil && h.MaxStreamDuration == nil && h.MaxConnectionDuration == nil {
		errs.Add(p, "at least one timeout in this section must be configured")
	}
	policy.ValidateNotNegative(errs, p+".requestTimeout", h.RequestTimeout)
	policy.ValidateNotNegative(errs, p+".streamIdleTimeout", h.StreamIdleTimeout)
	policy.ValidateNotNegative(errs, p+".maxStreamDuration", h.MaxStreamDuration)
	policy.ValidateNotNegative(errs, p+".maxConnectionDuration", h.MaxConnectionDuration)
	policy.ValidateNotNegative(errs, p+".requestHeadersTimeout", h.RequestHeadersTimeout)
}

// validateShared refuses what belongs to the connection or the listener, which
// all clients share, in a rule for some clients.
func (c Conf) validateShared(errs *resource.FieldErrors, p string) {
	h := c.HTTP
	if h == nil {
		h = &HTTP{}
	}
	for _, f := range []struct {
		name string
		set  *policy.Duration
	}{
		{"connectionTimeout", c.ConnectionTimeout},
		{"idleTimeout", c.IdleTimeout},
		{"http.requestHeadersTimeout", h.RequestHeadersTimeout},
		{"http.maxStreamDuration", h.MaxStreamDuration},
		{"http.maxConnectionDuration", h.MaxConnectionDuration},
	} {
		if f.set != nil {
			errs.Add(p+"."+f.name, "cannot depend on the identity of the client: set it in a rule without spiffeID")
		}
	}
}
