package envoy

import (
	xdscore "github.com/cncf/xds/go/xds/core/v3"
	xdsmatcher "github.com/cncf/xds/go/xds/type/matcher/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	httprbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	netrbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"
	networkinputv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/matching/common_inputs/network/v3"
	sslinputv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/matching/common_inputs/ssl/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/atoll-mesh/atoll/pkg/ir"
)

// networkRBAC decides about connections that carry no HTTP.
func networkRBAC(c *ir.Chain) *anypb.Any {
	if c.RBAC == nil || c.TCP == nil {
		return nil
	}
	return pack(&netrbacv3.RBAC{
		StatPrefix: StatPrefix(c.TCP.StatPrefix) + ".", // the dot ends the prefix
		Matcher:    rbacMatcher(c.RBAC.Rules), ShadowMatcher: shadow(c.RBAC),
	})
}

const requestRBAC = "envoy.filters.http.rbac"

// httpRBAC is the filter without a decision: routes bring it, since there it
// takes effect at once, also on connections that exist.
func httpRBAC(h *ir.HTTP) *anypb.Any {
	if !h.Guarded {
		return nil
	}
	return pack(&httprbacv3.RBAC{})
}

// routesRBAC decides about the requests of all routes.
func routesRBAC(r *ir.RBAC) map[string]*anypb.Any {
	if r == nil {
		return nil
	}
	return map[string]*anypb.Any{requestRBAC: pack(&httprbacv3.RBACPerRoute{
		Rbac: &httprbacv3.RBAC{Matcher: rbacMatcher(r.Rules), ShadowMatcher: shadow(r)},
	})}
}

func shadow(r *ir.RBAC) *xdsmatcher.Matcher {
	if len(r.Shadow) == 0 {
		return nil
	}
	return rbacMatcher(r.Shadow)
}

func rbacMatcher(rules []ir.RBACRule) *xdsmatcher.Matcher {
	out := &xdsmatcher.Matcher{OnNoMatch: rbacAction("default", true)}
	if len(rules) == 0 {
		return out // refuses everybody
	}
	list := &xdsmatcher.Matcher_MatcherList{}
	for _, r := range rules {
		list.Matchers = append(list.Matchers, &xdsmatcher.Matcher_MatcherList_FieldMatcher{
			Predicate: anyOf(r.Clients), OnMatch: rbacAction(r.Policy, r.Deny),
		})
	}
	out.MatcherType = &xdsmatcher.Matcher_MatcherList_{MatcherList: list}
	return out
}

func rbacAction(name string, deny bool) *xdsmatcher.Matcher_OnMatch {
	action := &rbacv3.Action{Name: name, Action: rbacv3.RBAC_ALLOW}
	if deny {
		action.Action = rbacv3.RBAC_DENY
	}
	return &xdsmatcher.Matcher_OnMatch{OnMatch: &xdsmatcher.Matcher_OnMatch_Action{
		Action: &xdscore.TypedExtensionConfig{Name: "envoy.filters.rbac.action", TypedConfig: pack(action)},
	}}
}

type predicate = xdsmatcher.Matcher_MatcherList_Predicate

func anyOf(clients []ir.ClientMatch) *predicate {
	var all []*predicate
	for _, c := range clients {
		all = append(all, allOf(c))
	}
	if len(all) == 1 {
		return all[0]
	}
	return &predicate{MatchType: &xdsmatcher.Matcher_MatcherList_Predicate_OrMatcher{
		OrMatcher: &xdsmatcher.Matcher_MatcherList_Predicate_PredicateList{Predicate: all},
	}}
}

func allOf(c ir.ClientMatch) *predicate {
	var all []*predicate
	if id := c.SpiffeID; id != nil {
		m := &xdsmatcher.StringMatcher{MatchPattern: &xdsmatcher.StringMatcher_Exact{Exact: id.Value}}
		if id.Kind == ir.MatchPrefix {
			m.MatchPattern = &xdsmatcher.StringMatcher_Prefix{Prefix: id.Value}
		}
		all = append(all, single("envoy.matching.inputs.uri_san", &sslinputv3.UriSanInput{}, m))
	}
	if c.ServerName != "" {
		all = append(all, single("envoy.matching.inputs.server_name", &networkinputv3.ServerNameInput{},
			&xdsmatcher.StringMatcher{MatchPattern: &xdsmatcher.StringMatcher_Exact{Exact: c.ServerName}}))
	}
	if len(all) == 1 {
		return all[0]
	}
	return &predicate{MatchType: &xdsmatcher.Matcher_MatcherList_Predicate_AndMatcher{
		AndMatcher: &xdsmatcher.Matcher_MatcherList_Predicate_PredicateList{Predicate: all},
	}}
}

func single(name string, input proto.Message, m *xdsmatcher.StringMatcher) *predicate {
	return &predicate{MatchType: &xdsmatcher.Matcher_MatcherList_Predicate_SinglePredicate_{
		SinglePredicate: &xdsmatcher.Matcher_MatcherList_Predicate_SinglePredicate{
			Input:   &xdscore.TypedExtensionConfig{Name: name, TypedConfig: pack(input)},
			Matcher: &xdsmatcher.Matcher_MatcherList_Predicate_SinglePredicate_ValueMatch{ValueMatch: m},
		},
	}}
}
