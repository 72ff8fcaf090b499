package meshmetric

import (
	"fmt"
	"regexp"

	"github.com/atoll-mesh/atoll/pkg/resource"
)

func validate(s *Spec) resource.FieldErrors {
	var errs resource.FieldErrors
	if s.Default == nil {
		return errs
	}
	if x := s.Default.Sidecar; x != nil && x.Profiles != nil {
		const p = "spec.default.sidecar.profiles"
		for i, pr := range x.Profiles.AppendProfiles {
			switch pr.Name {
			case "All", "Basic", "None":
			default:
				errs.Add(fmt.Sprintf("%s.appendProfiles[%d].name", p, i), "unrecognized profile %q, supported are All, Basic and None", pr.Name)
			}
		}
		validateSelectors(&errs, p+".exclude", x.Profiles.Exclude)
		validateSelectors(&errs, p+".include", x.Profiles.Include)
	}
	for i, a := range s.Default.Applications {
		if a.Port < 1 || a.Port > 65535 {
			errs.Add(fmt.Sprintf("spec.default.applications.application[%d]", i), "port must be in inclusive range [1, 65535]")
		}
	}
	for i, b := range s.Default.Backends {
		b.validate(&errs, fmt.Sprintf("spec.default.backends.backend[%d]", i))
	}
	return errs
}

func validateSelectors(errs *resource.FieldErrors, p string, list []Selector) {
	for i, s := range list {
		switch s.Type {
		case "Prefix", "Exact", "Contains":
		case "Regex":
			if _, err := regexp.Compile(s.Match); err != nil {
				errs.Add(fmt.Sprintf("%s[%d].match", p, i), "invalid regex: %s", err.Error())
			}
		default:
			errs.Add(fmt.Sprintf("%s[%d].type", p, i), "unrecognized type %q, supported are Regex, Prefix, Exact and Contains", s.Type)
		}
	}
}

func (b Backend) validate(errs *resource.FieldErrors, p string) {
	switch b.Type {
	case Prometheus:
		if b.Prometheus == nil {
			errs.Add(p+".prometheus", "must be defined")
			return
		}
		if b.Prometheus.Port < 1 || b.Prometheus.Port > 65535 {
			errs.Add(p+".port", "must be in inclusive range [1, 65535]")
		}
	case OpenTelemetry:
		if b.OpenTelemetry == nil {
			errs.Add(p+".openTelemetry", "must be defined")
			return
		}
		// One path for all that can be wrong with the reference, as in the API of
		// reference.
		if ref := b.OpenTelemetry.BackendRef; ref == nil || len(ref.Labels) == 0 {
			errs.Add(p+".openTelemetry.backendRef", "must be defined, with labels")
		}
	default:
		errs.Add(p, "unrecognized type %q", b.Type)
	}
}
