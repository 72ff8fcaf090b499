package envoy

import (
	"net/netip"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"

	"github.com/atoll-mesh/atoll/pkg/ir"
)

// externalTLS is the socket of connections that leave the mesh.
func externalTLS(t *ir.ExternalTLS) *corev3.TransportSocket {
	common := &tlsv3.CommonTlsContext{}
	if t.MinVersion != "" || t.MaxVersion != "" {
		common.TlsParams = &tlsv3.TlsParameters{
			TlsMinimumProtocolVersion: tlsVersions[t.MinVersion],
			TlsMaximumProtocolVersion: tlsVersions[t.MaxVersion],
		}
	}
	if t.CA != "" || t.CAFile != "" {
		v := &tlsv3.CertificateValidationContext{TrustedCa: inlineBytes(t.CA)}
		if t.CA == "" {
			v.TrustedCa = &corev3.DataSource{Specifier: &corev3.DataSource_Filename{Filename: t.CAFile}}
		}
		for _, n := range t.Names {
			v.MatchTypedSubjectAltNames = append(v.MatchTypedSubjectAltNames, externalName(n))
		}
		common.ValidationContextType = &tlsv3.CommonTlsContext_ValidationContext{ValidationContext: v}
	}
	if t.Cert != "" {
		common.TlsCertificates = []*tlsv3.TlsCertificate{{
			CertificateChain: inlineBytes(t.Cert), PrivateKey: inlineBytes(string(t.Key)),
		}}
	}
	return socket(&tlsv3.UpstreamTlsContext{
		CommonTlsContext: common, Sni: t.ServerName, AllowRenegotiation: t.Renegotiate,
	})
}

// externalName is a value as the sort of name that it can be in a certificate.
func externalName(n ir.ValueMatch) *tlsv3.SubjectAltNameMatcher {
	out := &tlsv3.SubjectAltNameMatcher{SanType: tlsv3.SubjectAltNameMatcher_DNS, Matcher: exact(n.Value)}
	if n.Kind == ir.MatchPrefix {
		out.Matcher = prefix(n.Value)
	}
	if _, err := netip.ParseAddr(n.Value); err == nil {
		out.SanType = tlsv3.SubjectAltNameMatcher_IP_ADDRESS
	} else if strings.Contains(n.Value, "://") {
		out.SanType = tlsv3.SubjectAltNameMatcher_URI
	}
	return out
}
