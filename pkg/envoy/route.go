package envoy

import (
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/atoll-mesh/atoll/pkg/ir"
)

func routeConfig(c *ir.RouteConfig) *routev3.RouteConfiguration {
	var hosts []*routev3.VirtualHost
	for i := range c.Hosts {
		h := &routev3.VirtualHost{Name: c.Hosts[i].Name, Domains: c.Hosts[i].Domains}
		for _, r := range c.Hosts[i].Routes {
			h.Routes = append(h.Routes, routes(r)...)
		}
		hosts = append(hosts, h)
	}
	host := &routev3.VirtualHost{Name: c.VirtualHost, Domains: []string{"*"}}
	for _, r := range c.Routes {
		host.Routes = append(host.Routes, routes(r)...)
	}
	out := &routev3.RouteConfiguration{
		Name:                   c.Name,
		VirtualHosts:           append(hosts, host),
		RequestHeadersToRemove: c.RemoveRequestHeaders,
		ValidateClusters:       wrapperspb.Bool(false),
		TypedPerFilterConfig:   routesRBAC(c.RBAC),
	}
	if c.MaxBody != 0 {
		out.MaxDirectResponseBodySizeBytes = wrapperspb.UInt32(c.MaxBody)
	}
	return out
}

// repeatable matches the methods of which a request may be processed twice.
const repeatable = "GET|HEAD|OPTIONS|TRACE|PUT|DELETE"

// routes are those of Envoy for one route, whose requests are retried by one
// policy: two where that depends on the method, the safe ones first.
func routes(r *ir.Route) []*routev3.Route {
	if r.Forward == nil || r.Forward.Retry == nil || r.Forward.Retry.Unsafe == nil {
		return []*routev3.Route{route(r)}
	}
	unsafe, forward, retry := *r, *r.Forward, *r.Forward.Retry
	retry.On = retry.Unsafe
	forward.Retry, unsafe.Forward = &retry, &forward
	switch {
	case r.Match.Method == "":
		safe := route(r)
		safe.Match.Headers = append(safe.Match.Headers, &routev3.HeaderMatcher{
			Name: ":method", HeaderMatchSpecifier: stringHeader(ir.MatchRegex, repeatable),
		})
		return []*routev3.Route{safe, route(&unsafe)}
	case slices.Contains(strings.Split(repeatable, "|"), r.Match.Method):
		return []*routev3.Route{route(r)}
	}
	return []*routev3.Route{route(&unsafe)}
}

func route(r *ir.Route) *routev3.Route {
	out := &routev3.Route{
		Name:                    r.Name,
		Match:                   routeMatch(&r.Match),
		RequestHeadersToAdd:     headersToAdd(r.RequestHeaders),
		RequestHeadersToRemove:  r.RequestHeaders.Remove,
		ResponseHeadersToAdd:    headersToAdd(r.ResponseHeaders),
		ResponseHeadersToRemove: r.ResponseHeaders.Remove,
	}
	out.TypedPerFilterConfig = perFilter(r)
	switch {
	case r.Redirect != nil:
		out.Action = &routev3.Route_Redirect{Redirect: redirect(r.Redirect, &r.Match)}
	case r.Direct != nil:
		d := &routev3.DirectResponseAction{Status: r.Direct.Status}
		if r.Direct.Body != "" {
			d.Body = &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: r.Direct.Body}}
		}
		out.Action = &routev3.Route_DirectResponse{DirectResponse: d}
	case r.Forward != nil:
		out.Action = &routev3.Route_Route{Route: forward(r.Forward, &r.Match)}
	}
	return out
}

func routeMatch(m *ir.RouteMatch) *routev3.RouteMatch {
	out := &routev3.RouteMatch{}
	switch {
	case m.Path != "":
		out.PathSpecifier = &routev3.RouteMatch_Path{Path: m.Path}
	case m.Regex != "":
		out.PathSpecifier = &routev3.RouteMatch_SafeRegex{SafeRegex: regex(m.Regex)}
	default:
		out.PathSpecifier = &routev3.RouteMatch_Prefix{Prefix: m.Prefix}
	}
	if m.Method != "" {
		out.Headers = append(out.Headers, &routev3.HeaderMatcher{
			Name:                 ":method",
			HeaderMatchSpecifier: stringHeader(ir.MatchExact, m.Method),
		})
	}
	for _, h := range m.Headers {
		out.Headers = append(out.Headers, headerMatch(h))
	}
	for _, q := range m.Query {
		p := &routev3.QueryParameterMatcher{Name: q.Name}
		if s := stringMatch(q.Kind, q.Value); s != nil {
			p.QueryParameterMatchSpecifier = &routev3.QueryParameterMatcher_StringMatch{StringMatch: s}
		} else {
			p.QueryParameterMatchSpecifier = &routev3.QueryParameterMatcher_PresentMatch{PresentMatch: q.Kind != ir.MatchAbsent}
		}
		out.QueryParameters = append(out.QueryParameters, p)
	}
	if m.Fraction != nil {
		out.RuntimeFraction = &corev3.RuntimeFractionalPercent{DefaultValue: fraction(*m.Fraction)}
	}
	for _, f := range m.FilterState {
		out.FilterState = append(out.FilterState, &matcherv3.FilterStateMatcher{
			Key:     f.Name,
			Matcher: &matcherv3.FilterStateMatcher_StringMatch{StringMatch: stringMatch(f.Kind, f.Value)},
		})
	}
	for _, c := range m.Clients {
		out.Headers = append(out.Headers, clientMatch(c))
	}
	return out
}

// clientMatch looks for the identity where the proxy itself writes it from the
// certificate: By=…;Hash=…;URI=…, without what the client may have sent.
func clientMatch(c ir.ValueMatch) *routev3.HeaderMatcher {
	m := &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Suffix{Suffix: ";URI=" + c.Value}}
	if c.Kind == ir.MatchPrefix {
		m.MatchPattern = &matcherv3.StringMatcher_Contains{Contains: ";URI=" + c.Value}
	}
	return &routev3.HeaderMatcher{
		Name:                 "x-forwarded-client-cert",
		HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{StringMatch: m},
	}
}

func headerMatch(h ir.ValueMatch) *routev3.HeaderMatcher {
	out := &routev3.HeaderMatcher{Name: h.Name}
	switch {
	case h.Kind == ir.MatchAbsent:
		out.HeaderMatchSpecifier = &routev3.HeaderMatcher_PresentMatch{PresentMatch: false}
	case h.Kind == ir.MatchPresent, h.Kind == ir.MatchPrefix && h.Value == "":
		out.HeaderMatchSpecifier = &routev3.HeaderMatcher_PresentMatch{PresentMatch: true}
	default:
		out.HeaderMatchSpecifier = stringHeader(h.Kind, h.Value)
	}
	return out
}

func stringHeader(kind, value string) *routev3.HeaderMatcher_StringMatch {
	return &routev3.HeaderMatcher_StringMatch{StringMatch: stringMatch(kind, value)}
}

// stringMatch is nil for the kinds that look at presence only.
func stringMatch(kind, value string) *matcherv3.StringMatcher {
	switch kind {
	case ir.MatchPrefix:
		return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: value}}
	case ir.MatchRegex:
		return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_SafeRegex{SafeRegex: regex(value)}}
	case ir.MatchPresent, ir.MatchAbsent:
		return nil
	}
	return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: value}}
}

func regex(pattern string) *matcherv3.RegexMatcher { return &matcherv3.RegexMatcher{Regex: pattern} }

// wholePath replaces everything before the query.
func wholePath(by string) *matcherv3.RegexMatchAndSubstitute {
	return &matcherv3.RegexMatchAndSubstitute{
		Pattern:      regex(".*"),
		Substitution: strings.ReplaceAll(by, `\`, `\\`), // \1 would mean a group
	}
}

var denominators = map[uint32]typev3.FractionalPercent_DenominatorType{
	100:       typev3.FractionalPercent_HUNDRED,
	10_000:    typev3.FractionalPercent_TEN_THOUSAND,
	1_000_000: typev3.FractionalPercent_MILLION,
}

func fraction(f ir.Fraction) *typev3.FractionalPercent {
	return &typev3.FractionalPercent{Numerator: f.Numerator, Denominator: denominators[f.Denominator]}
}

func forward(f *ir.Forward, m *ir.RouteMatch) *routev3.RouteAction {
	out := &routev3.RouteAction{Timeout: duration(f.Timeout), IdleTimeout: duration(f.IdleTimeout)}
	if len(f.Clusters) == 1 {
		out.ClusterSpecifier = &routev3.RouteAction_Cluster{Cluster: f.Clusters[0].Cluster}
	} else {
		w := &routev3.WeightedCluster{}
		for _, c := range f.Clusters {
			w.Clusters = append(w.Clusters, &routev3.WeightedCluster_ClusterWeight{
				Name: c.Cluster, Weight: wrapperspb.UInt32(c.Weight),
			})
		}
		out.ClusterSpecifier = &routev3.RouteAction_WeightedClusters{WeightedClusters: w}
	}
	switch {
	case f.HostRewrite != "":
		out.HostRewriteSpecifier = &routev3.RouteAction_HostRewriteLiteral{HostRewriteLiteral: f.HostRewrite}
	case f.AutoHostRewrite:
		out.HostRewriteSpecifier = &routev3.RouteAction_AutoHostRewrite{AutoHostRewrite: wrapperspb.Bool(true)}
	}
	if p := f.PathRewrite; p != nil {
		switch {
		case p.Full != nil:
			out.RegexRewrite = wholePath(*p.Full)
		case p.Prefix != nil && m.Path != "":
			out.RegexRewrite = wholePath(*p.Prefix)
		case p.Prefix != nil:
			out.PrefixRewrite = *p.Prefix
		}
	}
	out.RetryPolicy = retry(f.Retry)
	out.HashPolicy = routeHashes(f.Hash)
	for _, x := range f.Mirrors {
		mirror := &routev3.RouteAction_RequestMirrorPolicy{Cluster: x.Cluster}
		if x.Fraction != nil {
			mirror.RuntimeFraction = &corev3.RuntimeFractionalPercent{DefaultValue: fraction(*x.Fraction)}
		}
		out.RequestMirrorPolicies = append(out.RequestMirrorPolicies, mirror)
	}
	return out
}

var redirectCodes = map[uint32]routev3.RedirectAction_RedirectResponseCode{
	301: routev3.RedirectAction_MOVED_PERMANENTLY,
	302: routev3.RedirectAction_FOUND,
	303: routev3.RedirectAction_SEE_OTHER,
	307: routev3.RedirectAction_TEMPORARY_REDIRECT,
	308: routev3.RedirectAction_PERMANENT_REDIRECT,
}

func redirect(r *ir.Redirect, m *ir.RouteMatch) *routev3.RedirectAction {
	out := &routev3.RedirectAction{
		HostRedirect: r.Host,
		PortRedirect: r.Port,
		ResponseCode: redirectCodes[r.Status],
	}
	if r.Scheme != "" {
		out.SchemeRewriteSpecifier = &routev3.RedirectAction_SchemeRedirect{SchemeRedirect: r.Scheme}
	}
	if p := r.Path; p != nil {
		switch {
		case p.Full != nil:
			out.PathRewriteSpecifier = &routev3.RedirectAction_RegexRewrite{RegexRewrite: wholePath(*p.Full)}
		case p.Prefix != nil && m.Path != "":
			out.PathRewriteSpecifier = &routev3.RedirectAction_RegexRewrite{RegexRewrite: wholePath(*p.Prefix)}
		case p.Prefix != nil:
			out.PathRewriteSpecifier = &routev3.RedirectAction_PrefixRewrite{PrefixRewrite: *p.Prefix}
		}
	}
	return out
}

// headersToAdd keeps the order set, then add.
func headersToAdd(o ir.HeaderOps) []*corev3.HeaderValueOption {
	var out []*corev3.HeaderValueOption
	add := func(hs []ir.Header, action corev3.HeaderValueOption_HeaderAppendAction) {
		for _, h := range hs {
			out = append(out, &corev3.HeaderValueOption{
				Header:         &corev3.HeaderValue{Key: h.Name, Value: h.Value},
				AppendAction:   action,
				KeepEmptyValue: h.Value == "", // else Envoy leaves the header out
			})
		}
	}
	add(o.Set, corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD)
	add(o.Add, corev3.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD)
	return out
}
