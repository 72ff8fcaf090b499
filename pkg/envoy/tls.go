package envoy

import (
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/atoll-mesh/atoll/pkg/delta"
	"github.com/atoll-mesh/atoll/pkg/ir"
	"github.com/atoll-mesh/atoll/pkg/xds"
)

const tlsSocket = "envoy.transport_sockets.tls"

// Secret encodes a secret as the resource of that name.
func Secret(s *ir.Secret) *delta.Resource { return encode(s.Name, xds.Secrets, secret(s)) }

func secret(s *ir.Secret) *tlsv3.Secret {
	if s.KeyPair != nil {
		return &tlsv3.Secret{Name: s.Name, Type: &tlsv3.Secret_TlsCertificate{TlsCertificate: &tlsv3.TlsCertificate{
			CertificateChain: inlineBytes(s.KeyPair.Certificate),
			PrivateKey:       inlineBytes(string(s.KeyPair.Key)),
		}}}
	}
	cfg := &tlsv3.SPIFFECertValidatorConfig{}
	for _, d := range s.Trust {
		cfg.TrustDomains = append(cfg.TrustDomains, &tlsv3.SPIFFECertValidatorConfig_TrustDomain{
			Name: d.Name, TrustBundle: inlineBytes(d.CAs),
		})
	}
	return &tlsv3.Secret{Name: s.Name, Type: &tlsv3.Secret_ValidationContext{ValidationContext: &tlsv3.CertificateValidationContext{
		CustomValidatorConfig: &corev3.TypedExtensionConfig{
			Name: "envoy.tls.cert_validator.spiffe", TypedConfig: pack(cfg),
		},
	}}}
}

func inlineBytes(s string) *corev3.DataSource {
	return &corev3.DataSource{Specifier: &corev3.DataSource_InlineBytes{InlineBytes: []byte(s)}}
}

func downstreamTLS(t *ir.DownstreamTLS) *corev3.TransportSocket {
	return socket(&tlsv3.DownstreamTlsContext{
		RequireClientCertificate: wrapperspb.Bool(true),
		CommonTlsContext:         tlsContext(t.Certificate, t.Trust, uris(t.ClientPrefixes, prefix), t.Params),
	})
}

func certificateFiles(f *ir.CertificateFiles) *corev3.TransportSocket {
	file := func(path string) *corev3.DataSource {
		return &corev3.DataSource{Specifier: &corev3.DataSource_Filename{Filename: path}}
	}
	return socket(&tlsv3.DownstreamTlsContext{CommonTlsContext: &tlsv3.CommonTlsContext{
		TlsCertificates: []*tlsv3.TlsCertificate{{CertificateChain: file(f.Certificate), PrivateKey: file(f.Key)}},
	}})
}

func upstreamTLS(t *ir.UpstreamTLS) *corev3.TransportSocket {
	common := tlsContext(t.Certificate, t.Trust, uris(t.ServerIDs, exact), t.Params)
	common.AlpnProtocols = t.ALPN
	return socket(&tlsv3.UpstreamTlsContext{Sni: t.ServerName, CommonTlsContext: common})
}

func socket(m proto.Message) *corev3.TransportSocket {
	return &corev3.TransportSocket{Name: tlsSocket, ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: pack(m)}}
}

func tlsContext(certificate, trust ir.SecretRef, names []*tlsv3.SubjectAltNameMatcher, p ir.TLSParams) *tlsv3.CommonTlsContext {
	out := &tlsv3.CommonTlsContext{
		TlsCertificateSdsSecretConfigs: []*tlsv3.SdsSecretConfig{secretConfig(certificate)},
		ValidationContextType: &tlsv3.CommonTlsContext_CombinedValidationContext{
			CombinedValidationContext: &tlsv3.CommonTlsContext_CombinedCertificateValidationContext{
				DefaultValidationContext:         &tlsv3.CertificateValidationContext{MatchTypedSubjectAltNames: names},
				ValidationContextSdsSecretConfig: secretConfig(trust),
			},
		},
	}
	if p.MinVersion != "" || p.MaxVersion != "" || len(p.Ciphers) > 0 {
		out.TlsParams = &tlsv3.TlsParameters{
			TlsMinimumProtocolVersion: tlsVersions[p.MinVersion],
			TlsMaximumProtocolVersion: tlsVersions[p.MaxVersion],
			CipherSuites:              p.Ciphers,
		}
	}
	return out
}

// tlsVersions of which any other text is Envoy's own choice.
var tlsVersions = map[string]tlsv3.TlsParameters_TlsProtocol{
	"TLS10": tlsv3.TlsParameters_TLSv1_0, "TLS11": tlsv3.TlsParameters_TLSv1_1,
	"TLS12": tlsv3.TlsParameters_TLSv1_2, "TLS13": tlsv3.TlsParameters_TLSv1_3,
}

// secretTimeout is how long a listener or cluster waits for a server of secrets
// before it is used without; on the ADS stream secrets come with what needs them.
const secretTimeout = 15 * time.Second

func secretConfig(r ir.SecretRef) *tlsv3.SdsSecretConfig {
	if r.Cluster == "" {
		return &tlsv3.SdsSecretConfig{Name: r.Name, SdsConfig: fromADS()}
	}
	return &tlsv3.SdsSecretConfig{Name: r.Name, SdsConfig: &corev3.ConfigSource{
		ResourceApiVersion:  corev3.ApiVersion_V3,
		InitialFetchTimeout: durationpb.New(secretTimeout),
		ConfigSourceSpecifier: &corev3.ConfigSource_ApiConfigSource{ApiConfigSource: &corev3.ApiConfigSource{
			ApiType: corev3.ApiConfigSource_GRPC, TransportApiVersion: corev3.ApiVersion_V3,
			GrpcServices: []*corev3.GrpcService{{TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{
				EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{ClusterName: r.Cluster},
			}}},
		}},
	}}
}

func uris(list []string, match func(string) *matcherv3.StringMatcher) []*tlsv3.SubjectAltNameMatcher {
	var out []*tlsv3.SubjectAltNameMatcher
	for _, s := range list {
		out = append(out, &tlsv3.SubjectAltNameMatcher{SanType: tlsv3.SubjectAltNameMatcher_URI, Matcher: match(s)})
	}
	return out
}

func exact(s string) *matcherv3.StringMatcher {
	return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: s}}
}

func prefix(s string) *matcherv3.StringMatcher {
	return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: s}}
}

func protect(out *clusterv3.Cluster, t *ir.UpstreamTLS) {
	if t != nil {
		out.TransportSocket = upstreamTLS(t)
	}
}
