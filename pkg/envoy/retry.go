package envoy

import (
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	omithostsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/host/omit_host_metadata/v3"
	previoushostsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/host/previous_hosts/v3"
	previousprioritiesv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/priority/previous_priorities/v3"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/atoll-mesh/atoll/pkg/ir"
)

// retry names extensions briefly: Envoy finds them by their types, and every route
// of every client has them.
func retry(r *ir.Retry) *routev3.RetryPolicy {
	if r == nil {
		return nil
	}
	out := &routev3.RetryPolicy{
		RetryOn:              strings.Join(r.On, ","),
		NumRetries:           number(r.Times),
		PerTryTimeout:        duration(r.PerTryTimeout),
		RetriableStatusCodes: r.Statuses,
	}
	if r.Base != nil {
		out.RetryBackOff = &routev3.RetryPolicy_RetryBackOff{BaseInterval: duration(r.Base), MaxInterval: duration(r.Max)}
	}
	if len(r.Reset) > 0 {
		out.RateLimitedRetryBackOff = resetBackOff(r)
	}
	for _, h := range r.RequestHeaders {
		out.RetriableRequestHeaders = append(out.RetriableRequestHeaders, headerMatch(h))
	}
	for _, h := range r.ResponseHeaders {
		out.RetriableHeaders = append(out.RetriableHeaders, headerMatch(h))
	}
	if r.PreviousHosts {
		out.RetryHostPredicate = append(out.RetryHostPredicate, &routev3.RetryPolicy_RetryHostPredicate{
			Name: "hosts",
			ConfigType: &routev3.RetryPolicy_RetryHostPredicate_TypedConfig{
				TypedConfig: pack(&previoushostsv3.PreviousHostsPredicate{}),
			},
		})
	}
	for _, labels := range r.OmitHosts {
		out.RetryHostPredicate = append(out.RetryHostPredicate, &routev3.RetryPolicy_RetryHostPredicate{
			Name: "metadata",
			ConfigType: &routev3.RetryPolicy_RetryHostPredicate_TypedConfig{
				TypedConfig: pack(&omithostsv3.OmitHostMetadataConfig{MetadataMatch: &corev3.Metadata{
					FilterMetadata: map[string]*structpb.Struct{"envoy.lb": stringStruct(labels)},
				}}),
			},
		})
	}
	if r.PreviousPriorities > 0 {
		out.RetryPriority = &routev3.RetryPolicy_RetryPriority{
			Name: "priorities",
			ConfigType: &routev3.RetryPolicy_RetryPriority_TypedConfig{
				TypedConfig: pack(&previousprioritiesv3.PreviousPrioritiesConfig{UpdateFrequency: int32(r.PreviousPriorities)}),
			},
		}
	}
	if r.HostAttempts != nil {
		out.HostSelectionRetryMaxAttempts = *r.HostAttempts
	}
	return out
}

func resetBackOff(r *ir.Retry) *routev3.RetryPolicy_RateLimitedRetryBackOff {
	out := &routev3.RetryPolicy_RateLimitedRetryBackOff{MaxInterval: duration(r.ResetMax)}
	for _, h := range r.Reset {
		format := routev3.RetryPolicy_SECONDS
		if h.Unix {
			format = routev3.RetryPolicy_UNIX_TIMESTAMP
		}
		out.ResetHeaders = append(out.ResetHeaders, &routev3.RetryPolicy_ResetHeader{Name: h.Name, Format: format})
	}
	return out
}

func number(v *uint32) *wrapperspb.UInt32Value {
	if v == nil {
		return nil
	}
	return wrapperspb.UInt32(*v)
}
