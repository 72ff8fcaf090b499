package dpserver

import (
	"fmt"
	"net"
	"path/filepath"
	"time"

	accesslog "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	boot "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	credentials "github.com/envoyproxy/go-control-plane/envoy/config/grpc_credential/v3"
	metrics "github.com/envoyproxy/go-control-plane/envoy/config/metrics/v3"
	fileaccess "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/file/v3"
	regex "github.com/envoyproxy/go-control-plane/envoy/extensions/regex_engines/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	upstreams "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	matcher "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
	"sigs.k8s.io/yaml"
)

// Names in the bootstrap document that configuration sent later refers to.
const (
	adsCluster       = "system_ads"
	logCluster       = "system_access_log_sink"
	validationSecret = "cp_validation_ctx"
)

// maxSocketPath is how much of a path may stand before ".sock": unix limits the
// whole to 107 bytes, and the agent cuts at the same place.
const maxSocketPath = 98

// document is everything that a bootstrap document is made of.
type document struct {
	params      *BootstrapParams
	id, cluster string
	metadata    *structpb.Struct
	host        string // of the control plane
	v4Only      bool
	ca          []byte
	workdir     string
	logSocket   string
	adminPort   uint32
	probes      bool // Envoy is to ask what it shall probe
	token       string
	tokenFile   string // set: Envoy reads the token from this file for each stream
}

func socketPath(workdir, name string) string {
	p := filepath.Join(workdir, name)
	if len(p) > maxSocketPath {
		p = p[:maxSocketPath]
	}
	return p + ".sock"
}

func logSocket(req *bootstrapRequest) string {
	return socketPath(req.Workdir, fmt.Sprintf("kuma-al-%s-%s", req.Name, req.Mesh))
}

// adminSocket is where Envoy's admin listens, empty when that is a TCP port.
func adminSocket(workdir string, p *BootstrapParams) string {
	if p.AdminTCP || workdir == "" {
		return ""
	}
	return socketPath(workdir, "kuma-envoy-admin")
}

func (d *document) yaml() ([]byte, error) {
	b, err := d.build()
	if err != nil {
		return nil, err
	}
	text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(b)
	if err != nil {
		return nil, err
	}
	return yaml.JSONToYAML(text)
}

func (d *document) build() (*boot.Bootstrap, error) {
	grpcService, err := d.grpcService()
	if err != nil {
		return nil, err
	}
	ads := func() *core.ConfigSource {
		return &core.ConfigSource{
			ResourceApiVersion:    core.ApiVersion_V3,
			InitialFetchTimeout:   durationpb.New(0),
			ConfigSourceSpecifier: &core.ConfigSource_Ads{Ads: &core.AggregatedConfigSource{}},
		}
	}
	admin, err := d.admin()
	if err != nil {
		return nil, err
	}
	re2, err := anypb.New(&regex.GoogleRE2{})
	if err != nil {
		return nil, err
	}
	runtime, err := structpb.NewStruct(map[string]any{
		"re2.max_program_size.error_level": float64(4294967295),
		"re2.max_program_size.warn_level":  float64(1000),
		// Milliseconds that spans wait for others; Envoy by itself lets them wait for
		// five seconds.
		"tracing.zipkin.flush_interval_ms":        float64(100),
		"tracing.opentelemetry.flush_interval_ms": float64(100),
	})
	if err != nil {
		return nil, err
	}
	clusters, err := d.clusters()
	if err != nil {
		return nil, err
	}
	b := &boot.Bootstrap{
		Node: &core.Node{Id: d.id, Cluster: d.cluster, Metadata: d.metadata},
		LayeredRuntime: &boot.LayeredRuntime{Layers: []*boot.RuntimeLayer{{
			Name: "kuma", LayerSpecifier: &boot.RuntimeLayer_StaticLayer{StaticLayer: runtime},
		}}},
		// Envoy tries these on the name of every statistic, some 230 for each cluster
		// that is made or changed. Where one could begin anywhere in a name it took
		// 15 ms for a cluster, and effects of policies for many services their time.
		StatsConfig: &metrics.StatsConfig{StatsTags: []*metrics.TagSpecifier{
			tag("name", `^grpc\.((.+)\.)`),
			tag("status", `^grpc\..*streams_closed(_([0-9]+))`),
			tag("worker", `(worker_([0-9]+)\.)`),
			tag("listener", `^((.+?)\.)rbac\.`),
		}},
		DynamicResources: &boot.Bootstrap_DynamicResources{
			LdsConfig: ads(), CdsConfig: ads(),
			AdsConfig: &core.ApiConfigSource{
				ApiType:                   core.ApiConfigSource_DELTA_GRPC,
				TransportApiVersion:       core.ApiVersion_V3,
				SetNodeOnFirstMessageOnly: true,
				GrpcServices:              []*core.GrpcService{grpcService},
			},
		},
		StaticResources: &boot.Bootstrap_StaticResources{
			Secrets:  []*tlsv3.Secret{d.validation()},
			Clusters: clusters,
		},
		DefaultRegexEngine: &core.TypedExtensionConfig{Name: "envoy.regex_engines.google_re2", TypedConfig: re2},
		Admin:              admin,
	}
	if d.params.HDS || d.probes {
		b.HdsConfig = &core.ApiConfigSource{
			ApiType:                   core.ApiConfigSource_GRPC,
			TransportApiVersion:       core.ApiVersion_V3,
			SetNodeOnFirstMessageOnly: true,
			GrpcServices:              []*core.GrpcService{grpcService},
		}
	}
	return b, nil
}

func tag(name, expr string) *metrics.TagSpecifier {
	return &metrics.TagSpecifier{TagName: name, TagValue: &metrics.TagSpecifier_Regex{Regex: expr}}
}

// validation trusts the control plane's CA, and its host name or address only.
func (d *document) validation() *tlsv3.Secret {
	exact := &matcher.StringMatcher{MatchPattern: &matcher.StringMatcher_Exact{Exact: d.host}}
	return &tlsv3.Secret{
		Name: validationSecret,
		Type: &tlsv3.Secret_ValidationContext{ValidationContext: &tlsv3.CertificateValidationContext{
			TrustedCa: inline(d.ca),
			MatchTypedSubjectAltNames: []*tlsv3.SubjectAltNameMatcher{
				{SanType: tlsv3.SubjectAltNameMatcher_DNS, Matcher: exact},
				{SanType: tlsv3.SubjectAltNameMatcher_IP_ADDRESS, Matcher: exact},
			},
		}},
	}
}

func inline(b []byte) *core.DataSource {
	return &core.DataSource{Specifier: &core.DataSource_InlineString{InlineString: string(b)}}
}

// Envoy's own pauses between attempts to open the stream grow up to 30 s. A
// control plane that is back should have its proxies back within seconds; the
// pauses are random below these, so a thousand do not come at once.
const (
	reconnectMin = 250 * time.Millisecond
	reconnectMax = 3 * time.Second
)

// grpcService reaches the control plane: by Google's gRPC library, which reads
// the token's file for each stream, or else by Envoy's own with a fixed token.
func (d *document) grpcService() (*core.GrpcService, error) {
	if d.tokenFile == "" {
		// The retry policy of the GrpcService itself is for single calls; the xDS
		// stream follows this one. Google's library has none: 500 ms to 30 s.
		retry := &core.RetryPolicy{RetryBackOff: &core.BackoffStrategy{
			BaseInterval: durationpb.New(reconnectMin), MaxInterval: durationpb.New(reconnectMax),
		}}
		s := &core.GrpcService{TargetSpecifier: &core.GrpcService_EnvoyGrpc_{
			EnvoyGrpc: &core.GrpcService_EnvoyGrpc{ClusterName: adsCluster, RetryPolicy: retry},
		}}
		if d.token != "" {
			s.InitialMetadata = []*core.HeaderValue{{Key: "authorization", Value: d.token}}
		}
		return s, nil
	}
	const plugin = "envoy.grpc_credentials.file_based_metadata"
	file, err := anypb.New(&credentials.FileBasedMetadataConfig{
		SecretData: &core.DataSource{Specifier: &core.DataSource_Filename{Filename: d.tokenFile}},
	})
	if err != nil {
		return nil, err
	}
	number := func(n int64) *core.GrpcService_GoogleGrpc_ChannelArgs_Value {
		return &core.GrpcService_GoogleGrpc_ChannelArgs_Value{
			ValueSpecifier: &core.GrpcService_GoogleGrpc_ChannelArgs_Value_IntValue{IntValue: n},
		}
	}
	return &core.GrpcService{TargetSpecifier: &core.GrpcService_GoogleGrpc_{GoogleGrpc: &core.GrpcService_GoogleGrpc{
		TargetUri:              net.JoinHostPort(d.host, fmt.Sprint(d.params.XDSPort)),
		StatPrefix:             "ads",
		CredentialsFactoryName: plugin,
		ChannelCredentials: &core.GrpcService_GoogleGrpc_ChannelCredentials{
			CredentialSpecifier: &core.GrpcService_GoogleGrpc_ChannelCredentials_SslCredentials{
				SslCredentials: &core.GrpcService_GoogleGrpc_SslCredentials{RootCerts: inline(d.ca)},
			},
		},
		CallCredentials: []*core.GrpcService_GoogleGrpc_CallCredentials{{
			CredentialSpecifier: &core.GrpcService_GoogleGrpc_CallCredentials_FromPlugin{
				FromPlugin: &core.GrpcService_GoogleGrpc_CallCredentials_MetadataCredentialsFromPlugin{
					Name: plugin,
					ConfigType: &core.GrpcService_GoogleGrpc_CallCredentials_MetadataCredentialsFromPlugin_TypedConfig{
						TypedConfig: file,
					},
				},
			},
		}},
		ChannelArgs: &core.GrpcService_GoogleGrpc_ChannelArgs{Args: map[string]*core.GrpcService_GoogleGrpc_ChannelArgs_Value{
			"grpc.keepalive_time_ms":              number(30000),
			"grpc.keepalive_timeout_ms":           number(10000),
			"grpc.http2.max_pings_without_data":   number(0),
			"grpc.max_receive_message_length":     number(int64(d.params.XDSMaxMessageBytes)),
			"grpc.keepalive_permit_without_calls": number(1),
		}},
	}}}, nil
}

func (d *document) clusters() ([]*cluster.Cluster, error) {
	options, err := http2()
	if err != nil {
		return nil, err
	}
	list := []*cluster.Cluster{{
		Name:                          logCluster,
		ConnectTimeout:                durationpb.New(5 * time.Second),
		ClusterDiscoveryType:          &cluster.Cluster_Type{Type: cluster.Cluster_STATIC},
		TypedExtensionProtocolOptions: options,
		LoadAssignment: load(logCluster, &core.Address{Address: &core.Address_Pipe{
			Pipe: &core.Pipe{Path: d.logSocket},
		}}),
	}}
	if d.tokenFile != "" {
		return list, nil
	}
	timeout, err := time.ParseDuration(d.params.XDSConnectTimeout)
	if err != nil {
		return nil, fmt.Errorf("bootstrapServer.params.xdsConnectTimeout: %w", err)
	}
	socket, err := anypb.New(&tlsv3.UpstreamTlsContext{
		Sni: d.host,
		CommonTlsContext: &tlsv3.CommonTlsContext{
			TlsParams: &tlsv3.TlsParameters{TlsMinimumProtocolVersion: tlsv3.TlsParameters_TLSv1_2},
			ValidationContextType: &tlsv3.CommonTlsContext_ValidationContextSdsSecretConfig{
				ValidationContextSdsSecretConfig: &tlsv3.SdsSecretConfig{Name: validationSecret},
			},
		},
	})
	if err != nil {
		return nil, err
	}
	ads := &cluster.Cluster{
		Name:                          adsCluster,
		ConnectTimeout:                durationpb.New(timeout),
		ClusterDiscoveryType:          &cluster.Cluster_Type{Type: cluster.Cluster_STRICT_DNS},
		DnsLookupFamily:               cluster.Cluster_AUTO,
		TypedExtensionProtocolOptions: options,
		UpstreamConnectionOptions: &cluster.UpstreamConnectionOptions{TcpKeepalive: &core.TcpKeepalive{
			KeepaliveProbes:   wrapperspb.UInt32(3),
			KeepaliveTime:     wrapperspb.UInt32(10),
			KeepaliveInterval: wrapperspb.UInt32(10),
		}},
		TransportSocket: &core.TransportSocket{
			Name:       "envoy.transport_sockets.tls",
			ConfigType: &core.TransportSocket_TypedConfig{TypedConfig: socket},
		},
		LoadAssignment: load(adsCluster, tcp(d.host, d.params.XDSPort)),
	}
	if net.ParseIP(d.host) != nil {
		ads.ClusterDiscoveryType = &cluster.Cluster_Type{Type: cluster.Cluster_STATIC}
	} else if d.v4Only {
		ads.DnsLookupFamily = cluster.Cluster_V4_ONLY
	}
	return append(list, ads), nil
}

func http2() (map[string]*anypb.Any, error) {
	m := &upstreams.HttpProtocolOptions{
		UpstreamProtocolOptions: &upstreams.HttpProtocolOptions_ExplicitHttpConfig_{
			ExplicitHttpConfig: &upstreams.HttpProtocolOptions_ExplicitHttpConfig{
				ProtocolConfig: &upstreams.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{
					Http2ProtocolOptions: &core.Http2ProtocolOptions{},
				},
			},
		},
	}
	a, err := anypb.New(m)
	if err != nil {
		return nil, err
	}
	return map[string]*anypb.Any{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": a}, nil
}

func tcp(host string, port uint32) *core.Address {
	return &core.Address{Address: &core.Address_SocketAddress{SocketAddress: &core.SocketAddress{
		Address: host, PortSpecifier: &core.SocketAddress_PortValue{PortValue: port},
	}}}
}

func load(name string, a *core.Address) *endpoint.ClusterLoadAssignment {
	return &endpoint.ClusterLoadAssignment{
		ClusterName: name,
		Endpoints: []*endpoint.LocalityLbEndpoints{{LbEndpoints: []*endpoint.LbEndpoint{{
			HostIdentifier: &endpoint.LbEndpoint_Endpoint{Endpoint: &endpoint.Endpoint{Address: a}},
		}}}},
	}
}

func (d *document) admin() (*boot.Admin, error) {
	log, err := anypb.New(proto.Message(&fileaccess.FileAccessLog{Path: d.params.AdminAccessLogPath}))
	if err != nil {
		return nil, err
	}
	a := &boot.Admin{
		AccessLog: []*accesslog.AccessLog{{
			Name:       "envoy.access_loggers.file",
			ConfigType: &accesslog.AccessLog_TypedConfig{TypedConfig: log},
		}},
		Address: tcp(d.params.AdminAddress, d.adminPort),
	}
	if socket := adminSocket(d.workdir, d.params); socket != "" {
		a.Address = &core.Address{Address: &core.Address_Pipe{Pipe: &core.Pipe{Path: socket, Mode: 0o600}}}
	}
	return a, nil
}
