package envoy

import (
	"maps"
	"net/netip"
	"slices"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	setstatev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/common/set_filter_state/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	setstatefilterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/set_filter_state/v3"
	tcpproxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/atoll-mesh/atoll/pkg/ir"
)

func listener(l *ir.Listener) *listenerv3.Listener {
	out := &listenerv3.Listener{
		Name:             l.Name,
		Address:          socketAddress(l.Address, l.Port),
		TrafficDirection: directions[l.Direction],
		Metadata:         tagsMetadata(l.Tags),
		StatPrefix:       StatPrefix(l.Name),
	}
	if l.Socket != "" {
		out.Address = pipe(l.Socket)
	}
	if l.NoBind {
		out.BindToPort = wrapperspb.Bool(false)
	}
	if l.OriginalDst {
		out.UseOriginalDst = wrapperspb.Bool(true)
	}
	// Envoy refuses to change this of a listener that exists, and its default
	// differs by platform: what serves the workload states it.
	if l.Direction == ir.Inbound || l.ReusePort {
		out.EnableReusePort = wrapperspb.Bool(l.ReusePort)
	}
	for _, a := range l.Also {
		out.AdditionalAddresses = append(out.AdditionalAddresses, &listenerv3.AdditionalAddress{Address: socketAddress(a.Address, a.Port)})
	}
	inspect := l.InspectTLS
	for _, c := range l.Chains {
		out.FilterChains = append(out.FilterChains, chain(c))
		inspect = inspect || c.Match.TransportProtocol != "" || len(c.Match.ServerNames)+len(c.Match.ApplicationProtocols) > 0
	}
	out.ListenerFilters = inspectors(inspect, l)
	return out
}

var directions = map[ir.Direction]corev3.TrafficDirection{
	ir.Inbound:  corev3.TrafficDirection_INBOUND,
	ir.Outbound: corev3.TrafficDirection_OUTBOUND,
}

func tagsMetadata(tags map[string]string) *corev3.Metadata {
	if len(tags) == 0 {
		return nil
	}
	return &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{"io.kuma.tags": stringStruct(tags)}}
}

func stringStruct(m map[string]string) *structpb.Struct {
	fields := make(map[string]*structpb.Value, len(m))
	for k, v := range m {
		fields[k] = structpb.NewStringValue(v)
	}
	return &structpb.Struct{Fields: fields}
}

func chain(c *ir.Chain) *listenerv3.FilterChain {
	out := &listenerv3.FilterChain{Name: c.Name}
	out.FilterChainMatch = chainMatch(&c.Match)
	if c.TLS != nil {
		out.TransportSocket = downstreamTLS(c.TLS)
	}
	if c.Files != nil {
		out.TransportSocket = certificateFiles(c.Files)
	}
	if c.Closed > 0 {
		// A chain that differs in anything is another one, and Envoy drains the
		// connections of the old.
		out.Metadata = &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{
			"atoll": {Fields: map[string]*structpb.Value{"closed": structpb.NewNumberValue(float64(c.Closed))}},
		}}
	}
	for _, f := range networkFilters {
		if m := f.config(c); m != nil {
			out.Filters = append(out.Filters, &listenerv3.Filter{
				Name:       f.name,
				ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: m},
			})
		}
	}
	return out
}

// networkFilters are the filters of a chain in the order in which connections
// pass them. A filter that a chain does not need gives nil.
var networkFilters = []struct {
	name   string
	config func(*ir.Chain) *anypb.Any
}{
	{"envoy.filters.network.rbac", networkRBAC},
	{"envoy.filters.network.set_filter_state", filterState},
	{"envoy.extensions.filters.network.local_ratelimit.v3.LocalRateLimit", connectionLimit},
	{"envoy.filters.network.http_connection_manager", func(c *ir.Chain) *anypb.Any { return optional(c.HTTP, connectionManager) }},
	{"envoy.filters.network.tcp_proxy", func(c *ir.Chain) *anypb.Any { return optional(c.TCP, tcpProxy) }},
}

func optional[T any](x *T, f func(*T) proto.Message) *anypb.Any {
	if x == nil {
		return nil
	}
	return pack(f(x))
}

func filterState(c *ir.Chain) *anypb.Any {
	if len(c.FilterState) == 0 {
		return nil
	}
	out := &setstatefilterv3.Config{}
	for _, key := range slices.Sorted(maps.Keys(c.FilterState)) {
		out.OnDownstreamTlsHandshake = append(out.OnDownstreamTlsHandshake, &setstatev3.FilterStateValue{
			Key:        &setstatev3.FilterStateValue_ObjectKey{ObjectKey: key},
			FactoryKey: "envoy.string",
			Value: &setstatev3.FilterStateValue_FormatString{FormatString: &corev3.SubstitutionFormatString{
				Format: &corev3.SubstitutionFormatString_TextFormatSource{TextFormatSource: &corev3.DataSource{
					Specifier: &corev3.DataSource_InlineString{InlineString: c.FilterState[key]},
				}},
			}},
			SkipIfEmpty: true,
		})
	}
	return pack(out)
}

func tcpProxy(t *ir.TCPProxy) proto.Message {
	out := &tcpproxyv3.TcpProxy{StatPrefix: StatPrefix(t.StatPrefix), IdleTimeout: duration(t.IdleTimeout), AccessLog: accessLogs(t.Logs)}
	if t.MaxConnectAttempts > 0 {
		out.MaxConnectAttempts = wrapperspb.UInt32(t.MaxConnectAttempts)
		if t.AttemptPause != nil {
			out.BackoffOptions = &corev3.BackoffStrategy{BaseInterval: duration(t.AttemptPause)}
		}
	}
	if t.LogConnected && len(t.Logs) > 0 {
		out.AccessLogOptions = &tcpproxyv3.TcpProxy_TcpAccessLogOptions{FlushAccessLogOnConnected: true}
	}
	out.HashPolicy = connectionHash(t.Hash)
	if len(t.Clusters) == 1 {
		out.ClusterSpecifier = &tcpproxyv3.TcpProxy_Cluster{Cluster: t.Clusters[0].Cluster}
		return out
	}
	w := &tcpproxyv3.TcpProxy_WeightedCluster{}
	for _, c := range t.Clusters {
		w.Clusters = append(w.Clusters, &tcpproxyv3.TcpProxy_WeightedCluster_ClusterWeight{Name: c.Cluster, Weight: c.Weight})
	}
	out.ClusterSpecifier = &tcpproxyv3.TcpProxy_WeightedClusters{WeightedClusters: w}
	return out
}

func connectionManager(h *ir.HTTP) proto.Message {
	out := &hcmv3.HttpConnectionManager{
		StatPrefix: StatPrefix(h.StatPrefix),
		CodecType:  hcmv3.HttpConnectionManager_AUTO,
		RouteSpecifier: &hcmv3.HttpConnectionManager_Rds{Rds: &hcmv3.Rds{
			ConfigSource:    fromADS(),
			RouteConfigName: h.RouteConfig,
		}},
		StreamIdleTimeout:     duration(h.StreamIdleTimeout),
		RequestHeadersTimeout: duration(h.RequestHeadersTimeout),
		// WebSockets pass; between proxies as extended CONNECT.
		UpgradeConfigs:        []*hcmv3.HttpConnectionManager_UpgradeConfig{{UpgradeType: "websocket"}},
		Http2ProtocolOptions:  &corev3.Http2ProtocolOptions{AllowConnect: true},
		InternalAddressConfig: &hcmv3.HttpConnectionManager_InternalAddressConfig{CidrRanges: cidrs(h.InternalCIDRs)},
	}
	out.AccessLog = accessLogs(h.Logs)
	out.Tracing = tracing(h.Tracing)
	if h.Inline != nil {
		out.RouteSpecifier = &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: routeConfig(h.Inline)}
	}
	if h.NormalizePath {
		out.NormalizePath = wrapperspb.Bool(true)
	}
	if h.IdleTimeout != nil {
		out.CommonHttpProtocolOptions = &corev3.HttpProtocolOptions{IdleTimeout: durationpb.New(*h.IdleTimeout)}
	}
	if h.ClientCertDetails {
		out.ForwardClientCertDetails = hcmv3.HttpConnectionManager_SANITIZE_SET
		out.SetCurrentClientCertDetails = &hcmv3.HttpConnectionManager_SetCurrentClientCertDetails{Uri: true}
	}
	for _, f := range httpFilters {
		if f.name == faultFilters {
			out.HttpFilters = append(out.HttpFilters, faults(h)...)
			continue
		}
		if m := f.config(h); m != nil {
			out.HttpFilters = append(out.HttpFilters, &hcmv3.HttpFilter{
				Name:       f.name,
				ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: m},
			})
		}
	}
	return out
}

// cidrs keeps what can be parsed; settings are validated where they are read.
func cidrs(in []string) []*corev3.CidrRange {
	var out []*corev3.CidrRange
	for _, s := range in {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			continue
		}
		out = append(out, &corev3.CidrRange{
			AddressPrefix: p.Addr().String(),
			PrefixLen:     wrapperspb.UInt32(uint32(p.Bits())),
		})
	}
	return out
}
