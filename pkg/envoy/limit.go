package envoy

import (
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/local_ratelimit/v3"
	connlimitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/local_ratelimit/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/atoll-mesh/atoll/pkg/ir"
)

const localRateLimit = "envoy.filters.http.local_ratelimit"

func tokenBucket(b ir.TokenBucket) *typev3.TokenBucket {
	return &typev3.TokenBucket{
		MaxTokens:     b.Tokens,
		TokensPerFill: wrapperspb.UInt32(b.Tokens),
		FillInterval:  durationpb.New(b.Interval),
	}
}

// requestLimit is the filter without a limit: routes bring theirs.
func requestLimit(h *ir.HTTP) *anypb.Any {
	if !h.Limited {
		return nil
	}
	return pack(&ratelimitv3.LocalRateLimit{StatPrefix: "rate_limit"})
}

func routeLimit(l *ir.RequestLimit) *anypb.Any {
	all := func(key string) *corev3.RuntimeFractionalPercent {
		return &corev3.RuntimeFractionalPercent{DefaultValue: fraction(ir.Fraction{Numerator: 100, Denominator: 100}), RuntimeKey: key}
	}
	out := &ratelimitv3.LocalRateLimit{
		StatPrefix:           "rate_limit",
		TokenBucket:          tokenBucket(l.TokenBucket),
		FilterEnabled:        all("local_rate_limit_enabled"),
		FilterEnforced:       all("local_rate_limit_enforced"),
		ResponseHeadersToAdd: headersToAdd(l.Headers),
	}
	// Envoy refuses statuses that it does not list; then it is 429.
	if _, known := typev3.StatusCode_name[int32(l.Status)]; known && l.Status != 0 {
		out.Status = &typev3.HttpStatus{Code: typev3.StatusCode(l.Status)}
	}
	return pack(out)
}

func connectionLimit(c *ir.Chain) *anypb.Any {
	if c.ConnectionLimit == nil {
		return nil
	}
	return pack(&connlimitv3.LocalRateLimit{StatPrefix: "tcp_rate_limit", TokenBucket: tokenBucket(*c.ConnectionLimit)})
}

// perFilter is what a route says to filters.
func perFilter(r *ir.Route) map[string]*anypb.Any {
	if r.Limit == nil && r.Fault == nil {
		return nil
	}
	out := map[string]*anypb.Any{}
	if r.Limit != nil {
		out[localRateLimit] = routeLimit(r.Limit)
	}
	if r.Fault != nil {
		out[faultFilters] = pack(fault(r.Fault))
	}
	return out
}
