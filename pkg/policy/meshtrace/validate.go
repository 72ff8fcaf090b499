package meshtrace

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/atoll-mesh/atoll/pkg/policy"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

func validate(s *Spec) resource.FieldErrors {
	var errs resource.FieldErrors
	const p = "spec.default"
	if s.Default == nil {
		return errs
	}
	switch n := len(s.Default.Backends); {
	case s.Default.Backends == nil:
		errs.Add(p+".backends", "must be defined")
	case n > 1:
		errs.Add(p+".backends", "must have one element at most")
	}
	for i, b := range s.Default.Backends {
		b.validate(&errs, fmt.Sprintf("%s.backends[%d]", p, i))
	}
	for i, t := range s.Default.Tags {
		tp := fmt.Sprintf("%s.tags[%d]", p, i)
		if t.Name == "" {
			errs.Add(tp+".name", "must not be empty")
		}
		if (t.Literal == nil) == (t.Header == nil) {
			errs.Add(tp, "exactly one of literal and header must be defined")
		}
		if t.Header != nil && t.Header.Name == "" {
			errs.Add(tp+".header.name", "must not be empty")
		}
		if t.Header != nil && strings.ContainsAny(t.Header.Name, "\x00\r\n") {
			errs.Add(tp+".header.name", "must be the name of a header")
		}
	}
	if x := s.Default.Sampling; x != nil {
		for _, f := range []struct {
			name string
			v    *policy.IntOrString
		}{{"overall", x.Overall}, {"client", x.Client}, {"random", x.Random}} {
			if f.v != nil {
				policy.ValidatePercentage(&errs, p+".sampling."+f.name, *f.v)
			}
		}
	}
	return errs
}

func (b Backend) validate(errs *resource.FieldErrors, p string) {
	missing := func(field string) { errs.Add(p+"."+field, "must be defined") }
	switch b.Type {
	case Zipkin:
		if b.Zipkin == nil {
			missing("zipkin")
			return
		}
		u, err := url.ParseRequestURI(b.Zipkin.URL)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || !validPort(u, true) {
			errs.Add(p+".zipkin.url", "must be a URL such as http://zipkin.example:9411/api/v2/spans")
		}
	case Datadog:
		if b.Datadog == nil {
			missing("datadog")
			return
		}
		validateDatadog(errs, p+".datadog.url", b.Datadog.URL)
	case OpenTelemetry:
		if b.OpenTelemetry == nil {
			missing("openTelemetry")
			return
		}
		// One path for all that can be wrong with the reference, as in the API of
		// reference.
		if ref := b.OpenTelemetry.BackendRef; ref == nil || len(ref.Labels) == 0 {
			errs.Add(p+".openTelemetry.backendRef", "must be defined, with labels")
		}
	}
}

func validPort(u *url.URL, optional bool) bool {
	if u.Port() == "" {
		return optional
	}
	n, err := strconv.ParseUint(u.Port(), 10, 16)
	return err == nil && n > 0
}

func validateDatadog(errs *resource.FieldErrors, p, text string) {
	u, err := url.ParseRequestURI(text)
	if err != nil || u.Hostname() == "" {
		errs.Add(p, "must be a URL such as http://datadog.example:8126")
		return
	}
	if u.Scheme != "http" {
		errs.Add(p, "scheme must be http")
	}
	if !validPort(u, false) {
		errs.Add(p, "port must be in inclusive range [1, 65535]")
	}
	for _, f := range []struct {
		name string
		set  bool
	}{
		{"opaque part", u.Opaque != ""}, {"user", u.User != nil}, {"path", u.Path != ""},
		{"query", u.RawQuery != ""}, {"fragment", u.Fragment != ""},
	} {
		if f.set {
			errs.Add(p, "%s must not be set", f.name)
		}
	}
}
