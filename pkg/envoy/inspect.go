package envoy

import (
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	httpinspectorv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/http_inspector/v3"
	tlsinspectorv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/tls_inspector/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"google.golang.org/protobuf/proto"

	"github.com/atoll-mesh/atoll/pkg/ir"
)

// inspectors look at how connections begin, which chains are matched by.
func inspectors(tls bool, l *ir.Listener) []*listenerv3.ListenerFilter {
	var out []*listenerv3.ListenerFilter
	add := func(name string, config proto.Message) {
		out = append(out, &listenerv3.ListenerFilter{
			Name:           name,
			ConfigType:     &listenerv3.ListenerFilter_TypedConfig{TypedConfig: pack(config)},
			FilterDisabled: onPorts(l.SilentPorts),
		})
	}
	if tls {
		add("envoy.filters.listener.tls_inspector", &tlsinspectorv3.TlsInspector{})
	}
	if l.InspectHTTP {
		add("envoy.filters.listener.http_inspector", &httpinspectorv3.HttpInspector{})
	}
	return out
}

func onPorts(ports []uint32) *listenerv3.ListenerFilterChainMatchPredicate {
	var any []*listenerv3.ListenerFilterChainMatchPredicate
	for _, p := range ports {
		any = append(any, &listenerv3.ListenerFilterChainMatchPredicate{
			Rule: &listenerv3.ListenerFilterChainMatchPredicate_DestinationPortRange{
				DestinationPortRange: &typev3.Int32Range{Start: int32(p), End: int32(p) + 1},
			},
		})
	}
	switch len(any) {
	case 0:
		return nil
	case 1:
		return any[0]
	}
	return &listenerv3.ListenerFilterChainMatchPredicate{Rule: &listenerv3.ListenerFilterChainMatchPredicate_OrMatch{
		OrMatch: &listenerv3.ListenerFilterChainMatchPredicate_MatchSet{Rules: any},
	}}
}

func chainMatch(m *ir.ChainMatch) *listenerv3.FilterChainMatch {
	if m.TransportProtocol == "" && m.Port == 0 && len(m.ServerNames)+len(m.ApplicationProtocols)+len(m.Prefixes) == 0 {
		return nil
	}
	out := &listenerv3.FilterChainMatch{
		TransportProtocol:    m.TransportProtocol,
		ServerNames:          m.ServerNames,
		ApplicationProtocols: m.ApplicationProtocols,
		PrefixRanges:         cidrs(m.Prefixes),
	}
	if m.Port != 0 {
		out.DestinationPort = wrapperspb.UInt32(m.Port)
	}
	return out
}
