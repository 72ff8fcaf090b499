package envoy

import (
	"encoding/hex"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	eventfilev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/health_check/event_sinks/file/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/atoll-mesh/atoll/pkg/ir"
)

// circuitBreakers states the limits, and that what remains of them is counted.
func circuitBreakers(l ir.Limits) *clusterv3.CircuitBreakers {
	t := &clusterv3.CircuitBreakers_Thresholds{
		MaxConnections:     number(l.Connections),
		MaxConnectionPools: number(l.ConnectionPools),
		MaxPendingRequests: number(l.PendingRequests),
		MaxRequests:        number(l.Requests),
		MaxRetries:         number(l.Retries),
		TrackRemaining:     true,
	}
	if s := l.RetryShare; s != nil && l.Retries == nil {
		t.RetryBudget = &clusterv3.CircuitBreakers_Thresholds_RetryBudget{
			BudgetPercent:       &typev3.Percent{Value: s.Percent},
			MinRetryConcurrency: wrapperspb.UInt32(s.Least),
		}
	}
	return &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{t}}
}

// outliers switches off every detector that is not asked for, since some are on
// by Envoy's default.
func outliers(o *ir.Outliers) *clusterv3.OutlierDetection {
	if o == nil {
		return nil
	}
	enforced := func(on bool) *wrapperspb.UInt32Value {
		if on {
			return wrapperspb.UInt32(100)
		}
		return wrapperspb.UInt32(0)
	}
	out := &clusterv3.OutlierDetection{
		Interval:                       duration(o.Interval),
		BaseEjectionTime:               duration(o.BaseEjection),
		MaxEjectionTime:                duration(o.LongestEjection),
		MaxEjectionPercent:             number(o.MaxEjectionPercent),
		SplitExternalLocalOriginErrors: o.SplitLocal,

		Consecutive_5Xx:          number(o.Failures),
		EnforcingConsecutive_5Xx: enforced(o.Failures != nil),

		ConsecutiveGatewayFailure:          number(o.GatewayFailures),
		EnforcingConsecutiveGatewayFailure: enforced(o.GatewayFailures != nil),

		ConsecutiveLocalOriginFailure:          number(o.LocalFailures),
		EnforcingConsecutiveLocalOriginFailure: enforced(o.LocalFailures != nil),

		EnforcingSuccessRate:                  enforced(o.SuccessRate != nil),
		EnforcingLocalOriginSuccessRate:       enforced(o.SuccessRate != nil),
		EnforcingFailurePercentage:            enforced(o.Percentage != nil),
		EnforcingFailurePercentageLocalOrigin: enforced(o.Percentage != nil),
	}
	if s := o.SuccessRate; s != nil {
		out.SuccessRateMinimumHosts = number(s.MinimumHosts)
		out.SuccessRateRequestVolume = number(s.RequestVolume)
		out.SuccessRateStdevFactor = number(s.Deviations)
	}
	if p := o.Percentage; p != nil {
		out.FailurePercentageMinimumHosts = number(p.MinimumHosts)
		out.FailurePercentageRequestVolume = number(p.RequestVolume)
		out.FailurePercentageThreshold = number(p.Threshold)
	}
	return out
}

func healthChecks(list []ir.HealthCheck) []*corev3.HealthCheck {
	var out []*corev3.HealthCheck
	for i := range list {
		out = append(out, healthCheck(&list[i]))
	}
	return out
}

func healthCheck(h *ir.HealthCheck) *corev3.HealthCheck {
	out := &corev3.HealthCheck{
		Interval:                     durationpb.New(h.Interval),
		Timeout:                      durationpb.New(h.Timeout),
		UnhealthyThreshold:           wrapperspb.UInt32(h.UnhealthyThreshold),
		HealthyThreshold:             wrapperspb.UInt32(h.HealthyThreshold),
		InitialJitter:                duration(h.InitialJitter),
		IntervalJitter:               duration(h.IntervalJitter),
		IntervalJitterPercent:        h.IntervalJitterPercent,
		NoTrafficInterval:            duration(h.NoTrafficInterval),
		AlwaysLogHealthCheckFailures: h.LogFailures,
	}
	if h.ReuseConnection != nil {
		out.ReuseConnection = wrapperspb.Bool(*h.ReuseConnection)
	}
	if h.EventLog != "" {
		out.EventLogger = []*corev3.TypedExtensionConfig{{
			Name:        "envoy.health_check.event_sinks.file",
			TypedConfig: pack(&eventfilev3.HealthCheckEventFileSink{EventLogPath: h.EventLog}),
		}}
	}
	switch {
	case h.HTTP != nil:
		out.HealthChecker = &corev3.HealthCheck_HttpHealthCheck_{HttpHealthCheck: httpHealthCheck(h.HTTP)}
	case h.GRPC != nil:
		out.HealthChecker = &corev3.HealthCheck_GrpcHealthCheck_{GrpcHealthCheck: &corev3.HealthCheck_GrpcHealthCheck{
			ServiceName: h.GRPC.Service, Authority: h.GRPC.Authority,
		}}
	case h.TCP != nil:
		check := &corev3.HealthCheck_TcpHealthCheck{}
		if h.TCP.Send != "" {
			check.Send = payload(h.TCP.Send)
		}
		for _, r := range h.TCP.Receive {
			check.Receive = append(check.Receive, payload(r))
		}
		out.HealthChecker = &corev3.HealthCheck_TcpHealthCheck_{TcpHealthCheck: check}
	}
	return out
}

func httpHealthCheck(h *ir.HTTPHealthCheck) *corev3.HealthCheck_HttpHealthCheck {
	out := &corev3.HealthCheck_HttpHealthCheck{
		Path:                   h.Path,
		Host:                   h.Host,
		CodecClientType:        typev3.CodecClientType_HTTP1,
		RequestHeadersToAdd:    headersToAdd(h.Headers),
		RequestHeadersToRemove: h.Headers.Remove,
	}
	if h.HTTP2 {
		out.CodecClientType = typev3.CodecClientType_HTTP2
	}
	for _, s := range h.Statuses {
		out.ExpectedStatuses = append(out.ExpectedStatuses, &typev3.Int64Range{Start: int64(s), End: int64(s) + 1})
	}
	return out
}

// payload takes text as it is; Envoy wants it in hexadecimal digits.
func payload(text string) *corev3.HealthCheck_Payload {
	return &corev3.HealthCheck_Payload{Payload: &corev3.HealthCheck_Payload_Text{Text: hex.EncodeToString([]byte(text))}}
}
