package compile

import (
	"cmp"
	"iter"
	"maps"
	"slices"
	"strings"

	"github.com/atoll-mesh/atoll/pkg/policy"
	"github.com/atoll-mesh/atoll/pkg/xds"
)

// holding is what an audience uses of what is shared. It belongs to the engine's
// goroutine; plans read it while nothing changes it.
type holding struct {
	audience *audience
	notes    map[noteKey][]Warning

	// Of an audience with a roster, so that the next plan can be a part:
	version  uint64 // of the roster
	outs     map[*outbound]*heldOutbound
	looking  map[*outbound]*heldOutbound // those that looked something up
	clusters map[backend]*heldCluster
	whole    bool // nevertheless the next plan is a whole one

	// Of others, most of which call little; maps would be larger.
	outboundList []outboundKey
	clusterList  []clusterKey
	rowList      []rowKey
}

// heldOutbound and heldCluster are replaced and never changed, since holdings that
// were copied share them.
type heldOutbound struct {
	key    outboundKey
	unit   *outboundUnit
	looked []policy.Lookup
}

type heldCluster struct {
	key  clusterKey
	row  rowKey
	refs int // of outbounds
}

// noteKey is a resource about which there is a warning.
type noteKey struct {
	typ  xds.Type
	name string
}

// newHolding is that of a whole plan.
func newHolding(a *audience, p *plan) *holding {
	h := &holding{audience: a}
	if p.roster == nil {
		h.outboundList, h.clusterList, h.rowList = p.keys, p.clusterKeys, p.rows
		return h
	}
	h.version, h.whole = p.roster.version, p.odd
	h.outs = make(map[*outbound]*heldOutbound, len(p.outbounds))
	h.looking = map[*outbound]*heldOutbound{}
	h.clusters = make(map[backend]*heldCluster, len(p.clusters))
	for i, o := range p.outbounds {
		h.setOutbound(o, &heldOutbound{p.keys[i], p.units[i], p.looked[i]})
	}
	for i, b := range p.backends {
		h.clusters[b] = &heldCluster{p.clusterKeys[i], p.rows[i], p.refs[b]}
	}
	return h
}

func (h *holding) setOutbound(o *outbound, held *heldOutbound) {
	h.outs[o] = held
	if len(held.looked) > 0 {
		h.looking[o] = held
	} else {
		delete(h.looking, o)
	}
}

func (h *holding) outboundKeys() iter.Seq[outboundKey] {
	return func(yield func(outboundKey) bool) {
		for _, o := range h.outs {
			if !yield(o.key) {
				return
			}
		}
		for _, k := range h.outboundList {
			if !yield(k) {
				return
			}
		}
	}
}

func (h *holding) clusterKeys() iter.Seq[clusterKey] {
	return func(yield func(clusterKey) bool) {
		for _, c := range h.clusters {
			if !yield(c.key) {
				return
			}
		}
		for _, k := range h.clusterList {
			if !yield(k) {
				return
			}
		}
	}
}

func (h *holding) rowKeys() iter.Seq[rowKey] {
	return func(yield func(rowKey) bool) {
		for _, c := range h.clusters {
			if !yield(c.row) {
				return
			}
		}
		for _, k := range h.rowList {
			if !yield(k) {
				return
			}
		}
	}
}

// letGo gives up what a holding has.
func (e *Engine) letGo(h *holding) {
	if h == nil {
		return
	}
	for k := range h.outboundKeys() {
		release(e.outbounds, k)
	}
	for k := range h.clusterKeys() {
		release(e.clusters, k)
	}
	for k := range h.rowKeys() {
		e.unuse(h, k)
	}
}

// take gives an audience what another one has, as it has it: what it will have
// differs in a part only. Who has no proxies any more needs nothing; else it is
// copied.
func (e *Engine) take(a *audience, h *holding) {
	from := h.audience
	a.layer = from.layer // endpoints may be newer than when a began
	e.deps.add(&a.unit, slices.Values(from.deps))
	e.letGo(a.held)
	if len(from.proxies) == 0 {
		from.held, from.heir = nil, a
		a.held, h.audience = h, a
		return
	}
	c := &holding{
		audience: a, version: h.version, notes: maps.Clone(h.notes),
		outs: maps.Clone(h.outs), looking: maps.Clone(h.looking), clusters: maps.Clone(h.clusters),
	}
	for _, o := range c.outs {
		retain(e.outbounds, o.key, o.unit)
	}
	for _, held := range c.clusters {
		retain(e.clusters, held.key, e.clusters[held.key].value)
		e.rows[held.row].users[c] = struct{}{}
	}
	a.held = c
}

// note replaces the warnings about a resource.
func (h *holding) note(k noteKey, list []Warning) {
	if len(list) == 0 {
		delete(h.notes, k)
		return
	}
	if h.notes == nil {
		h.notes = map[noteKey][]Warning{}
	}
	h.notes[k] = list
}

// warnings are those about all resources.
func (h *holding) warnings() []Warning {
	var out []Warning
	for _, k := range slices.SortedFunc(maps.Keys(h.notes), func(a, b noteKey) int {
		return cmp.Or(cmp.Compare(a.typ, b.typ), strings.Compare(a.name, b.name))
	}) {
		out = append(out, h.notes[k]...)
	}
	return out
}
