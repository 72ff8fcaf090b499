package compile

import (
	"maps"
	"slices"

	"github.com/atoll-mesh/atoll/pkg/policy"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/view"
	"github.com/atoll-mesh/atoll/pkg/xds"
)

// audienceKey is everything by which the outbounds of two proxies may differ.
type audienceKey struct {
	mesh     string
	policies digest
	shape    digest
	rules    digest // of policies about listeners, of zone proxies
	tls      digest
}

// audience is the proxies that share a layer of outbounds.
type audience struct {
	unit
	key      audienceKey
	shape    *shape
	matched  *policy.Matched // of any proxy; the part about outbounds is equal
	client   *mutual         // how all of them prove who they are
	proxies  map[*Proxy]struct{}
	layer    *xds.Layer // nil until compiled
	held     *holding   // nil until compiled
	roster   *roster    // nil: it has its own list of what it calls
	from     *audience  // that its first proxies come from, until compiled
	heir     *audience  // has what this one had
	whole    bool       // something changed that concerns everything
	warnings []Warning
}

// join puts a proxy into its audience. s is nil when its shape is as it was.
func (e *Engine) join(p *Proxy, s *shape) {
	key := audienceKey{mesh: p.info.ID.Mesh, policies: p.matched.OutboundDigest(), shape: p.shape}
	if p.gates {
		key.rules = p.inbound
	}
	client, tls := p.secured.audienceTLS(p.matched.ClientTLS(), p.gates, p.audience)
	key.tls = tls
	if p.audience != nil && p.audience.key == key {
		p.audience.matched = p.matched // the same in content; lets the old index go
		return
	}
	a := e.audiences[key]
	if a == nil {
		if s == nil {
			s = p.audience.shape
		}
		a = &audience{key: key, shape: s, client: client, proxies: map[*Proxy]struct{}{}}
		a.owner = a
		if a.roster = e.rosterOf(key.mesh, s); a.roster != nil {
			a.roster.users++
		}
		e.audiences[key] = a
		e.mark(&a.unit)
	}
	if a.held == nil && a.from == nil && p.audience != nil {
		a.from, a.layer = p.audience, p.audience.layer // streams find the difference from here
	}
	a.matched = p.matched
	e.leave(p)
	a.proxies[p] = struct{}{}
	p.audience = a
	e.pending[p] = struct{}{}
}

func (e *Engine) leave(p *Proxy) {
	if a := p.audience; a != nil {
		delete(a.proxies, p)
		if len(a.proxies) == 0 {
			e.vacated = append(e.vacated, a)
		}
		p.audience = nil
	}
}

// forgetVacated drops audiences that nobody joined again.
func (e *Engine) forgetVacated() {
	for _, a := range e.vacated {
		if len(a.proxies) > 0 || e.audiences[a.key] != a {
			continue
		}
		delete(e.audiences, a.key)
		e.deps.drop(&a.unit)
		e.letGo(a.held)
		a.held = nil
		e.leaveRoster(a.roster)
	}
	e.vacated = empty(e.vacated)
	e.gauges()
}

// audiencesAtOnce bounds how many audiences are compiled before the first of
// them is published.
const audiencesAtOnce = 64

// compileAudiences brings the layers of dirty audiences up to date.
func (e *Engine) compileAudiences() {
	e.compileRosters()
	for batch := range slices.Chunk(e.dirty.audiences, audiencesAtOnce) {
		e.compileBatch(batch)
		e.publish()
	}
	e.dirty.audiences = empty(e.dirty.audiences)
}

// compileBatch works in stages, so that all processors are used with one large
// audience as well as with many small ones, and each thing is built once.
func (e *Engine) compileBatch(batch []*audience) {
	batch = slices.DeleteFunc(slices.Clone(batch), func(a *audience) bool {
		a.dirty = false
		return len(a.proxies) == 0
	})
	readers := make([]*view.Reader, len(batch))
	plans := make([]*plan, len(batch))
	failed := make([]warnings, len(batch))
	each(len(batch), func(i int) {
		a := batch[i]
		readers[i] = view.NewReader(e.snap)
		failed[i].guard("audience", func() {
			plans[i] = e.plan(readers[i], a, &failed[i])
		})
	})

	outbounds := newWork(e.outbounds, func(p *plan, i int) *outboundUnit { return p.build(i) })
	for _, p := range plans {
		if p != nil {
			outbounds.want(p, p.keys)
		}
	}
	e.outboundsCompiled.Add(outbounds.run())
	for _, p := range plans {
		if p != nil {
			outbounds.fill(p.keys, p.units)
		}
	}
	each(len(plans), func(i int) {
		if p := plans[i]; p != nil && !failed[i].guard("audience", p.collectClusters) {
			plans[i] = nil
		}
	})

	clusters := newWork(e.clusters, func(p *plan, i int) *clusterUnit { u, _ := p.buildCluster(i); return u })
	for _, p := range plans {
		if p != nil {
			clusters.want(p, p.clusterKeys)
		}
	}
	e.clustersCompiled.Add(clusters.run())
	for _, p := range plans {
		if p != nil {
			clusters.fill(p.clusterKeys, p.clusterUnits)
		}
	}
	for i, p := range plans { // all are filled: this lets go of what is old
		if len(failed[i].list) > 0 {
			e.bug(failed[i].list)
		}
		if p != nil && p.part != nil && batch[i].held != p.part.from {
			e.take(batch[i], p.part.from)
		}
	}
	for i, p := range plans { // what others took is as it was
		batch[i].depend(e.deps, readers[i], p)
		batch[i].from = nil
		if batch[i].whole = p == nil; p == nil {
			continue // its layer stays as it was
		}
		e.use(batch[i], p)
	}
	e.compileRows()
	for i, p := range plans {
		if p != nil {
			e.finish(batch[i], p)
		}
	}
}

// plan tells what an audience needs: by what differs from what it has, if that can
// be told.
func (e *Engine) plan(r *view.Reader, a *audience, w *warnings) (p *plan) {
	if a.roster == nil || a.roster.clash {
		return newPlan(r, a.key.mesh, e.in.Site, a.shape, a.matched, &e.in.Settings, a.client)
	}
	if h := a.base(); h != nil {
		w.guard("audience", func() { p = planPart(r, e.in.Site, a, h) })
	}
	if p == nil {
		p = planRoster(r, e.in.Site, a)
	}
	return p
}

// depend records what a plan read; nil: it could not be made.
func (a *audience) depend(deps depIndex, r *view.Reader, p *plan) {
	read := r.Deps()
	if p != nil && p.roster != nil { // it reads all destinations, and that stands for each
		maps.DeleteFunc(read, func(k view.Key, _ struct{}) bool {
			return k.Table == view.Destinations && k.Mesh == a.key.mesh && k.ID != resource.ID{Mesh: k.Mesh}
		})
		if p.part != nil {
			deps.add(&a.unit, maps.Keys(read))
			return
		}
	}
	deps.set(&a.unit, read)
}

// use records what of the shared things an audience holds.
func (e *Engine) use(a *audience, p *plan) {
	if p.part != nil {
		e.usePart(a.held, p)
		return
	}
	h := newHolding(a, p)
	for i, k := range p.keys {
		retain(e.outbounds, k, p.units[i])
	}
	for i, k := range p.clusterKeys {
		retain(e.clusters, k, p.clusterUnits[i])
	}
	for i, k := range p.rows {
		if k.side != asEgress {
			e.rowOf(k, p.placements[i]).users[h] = struct{}{}
		}
	}
	e.letGo(a.held)
	a.held = h
}

// finish makes the layer of an audience whose parts are all there.
func (e *Engine) finish(a *audience, p *plan) {
	e.audiencesCompiled.Add(1)
	old, oldWarnings := a.layer, a.warnings
	c := xds.Changes{}
	if p.part != nil {
		e.audiencesFollowed.Add(1)
		c = p.part.lost
	}
	a.warnings = nil
	// A part that hit a bug is served as it was, if it was.
	last := func(t xds.Type, name string) {
		if r := old.Type(t).Get(name); r != nil {
			c.Put(t, r)
		}
	}
	for i, u := range p.units {
		a.held.note(noteKey{xds.Listeners, p.keys[i].name}, u.notes)
		if u.removed {
			continue
		}
		if u.listener == nil {
			a.warnings = append(a.warnings, u.warnings...)
			a.held.note(noteKey{xds.Listeners, p.keys[i].name}, u.warnings)
			last(xds.Listeners, p.keys[i].name)
			last(xds.Routes, p.keys[i].name)
			for _, pass := range p.outbounds[i].passages {
				last(xds.Routes, pass.routes)
			}
			continue
		}
		c.Put(xds.Listeners, u.listener)
		for _, r := range u.routes {
			c.Put(xds.Routes, r)
		}
	}
	for i, u := range p.clusterUnits {
		a.held.note(noteKey{xds.Clusters, p.clusterKeys[i].name}, u.notes)
		if u.removed {
			continue
		}
		if u.cluster == nil {
			a.warnings = append(a.warnings, u.warnings...)
			a.held.note(noteKey{xds.Clusters, p.clusterKeys[i].name}, u.warnings)
			last(xds.Clusters, p.clusterKeys[i].name)
		} else {
			c.Put(xds.Clusters, u.cluster)
		}
		if r := e.rows[p.rows[i]]; r != nil && r.load != nil {
			c.Put(xds.Endpoints, r.load)
		}
	}
	if len(a.warnings) > 0 {
		e.bug(a.warnings)
	}
	a.warnings = slices.Concat(p.warn.list, a.held.warnings())
	if p.roster != nil {
		a.warnings = append(a.warnings, p.roster.warnings...)
	}
	if p.part != nil {
		a.layer = old.With(c)
	} else {
		a.layer = old.Becoming(c)
	}
	if a.layer != old || !slices.Equal(oldWarnings, a.warnings) {
		for p := range a.proxies {
			e.pending[p] = struct{}{}
		}
	}
}
