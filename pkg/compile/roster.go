package compile

import (
	"maps"
	"slices"

	"github.com/atoll-mesh/atoll/pkg/ir"
	"github.com/atoll-mesh/atoll/pkg/policy"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/topology"
	"github.com/atoll-mesh/atoll/pkg/view"
)

// roster is what those call who reach everything in their mesh: each destination
// at its virtual addresses. It follows from the destinations and a shape alone, so
// that audiences share it whatever their policies are, and it follows them one by
// one, so that a change of one costs the same among ten as among a thousand.
type roster struct {
	unit
	key   rosterKey
	shape *shape
	users int // audiences

	// version counts how often it changed. last is what the newest version has
	// differently from the one before; nil: it was made anew.
	version uint64
	last    []relisted
	changed map[resource.ID]struct{} // since
	anew    bool                     // more than that

	dests map[resource.ID]*listed
	// byDisplay finds destinations by the name that selectors mean.
	byDisplay map[string]map[resource.ID]*listed
	names     map[string]resource.ID     // of ports
	taken     map[ir.Address]resource.ID // by whom
	warned    map[resource.ID]*listed    // with warnings
	warnings  []Warning
	// clash: two destinations have one name or one address. Which of them is
	// called depends on the order of all, and audiences look at all of them.
	clash bool
}

type rosterKey struct {
	mesh  string
	shape digest
}

// listed is one destination. It is never changed, only replaced.
type listed struct {
	row       *topology.Destination
	dest      *policy.Destination
	outbounds []*outbound
	warnings  []Warning
}

// relisted is a destination that came, went or became another one.
type relisted struct{ before, after *listed }

// rosterOf returns what audiences of a shape call; nil where each of them has a
// list of its own.
func (e *Engine) rosterOf(mesh string, s *shape) *roster {
	if !s.Virtual || !s.All || len(s.Gates) > 0 {
		return nil
	}
	key := rosterKey{mesh, s.digest()}
	r := e.rosters[key]
	if r == nil {
		r = &roster{key: key, shape: s, anew: true}
		r.owner = r
		e.rosters[key] = r
		e.mark(&r.unit)
	}
	return r
}

// leaveRoster forgets a roster when no audience uses it.
func (e *Engine) leaveRoster(r *roster) {
	if r == nil {
		return
	}
	if r.users--; r.users == 0 {
		e.deps.drop(&r.unit)
		delete(e.rosters, r.key)
	}
}

// compileRosters brings rosters to the snapshot.
func (e *Engine) compileRosters() {
	for _, r := range e.dirty.rosters {
		r.dirty = false
		if e.rosters[r.key] != r {
			continue
		}
		reader := view.NewReader(e.snap)
		var w warnings
		if !w.guard("destinations of "+r.key.mesh, func() { r.follow(reader, e.in.Site, &e.in.Settings) }) {
			e.bug(w.list)
			r.clash, r.anew = true, true // audiences will find what it is
		}
		e.deps.set(&r.unit, map[view.Key]struct{}{{Table: view.Destinations, ID: resource.ID{Mesh: r.key.mesh}}: {}})
	}
	e.dirty.rosters = empty(e.dirty.rosters)
}

// follow takes what changed, or everything.
func (r *roster) follow(reader *view.Reader, site resource.Site, settings *Settings) {
	x := newResolver(reader, r.key.mesh, site)
	cidrs := internalCIDRs(settings.InternalCIDRs, r.shape.IPv6)
	changed := r.changed
	r.version++
	r.changed, r.last = nil, nil
	if !r.anew && !r.clash {
		last := make([]relisted, 0, len(changed))
		for id := range changed {
			c := relisted{before: r.dests[id]}
			r.remove(c.before)
			if row := reader.Destination(id); row != nil {
				c.after = r.list(x, row, cidrs)
			}
			last = append(last, c)
		}
		for _, c := range last { // all that go are gone
			r.add(c.after)
		}
		r.last = last
	}
	if r.anew || r.clash {
		r.last, r.anew, r.clash = nil, false, false
		n := len(r.dests)
		r.dests, r.byDisplay = make(map[resource.ID]*listed, n), make(map[string]map[resource.ID]*listed, n)
		r.names, r.taken = make(map[string]resource.ID, n), make(map[ir.Address]resource.ID, n)
		r.warned = map[resource.ID]*listed{}
		for row := range reader.Destinations(r.key.mesh) {
			r.add(r.list(x, row, cidrs))
		}
	}
	r.collectWarnings()
}

// list makes the outbounds of one destination as if there were no others.
func (r *roster) list(x *resolver, row *topology.Destination, cidrs []string) *listed {
	var w warnings
	c := &collector{shape: r.shape, x: x, warn: &w, cidrs: cidrs, byName: map[string]*outbound{}, taken: map[ir.Address]string{}}
	c.virtual(row, nil)
	for _, o := range c.list {
		o.settle()
	}
	return &listed{row: row, dest: x.convert(row), outbounds: c.list, warnings: w.list}
}

func (r *roster) add(l *listed) {
	if l == nil {
		return
	}
	id := l.row.ID
	r.dests[id] = l
	if r.byDisplay[l.dest.KRI.Name] == nil {
		r.byDisplay[l.dest.KRI.Name] = map[resource.ID]*listed{}
	}
	r.byDisplay[l.dest.KRI.Name][id] = l
	if len(l.warnings) > 0 {
		r.warned[id] = l
	}
	for _, port := range l.dest.Ports {
		claim(r, r.names, policy.Dest{Destination: l.dest, Port: port}.Name(), id)
	}
	for _, o := range l.outbounds {
		for _, a := range o.addresses {
			claim(r, r.taken, a, id)
		}
	}
}

// claim notes who has something that only one can have.
func claim[K comparable](r *roster, owners map[K]resource.ID, key K, id resource.ID) {
	if by, taken := owners[key]; taken && by != id {
		r.clash = true
		return
	}
	owners[key] = id
}

func (r *roster) remove(l *listed) {
	if l == nil {
		return
	}
	id, name := l.row.ID, l.dest.KRI.Name
	delete(r.dests, id)
	delete(r.warned, id)
	if delete(r.byDisplay[name], id); len(r.byDisplay[name]) == 0 {
		delete(r.byDisplay, name)
	}
	for _, port := range l.dest.Ports {
		delete(r.names, policy.Dest{Destination: l.dest, Port: port}.Name())
	}
	for _, o := range l.outbounds {
		for _, a := range o.addresses {
			delete(r.taken, a)
		}
	}
}

func (r *roster) collectWarnings() {
	r.warnings = nil
	for _, id := range slices.SortedFunc(maps.Keys(r.warned), resource.ID.Compare) {
		r.warnings = append(r.warnings, r.warned[id].warnings...)
	}
}

// since returns what became different after a version; ok is false when that is
// not known.
func (r *roster) since(version uint64) (changes []relisted, ok bool) {
	switch {
	case version == r.version:
		return nil, true
	case version+1 == r.version && r.last != nil:
		return r.last, true
	}
	return nil, false
}

// meant calls visit for the destinations that a reference of a policy is about.
func (r *roster) meant(ref policy.TargetRef, visit func(*listed)) {
	among := r.dests
	if name, ok := ref.Labels[resource.LabelDisplayName]; ok {
		among = r.byDisplay[name] // as Matches compares it
	}
	for _, l := range among {
		if l.dest.Kind == ref.Kind && l.dest.Matches(ref.Labels) {
			visit(l)
		}
	}
}

// found tells whether a lookup finds what a row stands for.
func found(l *policy.Lookup, row *topology.Destination) bool {
	m := resource.Meta{ID: row.ID, Labels: row.Labels}
	return row.ID.Type == l.Kind && m.Matches(l.Labels)
}
