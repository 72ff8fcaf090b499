package compile

import (
	"maps"
	"slices"
	"sync/atomic"
	"time"

	meshproto "github.com/atoll-mesh/atoll/api/kuma/mesh/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/envoy"
	"github.com/atoll-mesh/atoll/pkg/identity"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/policy"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/view"
	"github.com/atoll-mesh/atoll/pkg/xds"
)

// Proxy is an attached proxy: an xds.Source, until it is detached.
type Proxy struct {
	unit
	engine   *Engine
	info     ProxyInfo
	set      atomic.Pointer[xds.Set]
	warnings atomic.Pointer[[]Warning]
	changed  chan struct{}

	// owned by the engine
	attached bool
	dp       *resource.Object // that the fields below were made of
	sections *policy.Proxy
	shape    digest
	gates    bool // it is a zone proxy
	matched  *policy.Matched
	inbound  digest // of the policies in own
	probing  *probing
	closed   int64
	ownOK    bool
	own      *xds.Layer
	ownKeys  []ownKey
	ownWarn  []Warning
	audience *audience
	early    bool           // the Set is newer than its revision says
	ids      *identity.Mesh // which tells what follows
	secured  *secured
	security digest       // of secured and of whom to trust
	cert     *certificate // nil: none
	certs    *xds.Layer   // with the certificate
	certWarn []Warning
	renewal  *time.Timer // runs until it is time for another certificate
	proof    *Proof      // of cert
	prove    func(*Proof)
	exports  []policy.Exported
	tell     func(*meshproto.DataplaneInsight_OpenTelemetry)
}

// Attach begins to compile for a proxy. Its Set is nil until its Dataplane is in
// the view and compiled. The caller detaches it when its stream ends.
func (e *Engine) Attach(info ProxyInfo) *Proxy {
	info.ID.Type = kind.Dataplane
	p := &Proxy{engine: e, info: info, changed: make(chan struct{}, 1)}
	p.owner = p
	e.do(func() {
		p.attached = true
		e.proxies[p] = struct{}{}
		e.crowd.came(1, time.Now())
		e.mark(&p.unit)
		e.gauges()
	})
	return p
}

// Detach ends what Attach began. The last Set stays readable.
func (p *Proxy) Detach() {
	e := p.engine
	e.do(func() {
		if !p.attached {
			return
		}
		p.attached = false
		delete(e.proxies, p)
		delete(e.pending, p)
		e.deps.drop(&p.unit)
		e.leave(p)
		p.renewAt(nil)
		e.releaseOwn(p)
		if m := e.meshes[p.info.ID.Mesh]; m != nil {
			delete(m.proxies, p)
			if len(m.proxies) == 0 {
				e.deps.drop(&m.unit)
				delete(e.meshes, m.name)
			}
		}
		e.gauges()
	})
}

// Set returns the newest configuration, or nil until there is one.
func (p *Proxy) Set() *xds.Set { return p.set.Load() }

// Changed carries a value when Set may return something new.
func (p *Proxy) Changed() <-chan struct{} { return p.changed }

// Info is what the proxy was attached with.
func (p *Proxy) Info() ProxyInfo { return p.info }

// Warnings tell what is missing in the Set, and why.
func (p *Proxy) Warnings() []Warning {
	if w := p.warnings.Load(); w != nil {
		return *w
	}
	return nil
}

// mesh is the policies of one mesh, for the proxies in it.
type mesh struct {
	unit
	name    string
	index   *policy.Index
	ids     *identity.Mesh
	idsRead map[view.Key]struct{}  // what ids is made of
	others  bool                   // something of that changed
	trust   digest                 // of whom ids trusts
	trusted map[[32]byte]time.Time // CAs of ids, since when all should know them
	proxies map[*Proxy]struct{}
}

// compileMeshes indexes the policies of meshes in which one changed, and has
// their proxies matched again.
func (e *Engine) compileMeshes() {
	for _, m := range e.dirty.meshes {
		m.dirty = false
		if len(m.proxies) == 0 {
			continue
		}
		e.indexPolicies(m)
		for p := range m.proxies {
			e.mark(&p.unit)
		}
	}
	e.dirty.meshes = empty(e.dirty.meshes)
}

func (e *Engine) indexPolicies(m *mesh) {
	r := view.NewReader(e.snap)
	var w warnings
	if !w.guard("mesh "+m.name, func() {
		m.index = newIndex(e.in.Policies, r, m.name)
		if m.ids == nil || m.others { // else proxies need not find out again who they are
			r := view.NewReader(e.snap)
			m.idsRead, m.others = r.Deps(), true
			m.ids = identity.NewMesh(e.in.Site, r, m.name)
			m.trust, m.trusted = digestOf(m.ids.Trust), trustedSince(m.ids, m.trusted, time.Now())
			m.others = false
			for _, i := range m.ids.All() { // files change without telling
				m.others = m.others || identity.Outside(i.Object)
			}
		}
	}) {
		e.bug(w.list)
	}
	e.deps.set(&m.unit, r.Deps())
	e.deps.add(&m.unit, maps.Keys(m.idsRead))
	e.policiesIndexed.Add(1)
}

func (e *Engine) meshOf(p *Proxy) *mesh {
	name := p.info.ID.Mesh
	m := e.meshes[name]
	if m == nil {
		m = &mesh{name: name, proxies: map[*Proxy]struct{}{}}
		m.owner = m
		e.meshes[name] = m
		e.indexPolicies(m)
	}
	m.proxies[p] = struct{}{}
	return m
}

// matchJob is one proxy on its way through compileProxies.
type matchJob struct {
	p       *Proxy
	index   *policy.Index
	mesh    *mesh
	dp      *resource.Object
	matched *policy.Matched
	shape   *shape // nil: as it was
	own     *own   // nil: as it was
	inbound digest
	probing *probing
	closed  int64 // how often connections shall have been closed
	certify
	encoded xds.Changes
	warn    warnings
}

// compileProxies matches proxies with policies, makes their own layers where
// that changed, and finds their audiences.
func (e *Engine) compileProxies() {
	var jobs []*matchJob
	for _, p := range e.dirty.proxies {
		p.dirty = false
		if !p.attached {
			continue
		}
		r := view.NewReader(e.snap)
		dp := r.Get(p.info.ID)
		var ask *probing
		closed := int64(0)
		if dp != nil {
			ask, closed = probingOf(r, e.in.Site, &p.info, dp), r.Closed(dp.ID)
		}
		e.deps.set(&p.unit, r.Deps())
		if dp == nil {
			continue // not there yet, or no more: what it has stays
		}
		if m := e.meshOf(p); m.index != nil {
			jobs = append(jobs, &matchJob{p: p, index: m.index, mesh: m, dp: dp, probing: ask, closed: closed})
		}
	}
	e.dirty.proxies = empty(e.dirty.proxies)
	each(len(jobs), func(i int) { jobs[i].warn.guard("proxy", func() { jobs[i].run(&e.in.Settings) }) })
	for _, j := range jobs {
		if j.warn.bug {
			e.bug(j.warn.list)
			continue
		}
		e.settle(j)
	}
}

// run does what needs no more than the proxy. It may run beside others.
func (j *matchJob) run(settings *Settings) {
	p := j.p
	same := p.dp != nil && (p.dp == j.dp || p.dp.SameContent(j.dp))
	if !same {
		p.sections = proxyOf(&p.info, j.dp)
		j.shape = shapeOf(&p.info, j.dp)
		p.shape, p.gates = j.shape.digest(), len(j.shape.Gates) > 0
	}
	j.matched = j.index.Match(p.sections, policy.Options{})
	j.inbound = j.matched.InboundDigest()
	j.identify(time.Now(), same)
	j.probing = j.probing.as(j.matched)
	if !same || j.inbound != p.inbound || !p.ownOK || j.security != p.security || !j.probing.equal(p.probing) || j.closed != p.closed {
		j.own = newOwn(settings, &p.info, j.dp, j.matched)
		j.own.secured, j.own.trust, j.own.probing = j.secured, j.mesh.ids.Trust, j.probing
		j.own.closed = j.closed
		j.encoded = envoy.Resources(j.own.build())
	}
	p.dp, p.probing, p.closed = j.dp, j.probing, j.closed
}

// settle takes the result of a job.
func (e *Engine) settle(j *matchJob) {
	p := j.p
	e.matches.Add(1)
	p.matched, p.inbound = j.matched, j.inbound
	e.settleIdentity(j)
	if j.own != nil {
		e.ownCompiled.Add(1)
		if !slices.Equal(p.ownWarn, j.own.warn.list) {
			p.ownWarn = j.own.warn.list
			e.pending[p] = struct{}{}
		}
		if p.ownOK = !j.own.warn.bug; !p.ownOK {
			e.bug(p.ownWarn)
		}
		if p.ownOK || p.own == nil {
			e.replaceOwn(p, j.encoded)
			p.settleExports(j.own.exports)
		}
	}
	e.join(p, j.shape)
}

// ownKey names a resource of own layers. Most of them are the same for many
// proxies and are kept once.
type ownKey struct {
	typ     xds.Type
	version string
}

func (e *Engine) releaseOwn(p *Proxy) {
	for _, k := range p.ownKeys {
		release(e.owned, k)
	}
	p.ownKeys = nil
}

// replaceOwn makes the proxy's own layer of the resources given.
func (e *Engine) replaceOwn(p *Proxy, c xds.Changes) {
	var keys []ownKey
	for t, rs := range c {
		for name, r := range rs {
			k := ownKey{t, r.Version}
			if s := e.owned[k]; s != nil {
				rs[name], k.version = s.value, s.value.Version
			}
			keys = append(keys, k)
			retain(e.owned, k, r)
		}
	}
	e.releaseOwn(p)
	p.ownKeys = slices.Clip(keys)
	if own := p.own.Becoming(c); own != p.own {
		p.own = own
		e.pending[p] = struct{}{}
	}
}

// publish gives proxies their new layers. Those whose audience is yet to be
// compiled keep what they have until it is. While endpoints wait, what is given is
// of the last revision, and given again when they no longer do.
func (e *Engine) publish() {
	revision, waits := uint64(e.snap.Revision()), e.waits()
	if waits {
		revision = e.revision.Load()
	}
	for p := range e.pending {
		a := p.audience
		if a == nil || a.layer == nil || a.dirty {
			continue
		}
		if !waits {
			delete(e.pending, p)
		}
		if len(a.warnings)+len(p.ownWarn)+len(p.certWarn) > 0 || p.warnings.Load() != nil {
			list := slices.Concat(p.certWarn, p.ownWarn, a.warnings)
			p.warnings.Store(&list)
		}
		if p.early && !waits || !p.has(a.layer, p.own, p.certs) {
			p.early = waits
			e.give(p, revision)
		}
	}
}

// has reports whether the proxy was given exactly these layers.
func (p *Proxy) has(shared, own, certs *xds.Layer) bool {
	s := p.set.Load()
	return s != nil && s.Layers()[0] == shared && s.Layers()[1] == own && s.Layers()[2] == certs
}

// publishEarly gives out layers in which endpoints changed, while other things
// of the same snapshot are yet to be compiled: as of the last revision, and
// again with the new one when it is true.
func (e *Engine) publishEarly() {
	for p := range e.pending {
		if a := p.audience; a != nil && a.layer != nil && p.own != nil && !p.has(a.layer, p.own, p.certs) {
			p.early = true
			e.give(p, e.revision.Load())
		}
	}
}

func (e *Engine) give(p *Proxy, revision uint64) {
	p.set.Store(xds.NewSet(revision, p.audience.layer, p.own, p.certs))
	e.published.Add(1)
	select {
	case p.changed <- struct{}{}:
	default: // it will look anyway
	}
}

// bug reports panics, which must not stay unseen.
func (e *Engine) bug(list []Warning) {
	e.bugs.Add(1)
	for _, w := range list {
		e.log.Error("a piece of configuration could not be compiled; the last good one stays", "source", w.Source, "error", w.Text)
	}
}
