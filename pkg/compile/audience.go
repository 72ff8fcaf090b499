package compile

import (
	"slices"

	"github.com/atoll-mesh/atoll/pkg/policy"
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
	key       audienceKey
	shape     *shape
	matched   *policy.Matched // of any proxy; the part about outbounds is equal
	client    *mutual         // how all of them prove who they are
	proxies   map[*Proxy]struct{}
	layer     *xds.Layer // nil until compiled
	outbounds []outboundKey
	clusters  []clusterKey
	rows      []rowKey
	warnings  []Warning
}

// join puts a proxy into its audience. s is nil when its shape is as it was.
func (e *Engine) join(p *Proxy, s *shape) {
	key := audienceKey{mesh: p.info.ID.Mesh, policies: p.matched.OutboundDigest(), shape: p.shape}
	if p.gates {
		key.rules = p.inbound
	}
	client, tls := p.secured.audienceTLS(p.matched.ClientTLS(), p.gates)
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
		if p.audience != nil {
			a.layer = p.audience.layer // streams find the difference from here
		}
		e.audiences[key] = a
		e.mark(&a.unit)
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
		release(e.outbounds, a.outbounds)
		release(e.clusters, a.clusters)
		e.unuse(a, a.rows)
	}
	e.vacated = empty(e.vacated)
	e.gauges()
}

// audiencesAtOnce bounds how many audiences are compiled before the first of
// them is published.
const audiencesAtOnce = 64

// compileAudiences brings the layers of dirty audiences up to date.
func (e *Engine) compileAudiences() {
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
			plans[i] = newPlan(readers[i], a.key.mesh, e.in.Site, a.shape, a.matched, &e.in.Settings, a.client)
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
		e.deps.set(&batch[i].unit, readers[i].Deps())
		if p == nil {
			e.bug(failed[i].list)
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

// use records what of the shared things an audience holds.
func (e *Engine) use(a *audience, p *plan) {
	retain(e.outbounds, p.keys, p.units)
	retain(e.clusters, p.clusterKeys, p.clusterUnits)
	release(e.outbounds, a.outbounds)
	release(e.clusters, a.clusters)
	a.outbounds, a.clusters = p.keys, p.clusterKeys
	for i, k := range p.rows {
		if k.side != asEgress {
			e.rowOf(k, p.placements[i]).users[a] = struct{}{}
		}
	}
	kept := make(map[rowKey]bool, len(p.rows))
	for _, k := range p.rows {
		kept[k] = true
	}
	gone := slices.DeleteFunc(a.rows, func(k rowKey) bool { return kept[k] })
	e.unuse(a, gone)
	a.rows = p.rows
}

// finish makes the layer of an audience whose parts are all there.
func (e *Engine) finish(a *audience, p *plan) {
	e.audiencesCompiled.Add(1)
	old, oldWarnings := a.layer, a.warnings
	c := xds.Changes{}
	a.warnings = nil
	// A part that hit a bug is served as it was, if it was.
	last := func(t xds.Type, name string) {
		if r := old.Type(t).Get(name); r != nil {
			c.Put(t, r)
		}
	}
	var notes []Warning
	for i, u := range p.units {
		notes = append(notes, u.notes...)
		if u.removed {
			continue
		}
		if u.listener == nil {
			a.warnings = append(a.warnings, u.warnings...)
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
		notes = append(notes, u.notes...)
		if u.removed {
			continue
		}
		if u.cluster == nil {
			a.warnings = append(a.warnings, u.warnings...)
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
	a.warnings = append(append(a.warnings, p.warn.list...), notes...)
	a.layer = old.Becoming(c)
	if a.layer != old || !slices.Equal(oldWarnings, a.warnings) {
		for p := range a.proxies {
			e.pending[p] = struct{}{}
		}
	}
}
