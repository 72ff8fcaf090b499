package meshhttproute

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/atoll-mesh/atoll/pkg/ir"
	"github.com/atoll-mesh/atoll/pkg/policy"
)

// candidate is one match of one rule.
type candidate struct {
	match Match
	rule  *Rule
}

// outbound replaces the routes of an HTTP destination. On a port that does not
// speak HTTP the policy has no effect.
func outbound(c Conf, o *policy.Outbound) {
	if !o.HTTP() {
		return
	}
	o.Routed = true
	list, catchAll := candidates(c)
	var routes []*ir.Route
	for _, cand := range list {
		routes = append(routes, routesFor(cand, o)...)
	}
	if !catchAll {
		routes = append(routes, o.Direct())
	}
	o.Routes.Routes = routes
}

// candidates lists every match of every rule, the most demanding first. catchAll
// tells whether one takes all requests.
func candidates(c Conf) (list []candidate, catchAll bool) {
	for i := range c.Rules {
		for _, m := range c.Rules[i].Matches {
			if m.Path == nil {
				m.Path = &PathMatch{Type: PathPrefix, Value: "/"}
			}
			catchAll = catchAll || m.all()
			list = append(list, candidate{match: m, rule: &c.Rules[i]})
		}
	}
	slices.SortStableFunc(list, func(a, b candidate) int { return a.match.compare(b.match) })
	return list, catchAll
}

func (m Match) all() bool {
	return m.Path.Type == PathPrefix && m.Path.Value == "/" && m.Method == "" && len(m.Headers) == 0 && len(m.QueryParams) == 0
}

// compare puts first what asks more of a request. Among exact paths the order
// of the rules counts. A prefix of / asks nothing of the path and so does not
// keep requests from matches on a method, a header or an expression.
func (m Match) compare(other Match) int {
	return cmp.Or(
		cmp.Compare(pathRank(m.Path), pathRank(other.Path)),
		-cmp.Compare(patternLen(m.Path), patternLen(other.Path)),
		-cmp.Compare(min(len(m.Method), 1), min(len(other.Method), 1)),
		-cmp.Compare(len(m.Headers), len(other.Headers)),
		-cmp.Compare(len(m.QueryParams), len(other.QueryParams)),
	)
}

func pathRank(p *PathMatch) int {
	switch {
	case p.Type == Exact:
		return 0
	case p.Type == RegularExpression:
		return 2
	case p.Value == "/":
		return 3
	}
	return 1
}

func patternLen(p *PathMatch) int {
	if p.Type == Exact {
		return 0
	}
	return len(p.Value)
}

// routesFor makes the routes of one match: one, or two for a prefix, which
// takes the path itself and what lies under it.
func routesFor(c candidate, o *policy.Outbound) []*ir.Route {
	owner := c.rule.origin
	name := owner.Policy.KRI().WithSection(fmt.Sprintf("rule_%d", owner.Index)).String()
	o.Own(name, owner.Policy.KRI())
	b := backends(c.rule, o)
	var out []*ir.Route
	for _, h := range halves(c.match) {
		route := &ir.Route{Name: name, Match: h.match}
		out = append(out, b.fill(route, c.rule, h, o)...)
	}
	return out
}

// half is a match of Envoy, and how it replaces the prefix that was matched.
type half struct {
	match   ir.RouteMatch
	rewrite func(prefix string) *ir.PathRewrite
}

func halves(m Match) []half {
	base := ir.RouteMatch{Method: m.Method, Headers: headerMatches(m.Headers), Query: queryMatches(m.QueryParams)}
	switch {
	case m.Path.Type == Exact:
		base.Path = m.Path.Value
		return []half{{base, fullPath}}
	case m.Path.Type == RegularExpression:
		base.Regex = m.Path.Value
		return []half{{base, fullPath}}
	case m.Path.Value == "/":
		base.Prefix = "/"
		return []half{{base, below}}
	}
	itself, under := base, base
	itself.Path, under.Prefix = m.Path.Value, m.Path.Value+"/"
	return []half{{itself, fullPath}, {under, below}}
}

func fullPath(s string) *ir.PathRewrite {
	if s == "" {
		s = "/"
	}
	return &ir.PathRewrite{Full: &s}
}

// below replaces a matched prefix that ends in a slash.
func below(s string) *ir.PathRewrite {
	if !strings.HasSuffix(s, "/") {
		s += "/"
	}
	return &ir.PathRewrite{Prefix: &s}
}

// headerMatches and queryMatches keep the first of several matches on a name.
func headerMatches(in []HeaderMatch) []ir.ValueMatch {
	var out []ir.ValueMatch
	for _, h := range in {
		out = addMatch(out, string(h.Name), h.Type, h.Value)
	}
	return out
}

func queryMatches(in []QueryMatch) []ir.ValueMatch {
	var out []ir.ValueMatch
	for _, q := range in {
		out = addMatch(out, q.Name, q.Type, q.Value)
	}
	return out
}

func addMatch(out []ir.ValueMatch, name, kind, value string) []ir.ValueMatch {
	if slices.ContainsFunc(out, func(m ir.ValueMatch) bool { return m.Name == name }) {
		return out
	}
	if kind == "" {
		kind = Exact
	}
	if kind == Prefix && value == "" {
		kind = Present // every value starts with nothing
	}
	return append(out, ir.ValueMatch{Name: name, Kind: kind, Value: value})
}
