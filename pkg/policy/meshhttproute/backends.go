package meshhttproute

import (
	"math"

	"github.com/atoll-mesh/atoll/pkg/ir"
	"github.com/atoll-mesh/atoll/pkg/policy"
)

// shares is where the requests of a rule go.
type shares struct {
	clusters []ir.WeightedRef
	external bool   // one is a MeshExternalService
	usable   uint64 // sum of weights that lead somewhere
	lost     uint64 // sum of weights that lead nowhere
	none     bool   // the rule names backends and none can be used
}

// backends resolves the references of a rule. Without any, requests go to the
// destination itself.
func backends(r *Rule, o *policy.Outbound) shares {
	var s shares
	for _, ref := range r.Default.BackendRefs {
		d, ok := o.Backend(ref, r.origin.Policy)
		weight := ref.Share()
		if !ok || !ir.IsHTTP(d.Port.Protocol) || weight == 0 {
			s.lost += uint64(weight)
			continue
		}
		s.clusters = append(s.clusters, ir.WeightedRef{Cluster: d.Name(), Weight: weight})
		s.usable += uint64(weight)
		s.external = s.external || d.Kind == policy.MeshExternalService
	}
	s.fit()
	s.none = len(s.clusters) == 0 && len(r.Default.BackendRefs) > 0
	if len(r.Default.BackendRefs) == 0 {
		s.clusters = o.Direct().Forward.Clusters
		s.external = o.Dest.Kind == policy.MeshExternalService
	}
	return s
}

// fit scales weights down when their sum is more than Envoy takes.
func (s *shares) fit() {
	by := (s.usable + math.MaxUint32 - 1) / math.MaxUint32
	if by <= 1 {
		return
	}
	by++ // room for weights rounded up to 1
	for i := range s.clusters {
		s.clusters[i].Weight = max(s.clusters[i].Weight/uint32(by), 1)
	}
}

// reads names what outbound looks up.
func reads(c Conf, r *policy.Reads) {
	for i := range c.Rules {
		rule := &c.Rules[i]
		r.Route(rule.origin.Policy.KRI())
		for _, ref := range rule.Default.BackendRefs {
			r.Backend(ref, rule.origin.Policy)
		}
		for _, f := range rule.Default.Filters {
			if f.RequestMirror != nil {
				r.Backend(f.RequestMirror.BackendRef, rule.origin.Policy)
			}
		}
	}
}

// fill completes a route. When some backends cannot be used, a route before it
// answers their share of the requests with 500.
func (s shares) fill(route *ir.Route, rule *Rule, h half, o *policy.Outbound) []*ir.Route {
	forward := &ir.Forward{Clusters: s.clusters, AutoHostRewrite: s.external}
	redirect := false
	for _, f := range rule.Default.Filters {
		redirect = f.apply(route, forward, rule, h, o) || redirect
	}
	if redirect {
		return []*ir.Route{route}
	}
	if s.none {
		route.Direct = &ir.Direct{Status: 500}
		return []*ir.Route{route}
	}
	route.Forward = forward
	if s.lost == 0 {
		return []*ir.Route{route}
	}
	failing := *route
	failing.Forward, failing.Direct = nil, &ir.Direct{Status: 500}
	failing.Match.Fraction = fraction(s.lost, s.lost+s.usable)
	return []*ir.Route{&failing, route}
}

// fraction is part of whole in the coarsest unit that gives it exactly, or in
// millionths, never rounded to nothing.
func fraction(part, whole uint64) *ir.Fraction {
	for _, d := range []uint64{100, 10_000, 1_000_000} {
		if d*part%whole == 0 { // both are far below 2⁶⁴ / 10⁶
			return &ir.Fraction{Numerator: uint32(d * part / whole), Denominator: uint32(d)}
		}
	}
	millionths := math.Round(float64(part) / float64(whole) * 1_000_000)
	return &ir.Fraction{Numerator: uint32(max(millionths, 1)), Denominator: 1_000_000}
}

// apply writes one filter. It reports whether it answers the request, so that
// nothing is forwarded.
func (f Filter) apply(route *ir.Route, forward *ir.Forward, rule *Rule, h half, o *policy.Outbound) (answers bool) {
	switch {
	case f.Type == RequestHeaderModifier && f.RequestHeaderModifier != nil:
		f.RequestHeaderModifier.apply(&route.RequestHeaders)
		if host := f.RequestHeaderModifier.host(); host != "" && forward.HostRewrite == "" {
			forward.HostRewrite, forward.AutoHostRewrite = host, false
		}
	case f.Type == ResponseHeaderModifier && f.ResponseHeaderModifier != nil:
		f.ResponseHeaderModifier.apply(&route.ResponseHeaders)
	case f.Type == RequestRedirect && f.RequestRedirect != nil:
		r := f.RequestRedirect
		route.Redirect = &ir.Redirect{
			Scheme: r.Scheme, Host: string(r.Hostname), Port: r.Port,
			Status: uint32(r.StatusCode), Path: r.Path.apply(h),
		}
		if route.Redirect.Status == 0 {
			route.Redirect.Status = 302
		}
		return true
	case f.Type == URLRewrite && f.URLRewrite != nil:
		if host := string(f.URLRewrite.Hostname); host != "" {
			forward.HostRewrite, forward.AutoHostRewrite = host, false
		}
		if path := f.URLRewrite.Path.apply(h); path != nil {
			forward.PathRewrite = path
		}
	case f.Type == RequestMirror && f.RequestMirror != nil:
		d, ok := o.Backend(f.RequestMirror.BackendRef, rule.origin.Policy)
		if !ok || !ir.IsHTTP(d.Port.Protocol) {
			return false // there is nothing to mirror to
		}
		forward.Mirrors = append(forward.Mirrors, ir.Mirror{Cluster: d.Name(), Fraction: percentage(f.RequestMirror.Percentage)})
	}
	return false
}

func (m *HeaderModifier) apply(ops *ir.HeaderOps) {
	more := (&policy.HeaderAdditions{Set: m.Set, Add: m.Add}).Ops()
	ops.Set = append(ops.Set, more.Set...)
	ops.Add = append(ops.Add, more.Add...)
	for _, name := range m.Remove {
		if name != policy.Host {
			ops.Remove = append(ops.Remove, name)
		}
	}
}

// host is the value given to the header of that name, which routes rewrite.
func (m *HeaderModifier) host() string {
	return (&policy.HeaderAdditions{Set: m.Set, Add: m.Add}).Host()
}

func (r *PathRewrite) apply(h half) *ir.PathRewrite {
	switch {
	case r == nil:
		return nil
	case r.Type == ReplaceFullPath && r.ReplaceFullPath != nil:
		return fullPath(*r.ReplaceFullPath)
	case r.Type == ReplacePrefixMatch && r.ReplacePrefixMatch != nil:
		return h.rewrite(*r.ReplacePrefixMatch)
	}
	return nil
}

// percentage is nil for all requests.
func percentage(v *policy.IntOrString) *ir.Fraction {
	if v == nil {
		return nil
	}
	p, ok := v.Float()
	switch {
	case !ok:
		return nil // refused by validate
	case p == math.Trunc(p):
		return &ir.Fraction{Numerator: uint32(p), Denominator: 100}
	case 100*p == math.Trunc(100*p):
		return &ir.Fraction{Numerator: uint32(100 * p), Denominator: 10_000}
	}
	return &ir.Fraction{Numerator: uint32(math.Round(10_000 * p)), Denominator: 1_000_000}
}
