package policy

import (
	"cmp"
	"iter"
	"slices"
	"strings"

	"github.com/atoll-mesh/atoll/pkg/resource"
)

// Applied is what the policies of one kind say together about something, and
// which items of which policies say it, the strongest last. Conf encodes to the
// JSON that inspection shows.
type Applied struct {
	Type    resource.Type
	Conf    any
	Origins []Origin
	items   []item
}

// AppliedTo is Applied for one key that policies name: a destination, one port
// of it, a route, or the mesh.
type AppliedTo struct {
	Resource resource.KRI // the section is the port
	Applied
}

// AppliedRule is one rule of an inbound. Match is nil for all clients.
type AppliedRule struct {
	Match *Match
	Conf  any
	Origin
}

// AppliedRules is the rules of one kind, most specific first, not merged.
type AppliedRules struct {
	Type  resource.Type
	Rules []AppliedRule
}

func (di *defIndex) applied(m *merged) Applied {
	return Applied{Type: di.kind.Type, Conf: m.conf, Origins: m.origins, items: m.items}
}

// ProxyPolicies returns what configures the proxy as a whole, in order of
// application. Kinds without any policy are left out, here and below.
func (m *Matched) ProxyPolicies() []Applied {
	var out []Applied
	for _, di := range m.ix.defs {
		if got := m.proxyConf(di); got != nil {
			out = append(out, di.applied(got))
		}
	}
	return out
}

// OutboundPolicies returns what applies to a port of a destination.
func (m *Matched) OutboundPolicies(d Dest) []Applied {
	var out []Applied
	for _, di := range m.ix.defs {
		if entries := m.out.forDest(di, d); len(entries) > 0 && !di.everywhere {
			out = append(out, di.applied(m.out.join(di, entries)))
		}
	}
	return out
}

// RoutePolicies returns what applies to the routes that a policy makes for a
// destination: what names the route, else what applies to the destination.
// The kinds that make routes are left out.
func (m *Matched) RoutePolicies(d Dest, route resource.KRI) []Applied {
	route.Section = ""
	var out []Applied
	for _, di := range m.ix.defs {
		if di.reads != nil || di.everywhere {
			continue
		}
		entries := m.out.forRoute(di, route)
		if entries == nil {
			entries = m.out.forDest(di, d)
		}
		if len(entries) > 0 {
			out = append(out, di.applied(m.out.join(di, entries)))
		}
	}
	return out
}

// InboundPolicies returns the rules for what listens on an address and port.
func (m *Matched) InboundPolicies(address string, port uint32) []AppliedRules {
	var out []AppliedRules
	for _, di := range m.ix.defs {
		entries := m.rules(di, address, port)
		if len(entries) == 0 {
			continue
		}
		rules := AppliedRules{Type: di.kind.Type}
		for _, e := range entries {
			rules.Rules = append(rules.Rules, AppliedRule{Match: e.match, Conf: e.conf, Origin: e.origin()})
		}
		out = append(out, rules)
	}
	return out
}

// ToRules returns what is said about outbounds by key, for every key that a
// matched policy names. mesh is the KRI of the mesh, destinations are all of
// the mesh. Within a kind, keys are ordered by name.
func (m *Matched) ToRules(mesh resource.KRI, destinations iter.Seq[*Destination]) []AppliedTo {
	dests := slices.Collect(destinations)
	var out []AppliedTo
	for _, di := range m.ix.defs {
		if di.everywhere {
			continue // they are shown as policies of the proxy
		}
		from := len(out)
		add := func(key resource.KRI, entries []*toEntry) {
			out = append(out, AppliedTo{Resource: key, Applied: di.applied(m.out.join(di, entries))})
		}
		for key, entries := range m.out.keys(di, mesh, dests) {
			add(key, entries)
		}
		slices.SortFunc(out[from:], func(a, b AppliedTo) int {
			return cmp.Or(
				strings.Compare(a.Resource.Name, b.Resource.Name),
				strings.Compare(a.Resource.String(), b.Resource.String()),
			)
		})
	}
	return out
}

// keys finds what the entries of a kind name and which entries are relevant.
func (m *matchedTo) keys(di *defIndex, mesh resource.KRI, dests []*Destination) map[resource.KRI][]*toEntry {
	out := map[resource.KRI][]*toEntry{}
	for _, e := range m.entries[di.pos] {
		switch e.ref.Kind {
		case Mesh:
			if out[mesh] == nil {
				out[mesh] = m.forDest(di, Dest{Destination: &Destination{}})
			}
		case MeshHTTPRoute:
			for _, r := range e.routes {
				if out[r] == nil {
					out[r] = m.forRoute(di, r)
				}
			}
		default:
			for _, d := range dests {
				if d.Kind != e.ref.Kind || !d.Matches(e.ref.Labels) {
					continue
				}
				port := resource.Port{Section: e.ref.SectionName}
				has := func(p resource.Port) bool { return p.Section == port.Section }
				if key := d.KRI.WithSection(port.Section); out[key] == nil && (port.Section == "" || slices.ContainsFunc(d.Ports, has)) {
					out[key] = m.forDest(di, Dest{Destination: d, Port: port})
				}
			}
		}
	}
	return out
}

// RouteRule is one rule of a policy that makes routes, as inspection shows it.
type RouteRule struct {
	Origin  Origin // zero where rules are not traced to policies
	Matches any    // encodes to the JSON list of matches; nil: everything
	Hash    string // of the matches; empty where there are none
	Conf    any
}

// Routed is implemented by merged confs of policies that make routes.
type Routed interface{ RouteRules() []RouteRule }

// All yields every matched policy, by kind in order of application and within a
// kind in ascending precedence.
func (m *Matched) All() iter.Seq[*resource.Object] {
	return func(yield func(*resource.Object) bool) {
		for _, di := range m.ix.defs {
			for _, p := range di.policies {
				if m.set.has(p.bit) && !yield(p.obj) {
					return
				}
			}
		}
	}
}

// Without returns what would be matched if some of the policies were gone.
func (m *Matched) Without(gone ...*resource.Object) *Matched {
	n := &Matched{ix: m.ix, proxy: m.proxy, set: slices.Clone(m.set)}
	for _, di := range m.ix.defs {
		for _, p := range di.policies {
			if slices.Contains(gone, p.obj) {
				n.set[p.bit/8] &^= 1 << (p.bit % 8)
			}
		}
	}
	n.out = m.ix.outbound(n.set)
	return n
}
