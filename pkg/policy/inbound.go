package policy

import (
	"slices"

	"github.com/atoll-mesh/atoll/pkg/ir"
)

// Inbound is the configuration of one inbound of a proxy, or of one listener of
// a zone proxy, as it would be without policies. Policies change what it points
// to.
type Inbound struct {
	Address  string // where it listens: which policies apply depends on it
	Port     uint32
	Section  string
	Protocol string
	// ZoneProxy: a listener of a zone proxy, whose chains are destinations.
	ZoneProxy bool
	Listener  *ir.Listener
	Routes    []*ir.RouteConfig // what the chains of Listener refer to
	Clusters  []*ir.Cluster     // what the chains and routes send to
	// TLS is what the proxy can prove and check; nil without an identity.
	TLS   *ir.DownstreamTLS
	Facts *Facts
}

// HTTP reports whether the workload speaks HTTP.
func (in *Inbound) HTTP() bool { return ir.IsHTTP(in.Protocol) }

// InboundRule is a rule that applies to an inbound, with one match; nil matches
// everything.
type InboundRule[C any] struct {
	Match *Match
	Item[C]
}

// InboundRules are the rules of one policy kind for an inbound, most specific
// first, and of equals the one that wins last.
type InboundRules[C any] struct {
	List  []InboundRule[C]
	merge func([]Item[C]) C
}

// CatchAll merges the rules without match; ok is false when there are none.
func (r InboundRules[C]) CatchAll() (conf C, ok bool) {
	return r.Merge(func(m *Match) bool { return m == nil })
}

// Merge merges the rules whose match satisfies the condition, from the most
// general to the most specific; ok is false when there are none.
func (r InboundRules[C]) Merge(cond func(*Match) bool) (conf C, ok bool) {
	var chosen []InboundRule[C]
	for _, rule := range r.List {
		if cond(rule.Match) {
			chosen = append(chosen, rule)
		}
	}
	// A stable sort keeps the order of precedence within equals.
	slices.SortStableFunc(chosen, func(a, b InboundRule[C]) int { return b.Match.Compare(a.Match) })
	items := make([]Item[C], len(chosen))
	for i := range chosen {
		items[i] = chosen[i].Item
	}
	if len(items) == 0 {
		return conf, false
	}
	return r.merge(items), true
}

type inboundKey struct {
	def int
	set string
}

// Inbound applies the policies that select an inbound. Inbounds that listen on
// the same address and port share their rules.
func (m *Matched) Inbound(in *Inbound) {
	for _, di := range m.ix.defs {
		if di.served != nil {
			if conf := m.proxyConf(di); conf != nil {
				di.served(conf.conf, in)
			}
		}
		if di.inbound == nil {
			continue
		}
		if rules := m.rules(di, in.Address, in.Port); len(rules) > 0 || di.always {
			di.inbound(rules, in)
		}
	}
}

// rules returns the rules for a listen address, most specific first.
func (m *Matched) rules(di *defIndex, address string, port uint32) []*ruleEntry {
	if len(di.rules) == 0 {
		return nil
	}
	s := newSet(m.ix.bits)
	for _, p := range di.policies {
		if len(p.body.rules) > 0 && m.set.has(p.bit) && m.proxy.listens(p.target.SectionName, address, port) {
			s.add(p.bit)
		}
	}
	key := inboundKey{def: di.pos, set: string(s)}
	if got, ok := m.ix.inbounds.Load(key); ok {
		return got.([]*ruleEntry)
	}
	var out []*ruleEntry
	for _, e := range di.rules {
		if s.has(e.p.bit) {
			out = append(out, e)
		}
	}
	m.ix.inbounds.Store(key, out)
	return out
}

// listens reports whether a section of that name, or any if the name is empty,
// listens there.
func (p *Proxy) listens(section, address string, port uint32) bool {
	for i := range p.Sections {
		s := &p.Sections[i]
		if (section == "" || s.Name == section) && s.Address == address && s.Port == port {
			return true
		}
	}
	return false
}
