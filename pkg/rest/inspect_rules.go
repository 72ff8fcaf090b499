package rest

import (
	"cmp"
	"maps"
	"net/http"
	"slices"

	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/policy"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

type ruleOrigin struct {
	Meta  metaBody `json:"resourceMeta"`
	Index int      `json:"ruleIndex"`
}

func ruleOrigins(origins ...policy.Origin) []ruleOrigin {
	out := make([]ruleOrigin, len(origins))
	for i, o := range origins {
		out[i] = ruleOrigin{metaOf(o.Policy), o.Index}
	}
	return out
}

// ruleField says from which item of which policy a field came. An item of -1: of
// no single one.
type ruleField struct {
	Path   string `json:"path"`
	Value  any    `json:"value"`
	Policy string `json:"policy,omitempty"` // KRI
	Index  int    `json:"ruleIndex"`
}

func ruleFields(include bool, a policy.Applied) []ruleField {
	if !include {
		return nil
	}
	out := []ruleField{}
	for _, f := range a.Fields() {
		r := ruleField{Path: f.Path, Value: f.Value, Index: -1}
		if f.Policy != nil {
			r.Policy, r.Index = f.Policy.KRI().String(), f.Index
		}
		out = append(out, r)
	}
	return out
}

type toRule struct {
	Fields  []ruleField  `json:"fields,omitempty"` // where they came from; only if asked for
	Conf    []any        `json:"conf"`
	Origin  []ruleOrigin `json:"origin"`
	Meta    metaBody     `json:"resourceMeta"`
	Section string       `json:"resourceSectionName"`
}

type inboundRule struct {
	Conf   []any         `json:"conf"`
	Match  *policy.Match `json:"match,omitempty"`
	Origin []ruleOrigin  `json:"origin"`
}

type inboundName struct {
	Name string            `json:"name,omitempty"`
	Port uint32            `json:"port"`
	Tags map[string]string `json:"tags"`
}

type inboundRules struct {
	Inbound inboundName   `json:"inbound"`
	Rules   []inboundRule `json:"rules"`
}

type proxyRule struct {
	Fields []ruleField `json:"fields,omitempty"`
	Conf   any         `json:"conf"`
	Origin []metaBody  `json:"origin"`
}

type inspectRule struct {
	Type     resource.Type  `json:"type"`
	Proxy    *proxyRule     `json:"proxyRule,omitempty"`
	To       []toRule       `json:"toResourceRules"`
	Inbound  []inboundRules `json:"inboundRules"`
	Warnings []string       `json:"warnings"`
}

type httpMatch struct {
	Hash  string `json:"hash"`
	Match any    `json:"match"`
}

// rules is all that policies say about a proxy, by kind of policy, in order of
// application. With ?include=fields it says of every merged field which policy it
// came from.
func (a *API) rules(p *inspected, req *http.Request) (any, error) {
	fields := false
	for _, v := range req.URL.Query()["include"] {
		if v != "fields" {
			return nil, badRequest("include: only fields can be included, got %q", v)
		}
		fields = true
	}
	of := map[resource.Type]*inspectRule{}
	rule := func(t resource.Type) *inspectRule {
		if of[t] == nil {
			of[t] = &inspectRule{Type: t, To: []toRule{}, Inbound: []inboundRules{}, Warnings: []string{}}
		}
		return of[t]
	}
	for _, got := range p.ProxyPolicies() {
		r := &proxyRule{Conf: got.Conf, Origin: []metaBody{}, Fields: ruleFields(fields, got)}
		for _, o := range got.Origins {
			r.Origin = append(r.Origin, metaOf(o.Policy))
		}
		rule(got.Type).Proxy = r
	}
	matches := p.toRules(rule, fields)
	p.inboundRules(rule)
	p.warnings(rule)

	rules := []*inspectRule{}
	for _, d := range a.Compile.Policies {
		if r := of[d.Kind().Type]; r != nil {
			rules = append(rules, r)
		}
	}
	return struct {
		Resource    metaBody       `json:"resource"`
		HTTPMatches []httpMatch    `json:"httpMatches"`
		Rules       []*inspectRule `json:"rules"`
	}{metaOf(p.dp), matches, rules}, nil
}

// toRules files what is said about destinations, and returns the different
// matches of routes.
func (p *inspected) toRules(rule func(resource.Type) *inspectRule, fields bool) []httpMatch {
	mesh := p.s.Get(resource.ID{Type: kind.Mesh, Name: p.dp.Mesh})
	hashes := map[string]any{}
	for _, got := range p.Matched.ToRules(mesh.KRI(), p.api.destinations(p.seen, p.dp.Mesh)) {
		named := mesh
		if got.Resource != mesh.KRI() {
			named = p.s.ByKRI(got.Resource)
		}
		if named == nil || named != mesh && p.seen.Get(named.ID) == nil {
			continue
		}
		if routed, ok := got.Conf.(policy.Routed); ok {
			for _, r := range routed.RouteRules() {
				if r.Hash != "" {
					hashes[r.Hash] = r.Matches
				}
			}
		}
		r := rule(got.Type)
		r.To = append(r.To, toRule{
			Conf: []any{got.Conf}, Origin: ruleOrigins(got.Origins...),
			Meta: metaOf(named), Section: got.Resource.Section, Fields: ruleFields(fields, got.Applied),
		})
	}
	out := make([]httpMatch, 0, len(hashes))
	for _, hash := range slices.Sorted(maps.Keys(hashes)) {
		out = append(out, httpMatch{hash, hashes[hash]})
	}
	return out
}

// inboundRules files what is said about inbounds, then about the listeners of a
// zone proxy, which are shown without a name.
func (p *inspected) inboundRules(rule func(resource.Type) *inspectRule) {
	n := kind.NetworkingOf(p.dp)
	sections := slices.Clone(p.proxy.Sections)
	slices.SortStableFunc(sections, func(a, b policy.Section) int { return cmp.Compare(a.Port, b.Port) })
	names := map[string]bool{} // those that inbounds were given
	for _, in := range n.GetInbound() {
		if in.GetName() != "" {
			names[in.GetName()] = true
		}
	}
	for _, section := range sections {
		name := inboundName{Port: section.Port, Tags: n.GetGateway().GetTags()}
		if !section.ZoneProxy && names[section.Name] {
			name.Name = section.Name
		}
		for _, got := range p.InboundPolicies(section.Address, section.Port) {
			entry := inboundRules{Inbound: name, Rules: []inboundRule{}}
			for _, r := range got.Rules {
				entry.Rules = append(entry.Rules, inboundRule{[]any{r.Conf}, r.Match, ruleOrigins(r.Origin)})
			}
			of := rule(got.Type)
			of.Inbound = append(of.Inbound, entry)
		}
	}
}
