package envoy

import (
	xdscorev3 "github.com/cncf/xds/go/xds/core/v3"
	xdsmatcherv3 "github.com/cncf/xds/go/xds/type/matcher/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	commonmatcherv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/common/matching/v3"
	commonfaultv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/common/fault/v3"
	actionv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/common/matcher/action/v3"
	faultv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/fault/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	networkinputsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/matching/common_inputs/network/v3"
	sslinputsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/matching/common_inputs/ssl/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/atoll-mesh/atoll/pkg/ir"
)

const faultFilters = "envoy.filters.http.fault"

// faults are the filter for those of routes, and filters of their own, so that each has its own chance and several
// may disturb one request.
func faults(h *ir.HTTP) []*hcmv3.HttpFilter {
	var out []*hcmv3.HttpFilter
	if h.Disturbed {
		out = append(out, &hcmv3.HttpFilter{
			Name:       faultFilters,
			ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: pack(&faultv3.HTTPFault{})},
		})
	}
	for i := range h.Faults {
		f := &h.Faults[i]
		var config proto.Message = fault(f)
		if f.Client != nil {
			config = &commonmatcherv3.ExtensionWithMatcher{
				XdsMatcher:      unless(f.Client),
				ExtensionConfig: &corev3.TypedExtensionConfig{Name: faultFilters, TypedConfig: pack(config)},
			}
		}
		out = append(out, &hcmv3.HttpFilter{
			Name:       f.Name,
			ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: pack(config)},
		})
	}
	return out
}

func fault(f *ir.Fault) *faultv3.HTTPFault {
	out := &faultv3.HTTPFault{}
	if a := f.Abort; a != nil {
		out.Abort = &faultv3.FaultAbort{
			ErrorType:  &faultv3.FaultAbort_HttpStatus{HttpStatus: a.Status},
			Percentage: fraction(a.Fraction),
		}
	}
	if d := f.Delay; d != nil {
		out.Delay = &commonfaultv3.FaultDelay{
			FaultDelaySecifier: &commonfaultv3.FaultDelay_FixedDelay{FixedDelay: durationpb.New(d.Duration)},
			Percentage:         fraction(d.Fraction),
		}
	}
	if s := f.Slow; s != nil {
		out.ResponseRateLimit = &commonfaultv3.FaultRateLimit{
			LimitType:  &commonfaultv3.FaultRateLimit_FixedLimit_{FixedLimit: &commonfaultv3.FaultRateLimit_FixedLimit{LimitKbps: s.KBps}},
			Percentage: fraction(s.Fraction),
		}
	}
	return out
}

// unless skips a filter for every other client.
func unless(c *ir.Client) *xdsmatcherv3.Matcher {
	skip := &xdscorev3.TypedExtensionConfig{Name: "skip", TypedConfig: pack(&actionv3.SkipFilter{})}
	return &xdsmatcherv3.Matcher{MatcherType: &xdsmatcherv3.Matcher_MatcherList_{MatcherList: &xdsmatcherv3.Matcher_MatcherList{
		Matchers: []*xdsmatcherv3.Matcher_MatcherList_FieldMatcher{{
			Predicate: &xdsmatcherv3.Matcher_MatcherList_Predicate{
				MatchType: &xdsmatcherv3.Matcher_MatcherList_Predicate_NotMatcher{NotMatcher: clientPredicate(c)},
			},
			OnMatch: &xdsmatcherv3.Matcher_OnMatch{OnMatch: &xdsmatcherv3.Matcher_OnMatch_Action{Action: skip}},
		}},
	}}}
}

func clientPredicate(c *ir.Client) *xdsmatcherv3.Matcher_MatcherList_Predicate {
	var all []*xdsmatcherv3.Matcher_MatcherList_Predicate
	add := func(name string, input proto.Message, value *xdsmatcherv3.StringMatcher) {
		all = append(all, &xdsmatcherv3.Matcher_MatcherList_Predicate{
			MatchType: &xdsmatcherv3.Matcher_MatcherList_Predicate_SinglePredicate_{
				SinglePredicate: &xdsmatcherv3.Matcher_MatcherList_Predicate_SinglePredicate{
					Input:   &xdscorev3.TypedExtensionConfig{Name: name, TypedConfig: pack(input)},
					Matcher: &xdsmatcherv3.Matcher_MatcherList_Predicate_SinglePredicate_ValueMatch{ValueMatch: value},
				},
			},
		})
	}
	if m := c.SpiffeID; m != nil {
		value := &xdsmatcherv3.StringMatcher{MatchPattern: &xdsmatcherv3.StringMatcher_Exact{Exact: m.Value}}
		if m.Kind == ir.MatchPrefix {
			value.MatchPattern = &xdsmatcherv3.StringMatcher_Prefix{Prefix: m.Value}
		}
		add("envoy.matching.inputs.uri_san", &sslinputsv3.UriSanInput{}, value)
	}
	if c.ServerName != "" {
		add("envoy.matching.inputs.server_name", &networkinputsv3.ServerNameInput{},
			&xdsmatcherv3.StringMatcher{MatchPattern: &xdsmatcherv3.StringMatcher_Exact{Exact: c.ServerName}})
	}
	if len(all) == 1 {
		return all[0]
	}
	return &xdsmatcherv3.Matcher_MatcherList_Predicate{MatchType: &xdsmatcherv3.Matcher_MatcherList_Predicate_AndMatcher{
		AndMatcher: &xdsmatcherv3.Matcher_MatcherList_Predicate_PredicateList{Predicate: all},
	}}
}
