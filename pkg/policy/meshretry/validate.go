package meshretry

import (
	"fmt"
	"net/http"
	"strconv"

	"github.com/atoll-mesh/atoll/pkg/policy"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

func validate(s *Spec) resource.FieldErrors {
	var errs resource.FieldErrors
	for i, to := range s.To {
		// The API of reference reports violations below a member that there is not.
		to.Default.validate(&errs, fmt.Sprintf("spec.to[%d].default.conf", i))
	}
	return errs
}

func (c Conf) validate(errs *resource.FieldErrors, p string) {
	if c.TCP == nil && c.HTTP == nil && c.GRPC == nil {
		errs.Add(p, "at least one of tcp, http and grpc must be set")
	}
	if c.TCP != nil {
		if c.TCP.MaxConnectAttempt == nil {
			errs.Add(p+".tcp", "must not be empty")
		}
		policy.ValidateAboveZero(errs, p+".tcp.maxConnectAttempt", c.TCP.MaxConnectAttempt)
	}
	c.HTTP.validate(errs, p+".http")
	c.GRPC.validate(errs, p+".grpc")
}

func (h *HTTP) validate(errs *resource.FieldErrors, p string) {
	if h == nil {
		return
	}
	if h.NumRetries == nil && h.PerTryTimeout == nil && h.BackOff == nil && h.RetryOn == nil &&
		h.RetriableRequestHeaders == nil && h.RetriableResponseHeaders == nil &&
		h.RateLimitedBackOff == nil && h.HostSelection == nil {
		errs.Add(p, "must not be empty")
	}
	h.BackOff.validate(errs, p+".backOff")
	h.RateLimitedBackOff.validate(errs, p+".rateLimitedBackOff")
	for i, item := range h.RetryOn {
		if !knownItem(item) {
			errs.Add(fmt.Sprintf("%s.retryOn[%d]", p, i), "unknown item '%s'", item)
		}
	}
	policy.ValidateHeaderMatches(errs, p+".retriableRequestHeaders", h.RetriableRequestHeaders)
	policy.ValidateHeaderMatches(errs, p+".retriableResponseHeaders", h.RetriableResponseHeaders)
	priorities := false
	for i, s := range h.HostSelection {
		sp := fmt.Sprintf("%s.hostSelection[%d]", p, i)
		switch s.Predicate {
		case OmitHostsWithTags:
			if len(s.Tags) == 0 {
				errs.Add(sp+".tags", "must be defined")
			}
		case OmitPreviousPriorities:
			if s.UpdateFrequency <= 0 {
				errs.Add(sp+".updateFrequency", "must be defined and greater than zero")
			}
			if priorities {
				errs.Add(sp+".predicate", "OmitPreviousPriorities may be given only once")
			}
			priorities = true
		}
	}
}

func knownItem(item string) bool {
	if _, ok := conditions[item]; ok {
		return true
	}
	if _, ok := methods[item]; ok {
		return true
	}
	_, ok := statusCode(item)
	return ok
}

// statusCode reads the number of a status that HTTP knows.
func statusCode(item string) (uint32, bool) {
	n, err := strconv.ParseUint(item, 10, 32)
	if err != nil || strconv.FormatUint(n, 10) != item || http.StatusText(int(n)) == "" {
		return 0, false
	}
	return uint32(n), true
}

func (g *GRPC) validate(errs *resource.FieldErrors, p string) {
	if g == nil {
		return
	}
	if g.NumRetries == nil && g.PerTryTimeout == nil && g.BackOff == nil && g.RetryOn == nil && g.RateLimitedBackOff == nil {
		errs.Add(p, "must not be empty")
	}
	g.BackOff.validate(errs, p+".backOff")
	g.RateLimitedBackOff.validate(errs, p+".rateLimitedBackOff")
}

func (b *BackOff) validate(errs *resource.FieldErrors, p string) {
	if b != nil && b.BaseInterval == nil && b.MaxInterval == nil {
		errs.Add(p, "must not be empty")
	}
}

func (r *RateLimitedBackOff) validate(errs *resource.FieldErrors, p string) {
	if r == nil {
		return
	}
	if r.MaxInterval != nil && *r.MaxInterval <= 0 {
		errs.Add(p+".maxInterval", "must be defined and greater than zero")
	}
	if r.ResetHeaders == nil {
		errs.Add(p+".resetHeaders", "must be defined")
	}
}

func warnings(s *Spec) []string {
	var out []string
	for i, to := range s.To {
		check := func(section string, r *RateLimitedBackOff) {
			if r != nil && len(r.ResetHeaders) == 0 {
				out = append(out, fmt.Sprintf("spec.to[%d].default.%s.rateLimitedBackOff has no effect: resetHeaders is empty", i, section))
			}
		}
		if to.Default.HTTP != nil {
			check("http", to.Default.HTTP.RateLimitedBackOff)
		}
		if to.Default.GRPC != nil {
			check("grpc", to.Default.GRPC.RateLimitedBackOff)
		}
	}
	return out
}
