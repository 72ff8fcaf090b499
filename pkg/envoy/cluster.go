package envoy

import (
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	upstreamhttpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/atoll-mesh/atoll/pkg/ir"
)

const httpOptionsKey = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"

var clusterTypes = map[ir.ClusterType]clusterv3.Cluster_DiscoveryType{
	ir.EDS:         clusterv3.Cluster_EDS,
	ir.Static:      clusterv3.Cluster_STATIC,
	ir.StrictDNS:   clusterv3.Cluster_STRICT_DNS,
	ir.OriginalDst: clusterv3.Cluster_ORIGINAL_DST,
}

func cluster(c *ir.Cluster) *clusterv3.Cluster {
	out := &clusterv3.Cluster{
		Name:                 c.Name,
		ConnectTimeout:       duration(c.ConnectTimeout),
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterTypes[c.Type]},
	}
	if p := StatPrefix(c.Name); p != c.Name {
		out.AltStatName = p
	}
	out.CircuitBreakers = circuitBreakers(c.Limits)
	out.OutlierDetection = outliers(c.Outliers)
	out.HealthChecks = healthChecks(c.HealthChecks)
	// Else an endpoint that is gone stays for as long as it passes checks.
	out.IgnoreHealthOnHostRemoval = len(c.HealthChecks) > 0
	out.CommonLbConfig = commonBalance(c)
	balance(out, c.Balancer)
	switch c.Type {
	case ir.EDS:
		out.EdsClusterConfig = &clusterv3.Cluster_EdsClusterConfig{EdsConfig: fromADS()}
	case ir.OriginalDst:
		out.LbPolicy = clusterv3.Cluster_CLUSTER_PROVIDED
	default:
		out.LoadAssignment = staticLoad(c)
	}
	if o := httpOptions(c); o != nil {
		out.TypedExtensionProtocolOptions = map[string]*anypb.Any{httpOptionsKey: o}
	}
	if c.External != nil {
		out.TransportSocket = externalTLS(c.External)
	}
	protect(out, c.TLS)
	out.CloseConnectionsOnHostHealthFailure = c.CloseOnFailure
	watch(out, c.Watch)
	if c.BindSource != "" {
		out.UpstreamBindConfig = &corev3.BindConfig{SourceAddress: socketAddress(c.BindSource, 0).GetSocketAddress()}
	}
	return out
}

func staticLoad(c *ir.Cluster) *endpointv3.ClusterLoadAssignment {
	out := &endpointv3.ClusterLoadAssignment{ClusterName: c.Name}
	switch {
	case c.Socket != "":
		out.Endpoints = []*endpointv3.LocalityLbEndpoints{{LbEndpoints: []*endpointv3.LbEndpoint{{
			HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: pipe(c.Socket)}},
		}}}}
	case len(c.Endpoints) > 0:
		out.Endpoints = []*endpointv3.LocalityLbEndpoints{{LbEndpoints: endpoints(c.Endpoints)}}
	case len(c.Localities) > 0:
		out.Endpoints = localities(c.Localities)
	}
	return out
}

// httpOptions states the protocol that is spoken to the endpoints; nil for TCP.
func httpOptions(c *ir.Cluster) *anypb.Any {
	explicit := &upstreamhttpv3.HttpProtocolOptions_ExplicitHttpConfig{}
	switch c.Protocol {
	case ir.HTTP1:
		explicit.ProtocolConfig = &upstreamhttpv3.HttpProtocolOptions_ExplicitHttpConfig_HttpProtocolOptions{
			HttpProtocolOptions: &corev3.Http1ProtocolOptions{},
		}
	case ir.HTTP2, ir.GRPC:
		explicit.ProtocolConfig = &upstreamhttpv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{
			Http2ProtocolOptions: &corev3.Http2ProtocolOptions{ConnectionKeepalive: keepAlive(c.KeepAlive)},
		}
	default:
		return nil
	}
	out := &upstreamhttpv3.HttpProtocolOptions{
		UpstreamProtocolOptions: &upstreamhttpv3.HttpProtocolOptions_ExplicitHttpConfig_{ExplicitHttpConfig: explicit},
	}
	if c.HTTP != (ir.ClusterHTTP{}) {
		out.CommonHttpProtocolOptions = &corev3.HttpProtocolOptions{
			IdleTimeout:           duration(c.HTTP.IdleTimeout),
			MaxStreamDuration:     duration(c.HTTP.MaxStreamDuration),
			MaxConnectionDuration: duration(c.HTTP.MaxConnectionDuration),
		}
		if n := c.HTTP.MaxRequests; n > 0 {
			out.CommonHttpProtocolOptions.MaxRequestsPerConnection = wrapperspb.UInt32(n)
		}
	}
	return pack(out)
}

// userTimeout is TCP_USER_TIMEOUT of Linux at the level of TCP.
const tcpLevel, userTimeout = 6, 18

func watch(out *clusterv3.Cluster, w *ir.Watch) {
	if w == nil {
		return
	}
	out.UpstreamConnectionOptions = &clusterv3.UpstreamConnectionOptions{TcpKeepalive: &corev3.TcpKeepalive{
		KeepaliveProbes:   wrapperspb.UInt32(w.Probes),
		KeepaliveTime:     wrapperspb.UInt32(uint32(w.Idle.Seconds())),
		KeepaliveInterval: wrapperspb.UInt32(uint32(w.Interval.Seconds())),
	}}
	out.UpstreamBindConfig = &corev3.BindConfig{SocketOptions: []*corev3.SocketOption{{
		Description: "TCP_USER_TIMEOUT", Level: tcpLevel, Name: userTimeout,
		Value: &corev3.SocketOption_IntValue{IntValue: w.Unacknowledged.Milliseconds()},
	}}}
}

func keepAlive(k *ir.KeepAlive) *corev3.KeepaliveSettings {
	if k == nil {
		return nil
	}
	return &corev3.KeepaliveSettings{Interval: durationpb.New(k.Interval), Timeout: durationpb.New(k.Timeout)}
}

func load(l *ir.ClusterLoad) *endpointv3.ClusterLoadAssignment {
	out := &endpointv3.ClusterLoadAssignment{ClusterName: l.Cluster}
	if l.Overprovisioning != 0 {
		out.Policy = &endpointv3.ClusterLoadAssignment_Policy{OverprovisioningFactor: wrapperspb.UInt32(l.Overprovisioning)}
	}
	out.Endpoints = localities(l.Localities)
	return out
}

func localities(in []ir.Locality) []*endpointv3.LocalityLbEndpoints {
	var out []*endpointv3.LocalityLbEndpoints
	for _, x := range in {
		loc := &endpointv3.LocalityLbEndpoints{Priority: x.Priority, LbEndpoints: endpoints(x.Endpoints)}
		if x.Zone != "" || x.SubZone != "" {
			loc.Locality = &corev3.Locality{Zone: x.Zone, SubZone: x.SubZone}
		}
		if x.Weight != 0 {
			loc.LoadBalancingWeight = wrapperspb.UInt32(x.Weight)
		}
		out = append(out, loc)
	}
	return out
}

func endpoints(in []ir.Endpoint) []*endpointv3.LbEndpoint {
	out := make([]*endpointv3.LbEndpoint, 0, len(in))
	for _, e := range in {
		lb := &endpointv3.LbEndpoint{
			HostIdentifier: &endpointv3.LbEndpoint_Endpoint{
				Endpoint: &endpointv3.Endpoint{Address: socketAddress(e.Address, e.Port)},
			},
		}
		if e.Weight != 0 {
			lb.LoadBalancingWeight = wrapperspb.UInt32(e.Weight)
		}
		if len(e.Labels) > 0 {
			labels := stringStruct(e.Labels)
			lb.Metadata = &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{
				"envoy.lb":                     labels,
				"envoy.transport_socket_match": labels,
			}}
		}
		out = append(out, lb)
	}
	return out
}
