package envoy

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	filev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/file/v3"
	celfilterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/filters/cel/v3"
	grpclogv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/grpc/v3"
	otlplogv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/open_telemetry/v3"
	celv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/formatter/cel/v3"
	commonv1 "go.opentelemetry.io/proto/otlp/common/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/atoll-mesh/atoll/pkg/ir"
)

func accessLogs(in []ir.AccessLog) []*accesslogv3.AccessLog {
	var out []*accesslogv3.AccessLog
	for i := range in {
		l := &in[i]
		x := &accesslogv3.AccessLog{Name: "envoy.access_loggers.file", Filter: logFilter(l)}
		if l.OTLP != nil {
			x.Name = "envoy.access_loggers.open_telemetry"
			x.ConfigType = &accesslogv3.AccessLog_TypedConfig{TypedConfig: pack(otlpLog(l.OTLP))}
		} else {
			x.ConfigType = &accesslogv3.AccessLog_TypedConfig{TypedConfig: pack(fileLog(l))}
		}
		out = append(out, x)
	}
	return out
}

func fileLog(l *ir.AccessLog) *filev3.FileAccessLog {
	format := &corev3.SubstitutionFormatString{OmitEmptyValues: l.OmitEmpty, Formatters: celFormatter(l.Text + string(l.JSON))}
	object := &structpb.Struct{}
	if len(l.JSON) > 0 && protojson.Unmarshal(l.JSON, object) == nil {
		format.Format = &corev3.SubstitutionFormatString_JsonFormat{JsonFormat: object}
	} else {
		format.Format = &corev3.SubstitutionFormatString_TextFormatSource{TextFormatSource: &corev3.DataSource{
			Specifier: &corev3.DataSource_InlineString{InlineString: l.Text},
		}}
	}
	return &filev3.FileAccessLog{Path: l.Path, AccessLogFormat: &filev3.FileAccessLog_LogFormat{LogFormat: format}}
}

// celFormatter is what %CEL(…)% needs.
func celFormatter(format string) []*corev3.TypedExtensionConfig {
	if !strings.Contains(format, "%CEL(") {
		return nil
	}
	return []*corev3.TypedExtensionConfig{{Name: "envoy.formatter.cel", TypedConfig: pack(&celv3.Cel{})}}
}

const logName = "MeshAccessLog"

// recordsFlush is how long a record may wait for others before it is sent; Envoy
// by itself lets it wait for a second.
const recordsFlush = 100 * time.Millisecond

func otlpLog(l *ir.OTLPLog) *otlplogv3.OpenTelemetryAccessLogConfig {
	all := string(l.Body)
	for _, v := range l.Attributes {
		all += v
	}
	out := &otlplogv3.OpenTelemetryAccessLogConfig{
		//lint:ignore SA1019 its successors are unknown to Envoy 1.36, which is supported
		CommonConfig: &grpclogv3.CommonGrpcAccessLogConfig{
			LogName:             logName,
			BufferFlushInterval: durationpb.New(recordsFlush),
			TransportApiVersion: corev3.ApiVersion_V3,
			GrpcService: &corev3.GrpcService{TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{
				EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{ClusterName: l.Cluster},
			}},
		},
		ResourceAttributes: keyValues(l.Resource),
		Attributes:         keyValues(l.Attributes),
		Body:               otlpBody(l.Body),
		Formatters:         celFormatter(all),
	}
	if l.URI != "" { // which Envoy 1.36 cannot
		//lint:ignore SA1019 as above
		out.CommonConfig = nil
		out.LogName, out.HttpService = logName, httpService(l.URI, l.Cluster)
		out.BufferFlushInterval = durationpb.New(recordsFlush)
	}
	return out
}

// otlpBody reads a value as OTLP writes it; any other JSON is its text.
func otlpBody(body json.RawMessage) *commonv1.AnyValue {
	if len(body) == 0 {
		return nil
	}
	v := &commonv1.AnyValue{}
	if err := protojson.Unmarshal(body, v); err == nil && v.Value != nil {
		return v
	}
	text := string(body)
	var s string
	if json.Unmarshal(body, &s) == nil {
		text = s
	}
	return stringValue(text)
}

func stringValue(s string) *commonv1.AnyValue {
	return &commonv1.AnyValue{Value: &commonv1.AnyValue_StringValue{StringValue: s}}
}

func keyValues(m map[string]string) *commonv1.KeyValueList {
	if len(m) == 0 {
		return nil
	}
	out := &commonv1.KeyValueList{}
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out.Values = append(out.Values, &commonv1.KeyValue{Key: k, Value: stringValue(m[k])})
	}
	return out
}

// logFilter chooses what is written; nil is everything.
func logFilter(l *ir.AccessLog) *accesslogv3.AccessLogFilter {
	var all []string
	if c := l.Client; c != nil {
		if m := c.SpiffeID; m != nil {
			if m.Kind == ir.MatchPrefix {
				all = append(all, "connection.uri_san_peer_certificate.startsWith("+strconv.Quote(m.Value)+")")
			} else {
				all = append(all, "connection.uri_san_peer_certificate == "+strconv.Quote(m.Value))
			}
		}
		if c.ServerName != "" {
			all = append(all, "connection.requested_server_name == "+strconv.Quote(c.ServerName))
		}
	}
	if l.Route != "" {
		all = append(all, "xds.route_name == "+strconv.Quote(l.Route))
	}
	for _, r := range l.NotRoutes {
		all = append(all, "xds.route_name != "+strconv.Quote(r))
	}
	if len(all) == 0 {
		return nil
	}
	return &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_ExtensionFilter{
		ExtensionFilter: &accesslogv3.ExtensionFilter{
			Name: "envoy.access_loggers.extension_filters.cel",
			ConfigType: &accesslogv3.ExtensionFilter_TypedConfig{
				TypedConfig: pack(&celfilterv3.ExpressionFilter{Expression: strings.Join(all, " && ")}),
			},
		},
	}}
}
