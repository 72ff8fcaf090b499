package meshaccesslog

import (
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"strings"

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
		to.Default.validate(&errs, fmt.Sprintf("spec.to[%d].default.backends", i))
	}
	for i, r := range s.Rules {
		r.Default.validate(&errs, fmt.Sprintf("spec.rules[%d].default.backends", i))
	}
	return errs
}

func (c Conf) validate(errs *resource.FieldErrors, p string) {
	if c.Backends == nil {
		errs.Add(p, "must be defined")
	}
	for i, b := range c.Backends {
		b.validate(errs, fmt.Sprintf("%s[%d]", p, i))
	}
}

func (b Backend) validate(errs *resource.FieldErrors, p string) {
	missing := func(field string) { errs.Add(p+"."+field, "must be defined") }
	switch b.Type {
	case File:
		if b.File == nil {
			missing("file")
			return
		}
		if !policy.IsFilePath(b.File.Path) {
			errs.Add(p+".file.path", "must be a valid path when defined")
		}
		b.File.Format.validate(errs, p+".file.format")
	case TCP:
		if b.TCP == nil {
			missing("tcp")
			return
		}
		if !isAddress(b.TCP.Address) {
			errs.Add(p+".tcp.address", "must be a host and port such as logs.example:5000")
		}
		b.TCP.Format.validate(errs, p+".tcp.format")
	case OpenTelemetry:
		if b.OpenTelemetry == nil {
			missing("openTelemetry")
			return
		}
		policy.ValidateCollectorRef(errs, p+".openTelemetry.backendRef", b.OpenTelemetry.BackendRef)
		for i, a := range b.OpenTelemetry.Attributes {
			if strings.HasPrefix(string(a.Key), "otel.") {
				errs.Add(fmt.Sprintf("%s.openTelemetry.attributes[%d].key", p, i), "must not start with otel., which is reserved")
			}
		}
	}
}

// isAddress accepts host:port and a URL with a host.
func isAddress(a string) bool {
	if host, port, err := net.SplitHostPort(a); err == nil && host != "" && port != "" {
		return !strings.ContainsAny(a, " \t\r\n")
	}
	u, err := url.Parse(a)
	return err == nil && (u.Host != "" || strings.Contains(a, ".") && resource.IsDNS1123Subdomain(a))
}

func (f *Format) validate(errs *resource.FieldErrors, p string) {
	if f == nil {
		return
	}
	switch f.Type {
	case Plain:
		if f.Plain == nil || *f.Plain == "" {
			errs.Add(p+".plain", "must be defined")
		}
	case JSON:
		if len(f.JSON) == 0 {
			errs.Add(p+".json", "must not be empty")
		}
		for i, kv := range f.JSON {
			kp := fmt.Sprintf("%s.json[%d]", p, i)
			if kv.Key == "" {
				errs.Add(kp+".key", "must not be empty")
			}
			if kv.Value == "" {
				errs.Add(kp+".value", "must not be empty")
			}
			if !json.Valid([]byte(`{"` + kv.Key + `": "` + kv.Value + `"}`)) {
				errs.Add(kp, "is not valid inside a JSON document: escape quotes and backslashes")
			}
		}
	}
}

// warnings says which formats hold what Envoy does not know, and which rules
// are for nobody.
func warnings(s *Spec) []string {
	var out []string
	look := func(path, format string) {
		if _, strange := policy.Literal(line{}.replacer(func(s string) string { return s }).Replace(format)); strange == "%" {
			out = append(out, fmt.Sprintf("%s: a %% that begins no command operator is logged as it is; write %%%% for it", path))
		} else if strange != "" {
			out = append(out, fmt.Sprintf("%s: %s is no command operator of Envoy 1.40, or lacks parameters, and is logged as it is", path, strange))
		}
	}
	for i, to := range s.To {
		to.Default.formats(fmt.Sprintf("spec.to[%d].default.backends", i), look)
	}
	for i, r := range s.Rules {
		for j, m := range r.Matches {
			if m.IsEmpty() {
				out = append(out, fmt.Sprintf("spec.rules[%d].matches[%d] is empty and matches nobody; without matches a rule is for all clients", i, j))
			}
		}
		r.Default.formats(fmt.Sprintf("spec.rules[%d].default.backends", i), look)
	}
	return out
}

// formats calls f with each format and where it is.
func (c Conf) formats(p string, f func(path, format string)) {
	of := func(p string, x *Format) {
		switch {
		case x == nil:
		case x.isJSON():
			for i, kv := range x.JSON {
				f(fmt.Sprintf("%s.json[%d].value", p, i), unquote(kv.Value))
			}
		case x.Plain != nil:
			f(p+".plain", *x.Plain)
		}
	}
	for i, b := range c.Backends {
		p := fmt.Sprintf("%s[%d]", p, i)
		switch {
		case b.Type == File && b.File != nil:
			of(p+".file.format", b.File.Format)
		case b.Type == TCP && b.TCP != nil:
			of(p+".tcp.format", b.TCP.Format)
		case b.Type == OpenTelemetry && b.OpenTelemetry != nil:
			if b.OpenTelemetry.Body != nil {
				f(p+".openTelemetry.body", string(*b.OpenTelemetry.Body))
			}
			for j, a := range b.OpenTelemetry.Attributes {
				f(fmt.Sprintf("%s.openTelemetry.attributes[%d].value", p, j), a.Value)
			}
		}
	}
}
