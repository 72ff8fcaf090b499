package compile

import (
	"slices"

	"github.com/atoll-mesh/atoll/pkg/policy"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/view"
	"github.com/atoll-mesh/atoll/pkg/xds"
)

// part is how a plan differs from what an audience has. What is in a plan follows
// from the destinations, the policies, and what clients prove with: of each it is
// known what became different, and only what may follow from that is planned
// again. A whole plan of the same must not differ.
type part struct {
	from *holding
	gone []*outbound        // no longer called
	drop []backend          // whose clusters are no longer needed
	look map[backend]bool   // whose clusters may be others
	lost xds.Changes        // what is removed, unless something takes its place
	seen map[*outbound]bool // planned again, or gone
}

const (
	// maxParts bounds how many references of policies are followed, each of which
	// may lead to all destinations.
	maxParts = 64
	// maxLooks bounds how often what was looked up is compared with what changed.
	// Beyond it, planning everything costs less.
	maxLooks = 1 << 16
)

// base is the holding to which an audience is compared; nil: it is planned as a
// whole.
func (a *audience) base() *holding {
	b := a
	if a.held == nil {
		b = a.from
		for b != nil && b.held == nil {
			b = b.heir
		}
	}
	switch {
	case b == nil, a.roster == nil, a.roster.clash,
		b.roster != a.roster, b.key.tls != a.key.tls,
		a.whole, b.whole, b.held.whole, b.held.outs == nil:
		return nil
	}
	return b.held
}

// planPart plans what differs from a holding. It returns nil when everything may.
func planPart(r *view.Reader, site resource.Site, a *audience, h *holding) *plan {
	changes, ok := a.roster.since(h.version)
	if !ok || len(changes)*len(h.looking) > maxLooks {
		return nil
	}
	said := a.matched.OutboundChange(h.audience.matched)
	if said.All || len(said.Refs)+len(said.Routes) > maxParts {
		return nil
	}
	p := planWith(r, site, a)
	t := &part{
		from: h, look: map[backend]bool{}, lost: xds.Changes{},
		seen: map[*outbound]bool{},
	}
	p.part = t
	for _, c := range changes {
		if c.before != nil {
			t.visit(c.before, func(o *outbound) { t.gone = append(t.gone, o) })
		}
	}
	for _, c := range changes {
		if c.after != nil {
			t.visit(c.after, p.again)
		}
	}
	for _, ref := range said.Refs {
		a.roster.meant(ref, func(l *listed) { t.visit(l, p.again) })
	}
	for o, held := range h.looking {
		if !t.seen[o] && concerned(held.looked, changes, said.Routes) {
			t.seen[o] = true
			p.again(o)
		}
	}
	t.gone = append(t.gone, p.findKeys()...)
	return p
}

// planWith begins a plan with the destinations of the roster.
func planWith(r *view.Reader, site resource.Site, a *audience) *plan {
	p := emptyPlan(r, a.key.mesh, site, a.shape, a.matched, a.client)
	p.roster, p.x.known = a.roster, a.roster.dests
	r.Destinations(a.key.mesh) // all of them matter
	return p
}

// planRoster plans everything on a roster.
func planRoster(r *view.Reader, site resource.Site, a *audience) *plan {
	p := planWith(r, site, a)
	for _, l := range a.roster.dests {
		p.outbounds = append(p.outbounds, l.outbounds...)
	}
	p.findKeys()
	return p
}

func (p *plan) again(o *outbound) { p.outbounds = append(p.outbounds, o) }

// visit calls do for the outbounds of a destination that were not seen yet, and has
// its clusters looked at.
func (t *part) visit(l *listed, do func(*outbound)) {
	for _, port := range l.dest.Ports {
		t.look[backend{id: l.row.ID, section: port.Section}] = true
	}
	for _, o := range l.outbounds {
		if !t.seen[o] {
			t.seen[o] = true
			do(o)
		}
	}
}

// concerned tells whether what was looked up may have another answer now.
func concerned(looked []policy.Lookup, changes []relisted, routes []resource.KRI) bool {
	for i := range looked {
		l := &looked[i]
		if l.Kind == "" {
			if slices.Contains(routes, l.Route) {
				return true
			}
			continue
		}
		for _, c := range changes {
			if c.before != nil && found(l, c.before.row) || c.after != nil && found(l, c.after.row) {
				return true
			}
		}
	}
	return false
}

// collectPart lists the clusters that come, go or may be others.
func (p *plan) collectPart() {
	t := p.part
	for i, o := range p.outbounds {
		p.refer(p.units[i], 1)
		p.refer(t.from.unit(o), -1)
	}
	for _, o := range t.gone {
		p.refer(t.from.unit(o), -1)
	}
	for b := range p.refs {
		t.look[b] = t.look[b] || t.from.clusters[b] == nil
	}
	for b, look := range t.look {
		has, refs := t.from.clusters[b], p.refs[b]
		if has != nil {
			refs += has.refs
		}
		p.odd = p.odd || refs < 0
		if refs > 0 {
			if !look {
				continue
			}
			// Without a destination its outbounds would have other keys.
			if d, ok := p.x.byID(b.id, b.section); !ok {
				p.odd = true
			} else if p.collectCluster(b, d, has) {
				continue
			}
		}
		if has != nil {
			t.drop = append(t.drop, b)
		}
	}
	p.clusterUnits = make([]*clusterUnit, len(p.clusters))
}

// unit is what an outbound is now, nil when it is new.
func (h *holding) unit(o *outbound) *outboundUnit {
	if held := h.outs[o]; held != nil {
		return held.unit
	}
	return nil
}

func (p *plan) refer(u *outboundUnit, n int) {
	if u == nil {
		return
	}
	for _, b := range u.backends {
		p.refs[b] += n
	}
}

// usePart makes what an audience holds what the plan says.
func (e *Engine) usePart(h *holding, p *plan) {
	t := p.part
	for i, o := range p.outbounds {
		old := h.outs[o]
		retain(e.outbounds, p.keys[i], p.units[i])
		h.setOutbound(o, &heldOutbound{p.keys[i], p.units[i], p.looked[i]})
		if old != nil {
			release(e.outbounds, old.key)
		}
		t.lose(h, xds.Listeners, o.name())
		t.lose(h, xds.Routes, o.name())
	}
	for _, o := range t.gone {
		t.lose(h, xds.Listeners, o.name())
		t.lose(h, xds.Routes, o.name())
		if old := h.outs[o]; old != nil {
			release(e.outbounds, old.key)
			delete(h.outs, o)
			delete(h.looking, o)
		}
	}
	for i, b := range p.backends {
		next := &heldCluster{p.clusterKeys[i], p.rows[i], p.refs[b]}
		retain(e.clusters, next.key, p.clusterUnits[i])
		e.rowOf(next.row, p.placements[i]).users[h] = struct{}{}
		if old := h.clusters[b]; old != nil {
			next.refs += old.refs
			e.dropCluster(h, t, old, next.row)
		}
		h.clusters[b] = next
		delete(p.refs, b)
	}
	for _, b := range t.drop {
		e.dropCluster(h, t, h.clusters[b], rowKey{})
		delete(h.clusters, b)
		delete(p.refs, b)
	}
	for b, n := range p.refs {
		if old := h.clusters[b]; old != nil && n != 0 {
			next := *old
			next.refs += n
			h.clusters[b] = &next
		}
	}
	h.version, h.whole = p.roster.version, p.odd
}

// dropCluster gives up a cluster, and its endpoints unless they stay.
func (e *Engine) dropCluster(h *holding, t *part, old *heldCluster, stays rowKey) {
	release(e.clusters, old.key)
	if old.row != stays {
		e.unuse(h, old.row)
	}
	t.lose(h, xds.Clusters, old.key.name)
	t.lose(h, xds.Endpoints, old.row.cluster)
}

// lose has a resource removed, with what was noted about it.
func (t *part) lose(h *holding, typ xds.Type, name string) {
	t.lost.Remove(typ, name)
	delete(h.notes, noteKey{typ, name})
}
