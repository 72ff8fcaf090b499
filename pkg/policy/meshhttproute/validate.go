package meshhttproute

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"

	"github.com/atoll-mesh/atoll/pkg/policy"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

func validate(s *Spec) resource.FieldErrors {
	var errs resource.FieldErrors
	for i, to := range s.To {
		p := fmt.Sprintf("spec.to[%d]", i)
		if len(to.Hostnames) > 0 {
			errs.Add(p+".hostnames", "must not be defined")
		}
		for j, r := range to.Rules {
			r.validate(&errs, fmt.Sprintf("%s.rules[%d]", p, j))
		}
	}
	return errs
}

func (r Rule) validate(errs *resource.FieldErrors, p string) {
	prefixes := true // every match is a path prefix
	for i, m := range r.Matches {
		m.validate(errs, fmt.Sprintf("%s.matches[%d]", p, i))
		prefixes = prefixes && m.Path != nil && m.Path.Type == PathPrefix
	}
	redirected := false
	for i, f := range r.Default.Filters {
		fp := fmt.Sprintf("%s.default.filters[%d]", p, i)
		f.validate(errs, fp, prefixes)
		if redirected && (f.Type == URLRewrite || f.Type == RequestMirror) {
			errs.Add(fp, "cannot follow a RequestRedirect, which answers the request: remove it or put it into another rule")
		}
		redirected = redirected || f.Type == RequestRedirect
	}
	for i, ref := range r.Default.BackendRefs {
		policy.ValidateBackendRef(errs, fmt.Sprintf("%s.default.backendRefs[%d]", p, i), ref)
	}
}

func (m Match) validate(errs *resource.FieldErrors, p string) {
	if m.Path != nil {
		m.Path.validate(errs, p+".path.value")
	}
	seen := map[string]bool{}
	for i, q := range m.QueryParams {
		qp := fmt.Sprintf("%s.queryParams[%d]", p, i)
		if seen[q.Name] {
			errs.Add(qp+".name", "multiple entries for name %s", q.Name)
		}
		seen[q.Name] = true
		if q.Type == RegularExpression {
			validateRegex(errs, qp+".value", q.Value)
		}
	}
	for i, h := range m.Headers {
		hp := fmt.Sprintf("%s.headers[%d].value", p, i)
		if (h.Type == Present || h.Type == Absent) && h.Value != "" {
			errs.Add(hp, "must not be defined")
		}
		if h.Type == RegularExpression {
			validateRegex(errs, hp, h.Value)
		}
	}
}

func (m PathMatch) validate(errs *resource.FieldErrors, p string) {
	if m.Type == RegularExpression {
		validateRegex(errs, p, m.Value)
		return
	}
	if m.Type == PathPrefix && m.Value != "/" && strings.HasSuffix(m.Value, "/") {
		errs.Add(p, "must not end with a slash: a prefix always matches whole segments")
	}
	if !strings.HasPrefix(m.Value, "/") {
		errs.Add(p, "must be an absolute path")
	}
}

// validateRegex keeps Envoy from refusing the whole route configuration. Its
// RE2 and Go's regexp accept the same syntax.
func validateRegex(errs *resource.FieldErrors, p, expr string) {
	if _, err := regexp.Compile(expr); err != nil {
		errs.Add(p, "must be a valid regular expression: %s", err.Error())
	}
}

func (f Filter) validate(errs *resource.FieldErrors, p string, prefixes bool) {
	missing := func(field string) { errs.Add(p+"."+field, "must be defined") }
	switch f.Type {
	case RequestHeaderModifier:
		if f.RequestHeaderModifier == nil {
			missing("requestHeaderModifier")
		} else {
			f.RequestHeaderModifier.validate(errs, p+".requestHeaderModifier")
		}
	case ResponseHeaderModifier:
		if f.ResponseHeaderModifier == nil {
			missing("responseHeaderModifier")
		} else {
			f.ResponseHeaderModifier.validate(errs, p+".responseHeaderModifier")
		}
	case RequestRedirect:
		if f.RequestRedirect == nil {
			missing("requestRedirect")
		} else {
			validateHostname(errs, p+".requestRedirect.hostname", f.RequestRedirect.Hostname)
			f.RequestRedirect.Path.validate(errs, p+".requestRedirect.path", prefixes)
		}
	case URLRewrite:
		if f.URLRewrite == nil {
			missing("urlRewrite")
		} else {
			f.URLRewrite.validate(errs, p+".urlRewrite", prefixes)
		}
	case RequestMirror:
		if f.RequestMirror == nil {
			missing("requestMirror")
		} else {
			policy.ValidateBackendRef(errs, p+".requestMirror.backendRef", f.RequestMirror.BackendRef)
			if pc := f.RequestMirror.Percentage; pc != nil {
				policy.ValidatePercentage(errs, p+".requestMirror.percentage", *pc)
			}
		}
	}
}

func (m *HeaderModifier) validate(errs *resource.FieldErrors, p string) {
	if m.Set == nil && m.Add == nil && m.Remove == nil {
		errs.Add(p, "must have at least one defined: set, add, remove")
	}
	seen := map[string]bool{}
	name := func(at, name string) {
		name = strings.ToLower(name)
		if seen[name] {
			errs.Add(at, "duplicate header name")
		}
		seen[name] = true
	}
	for i, h := range m.Set {
		name(fmt.Sprintf("%s.set[%d].name", p, i), string(h.Name))
	}
	for i, h := range m.Add {
		name(fmt.Sprintf("%s.add[%d].name", p, i), string(h.Name))
	}
	for i, h := range m.Remove {
		name(fmt.Sprintf("%s.remove[%d].name", p, i), h)
	}
}

func (r *Rewrite) validate(errs *resource.FieldErrors, p string, prefixes bool) {
	validateHostname(errs, p+".hostname", r.Hostname)
	if r.HostToBackendHostname {
		errs.Add(p+".hostToBackendHostname", "must not be set")
		if r.Hostname != "" {
			errs.Add(p+".hostToBackendHostname", "cannot be combined with hostname")
		}
	}
	r.Path.validate(errs, p+".path", prefixes)
}

func (r *PathRewrite) validate(errs *resource.FieldErrors, p string, prefixes bool) {
	if r == nil {
		return
	}
	if r.Type == ReplaceFullPath && r.ReplaceFullPath == nil {
		errs.Add(p+".replaceFullPath", "must be defined")
	}
	if r.Type == ReplacePrefixMatch && r.ReplacePrefixMatch == nil {
		errs.Add(p+".replacePrefixMatch", "must be defined")
	}
	if r.ReplacePrefixMatch != nil && !prefixes {
		errs.Add(p+".replacePrefixMatch", "can only be used when every match has a path of type PathPrefix")
	}
}

func validateHostname(errs *resource.FieldErrors, p string, h Hostname) {
	if h == "" {
		return
	}
	if _, err := netip.ParseAddr(string(h)); err == nil {
		errs.Add(p, "cannot be an IP address")
		return
	}
	policy.ValidateDNSName(errs, p, string(h))
}
