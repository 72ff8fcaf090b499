package meshpassthrough

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/atoll-mesh/atoll/pkg/resource"
)

func (m Match) port() uint32 {
	if m.Port == nil {
		return 0
	}
	return uint32(*m.Port)
}

func isHTTP(protocol string) bool {
	return protocol == HTTP || protocol == HTTP2 || protocol == GRPC
}

func validate(s *Spec) resource.FieldErrors {
	var errs resource.FieldErrors
	if s.Default == nil {
		return errs
	}
	type use struct {
		value, protocol string
		port            uint32
	}
	seen := map[use]bool{}
	protocols := map[uint32]string{}
	for i, m := range s.Default.AppendMatch {
		p := fmt.Sprintf("spec.default.appendMatch[%d]", i)
		m.validate(&errs, p)
		if m.Port != nil {
			if other, ok := protocols[m.port()]; ok && other != m.Protocol && isHTTP(m.Protocol) {
				errs.Add(p+".port", "is used with protocol %s by a match before it; one port has one protocol", other)
			} else if !ok {
				protocols[m.port()] = m.Protocol
			}
		}
		u := use{m.Value, m.Protocol, m.port()}
		if seen[u] {
			errs.Add(p+".value", "is listed twice for the same port and protocol")
		}
		seen[u] = true
	}
	return errs
}

func (m Match) validate(errs *resource.FieldErrors, p string) {
	if m.Port != nil && (*m.Port < 1 || *m.Port > 65535) {
		errs.Add(p+".port", "must be in inclusive range [1, 65535]")
	}
	if m.Protocol == MySQL && m.Port == nil {
		errs.Add(p+".port", "must be defined with protocol mysql")
	}
	switch m.Protocol {
	case TCP, TLS, GRPC, HTTP, HTTP2, MySQL:
	default:
		errs.Add(p+".protocol", "must be one of tcp, tls, grpc, http, http2, mysql")
	}
	switch m.Type {
	case CIDR:
		if _, err := netip.ParsePrefix(m.Value); err != nil {
			errs.Add(p+".value", "must be a CIDR such as 10.0.0.0/8")
		}
	case IP:
		if a, err := netip.ParseAddr(m.Value); err != nil || a.Zone() != "" {
			errs.Add(p+".value", "must be an IP address")
		}
	case Domain:
		m.validateDomain(errs, p)
	default:
		errs.Add(p+".type", "must be one of Domain, IP, CIDR")
	}
}

func (m Match) validateDomain(errs *resource.FieldErrors, p string) {
	if m.Protocol == TCP || m.Protocol == MySQL {
		errs.Add(p+".protocol", "protocol %s does not tell the name that is called: use IP or CIDR", m.Protocol)
	}
	wildcard := strings.HasPrefix(m.Value, "*")
	if wildcard && m.Port == nil && isHTTP(m.Protocol) {
		errs.Add(p+".port", "must be defined for a wildcard domain with protocol %s", m.Protocol)
	}
	name, dotted := strings.CutPrefix(m.Value, "*.")
	switch {
	case m.Value == "*":
	case wildcard && !dotted:
		errs.Add(p+".value", "a wildcard must be a whole label, as in *.example.com")
	case !resource.IsDNS1123Subdomain(name):
		errs.Add(p+".value", "must be a DNS name, or one after *.")
	}
}

func warnings(s *Spec) []string {
	if s.Default != nil && s.Default.PassthroughMode != nil && *s.Default.PassthroughMode != Matched && len(s.Default.AppendMatch) > 0 {
		return []string{"spec.default.appendMatch has no effect with passthroughMode " + *s.Default.PassthroughMode}
	}
	return nil
}
