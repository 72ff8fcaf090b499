package envoy

import (
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tracev3 "github.com/envoyproxy/go-control-plane/envoy/config/trace/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	detectorsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/tracers/opentelemetry/resource_detectors/v3"
	tracingv3 "github.com/envoyproxy/go-control-plane/envoy/type/tracing/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/atoll-mesh/atoll/pkg/ir"
)

// spansTimeout is how long a collector may take to answer over HTTP.
const spansTimeout = 10 * time.Second

// tracing is nil where nothing is traced.
func tracing(t *ir.Tracing) *hcmv3.HttpConnectionManager_Tracing {
	if t == nil {
		return nil
	}
	out := &hcmv3.HttpConnectionManager_Tracing{
		SpawnUpstreamSpan: wrapperspb.Bool(false),
		ClientSampling:    percent(t.Client),
		RandomSampling:    percent(t.Random),
		OverallSampling:   percent(t.Overall),
		Provider:          tracer(t),
	}
	for _, tag := range t.Tags {
		out.CustomTags = append(out.CustomTags, customTag(tag))
	}
	return out
}

func percent(v *float64) *typev3.Percent {
	if v == nil {
		return nil
	}
	return &typev3.Percent{Value: *v}
}

func customTag(t ir.TraceTag) *tracingv3.CustomTag {
	if t.Env != "" {
		return &tracingv3.CustomTag{Tag: t.Name, Type: &tracingv3.CustomTag_Environment_{
			Environment: &tracingv3.CustomTag_Environment{Name: t.Env},
		}}
	}
	if t.Header != "" {
		return &tracingv3.CustomTag{Tag: t.Name, Type: &tracingv3.CustomTag_RequestHeader{
			RequestHeader: &tracingv3.CustomTag_Header{Name: t.Header, DefaultValue: t.Value},
		}}
	}
	return &tracingv3.CustomTag{Tag: t.Name, Type: &tracingv3.CustomTag_Literal_{
		Literal: &tracingv3.CustomTag_Literal{Value: t.Value},
	}}
}

func tracer(t *ir.Tracing) *tracev3.Tracing_Http {
	var name string
	var config proto.Message
	switch {
	case t.Zipkin != nil:
		name, config = "envoy.tracers.zipkin", zipkin(t.Zipkin)
	case t.Datadog != nil:
		name, config = "envoy.tracers.datadog", &tracev3.DatadogConfig{CollectorCluster: t.Datadog.Cluster, ServiceName: t.Datadog.Service}
	case t.OTLP != nil:
		name, config = "envoy.tracers.opentelemetry", otlpTracer(t.OTLP)
	default:
		return nil
	}
	return &tracev3.Tracing_Http{Name: name, ConfigType: &tracev3.Tracing_Http_TypedConfig{TypedConfig: pack(config)}}
}

func zipkin(z *ir.ZipkinTracer) *tracev3.ZipkinConfig {
	out := &tracev3.ZipkinConfig{
		CollectorCluster:         z.Cluster,
		CollectorHostname:        z.Host,
		CollectorEndpoint:        z.Path,
		CollectorEndpointVersion: tracev3.ZipkinConfig_HTTP_JSON,
		TraceId_128Bit:           z.TraceID128Bit,
		SharedSpanContext:        wrapperspb.Bool(z.SharedSpan),
	}
	if z.Proto {
		out.CollectorEndpointVersion = tracev3.ZipkinConfig_HTTP_PROTO
	}
	return out
}

func httpService(uri, cluster string) *corev3.HttpService {
	return &corev3.HttpService{HttpUri: &corev3.HttpUri{
		Uri: uri, Timeout: durationpb.New(spansTimeout), HttpUpstreamType: &corev3.HttpUri_Cluster{Cluster: cluster},
	}}
}

func otlpTracer(o *ir.OTLPTracer) *tracev3.OpenTelemetryConfig {
	out := &tracev3.OpenTelemetryConfig{ServiceName: o.Service}
	if o.FromEnv {
		out.ResourceDetectors = []*corev3.TypedExtensionConfig{{
			Name: "envoy.tracers.opentelemetry.resource_detectors.environment", TypedConfig: pack(&detectorsv3.EnvironmentResourceDetectorConfig{}),
		}}
	}
	if o.URI != "" {
		out.HttpService = httpService(o.URI, o.Cluster)
		return out
	}
	out.GrpcService = &corev3.GrpcService{TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{
		EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{ClusterName: o.Cluster},
	}}
	return out
}
