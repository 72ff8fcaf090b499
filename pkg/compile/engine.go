package compile

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/atoll-mesh/atoll/pkg/delta"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/store"
	"github.com/atoll-mesh/atoll/pkg/view"
)

// Engine compiles for all attached proxies as the view changes. Run's goroutine
// owns everything below owned; others hand it functions through the inbox.
type Engine struct {
	view *view.View
	in   Inputs
	log  *slog.Logger

	mu       sync.Mutex // guards inbox and progress; held for moments only
	inbox    []func()
	progress chan struct{} // closed and replaced when a step ends
	wake     chan struct{}
	revision atomic.Uint64 // that everything is compiled for

	counters

	// owned
	proxies map[*Proxy]struct{}
	crowd   crowd
	after   []func() // to call when the step is done and nothing waits
	state
}

// state is what an engine remembers of what it compiled.
type state struct {
	snap      *view.Snapshot // the one that is compiled
	deps      depIndex
	meshes    map[string]*mesh
	audiences map[audienceKey]*audience
	rosters   map[rosterKey]*roster
	rows      map[rowKey]*row
	outbounds map[outboundKey]*shared[*outboundUnit]
	clusters  map[clusterKey]*shared[*clusterUnit]
	owned     map[ownKey]*shared[*delta.Resource]
	dirty     struct {
		meshes    []*mesh
		rows      []*row
		rosters   []*roster
		audiences []*audience
		proxies   []*Proxy
	}
	vacated []*audience         // may have no proxies any more
	pending map[*Proxy]struct{} // have a layer that was not published
}

func newState() state {
	return state{
		deps:      depIndex{},
		meshes:    map[string]*mesh{},
		audiences: map[audienceKey]*audience{},
		rosters:   map[rosterKey]*roster{},
		rows:      map[rowKey]*row{},
		outbounds: map[outboundKey]*shared[*outboundUnit]{},
		clusters:  map[clusterKey]*shared[*clusterUnit]{},
		owned:     map[ownKey]*shared[*delta.Resource]{},
		pending:   map[*Proxy]struct{}{},
	}
}

// New makes an engine without proxies. It does nothing until Run.
func New(c Config) *Engine {
	return &Engine{
		view:     c.View,
		in:       Inputs{Policies: c.Policies, Settings: c.Settings, Site: c.View.Site()},
		log:      c.Log,
		progress: make(chan struct{}),
		wake:     make(chan struct{}, 1),
		proxies:  map[*Proxy]struct{}{},
		state:    newState(),
	}
}

// Inputs are what the engine compiles with, for Build.
func (e *Engine) Inputs() Inputs { return e.in }

// Run compiles until ctx ends, whose error it returns. Only one may run.
func (e *Engine) Run(ctx context.Context) error {
	sub := e.view.Subscribe()
	defer sub.Close()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-sub.C():
		case <-e.wake:
		}
		e.safely()
	}
}

// safely steps, and after a panic once more with nothing remembered. What
// proxies were given stays theirs whatever happens.
func (e *Engine) safely() {
	var w warnings
	for range 2 {
		if w.guard("engine", e.step) {
			return
		}
		e.bug(w.list)
		e.reset()
	}
}

// reset forgets everything but the proxies and what they were given.
func (e *Engine) reset() {
	e.state = newState()
	for p := range e.proxies {
		p.unit = unit{owner: p}
		p.dp, p.audience, p.ownKeys = nil, nil, nil
		e.mark(&p.unit)
	}
}

// do has Run's goroutine call f, soon.
func (e *Engine) do(f func()) {
	e.mu.Lock()
	e.inbox = append(e.inbox, f)
	e.mu.Unlock()
	e.look()
}

// look has Run's goroutine step, soon.
func (e *Engine) look() {
	select {
	case e.wake <- struct{}{}:
	default: // it will look anyway
	}
}

// Revision is the newest revision for which all attached proxies have what they
// should. A proxy whose Set is older needed nothing new.
func (e *Engine) Revision() store.Revision { return store.Revision(e.revision.Load()) }

// Wait returns when Revision has reached rev, or with the error of ctx.
func (e *Engine) Wait(ctx context.Context, rev store.Revision) error {
	for {
		e.mu.Lock()
		progress := e.progress
		e.mu.Unlock()
		if e.Revision() >= rev {
			return nil
		}
		select {
		case <-progress:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// step brings everything to the newest snapshot. Endpoints are published first:
// they are what failover waits for.
func (e *Engine) step() {
	e.advance()
	e.mu.Lock()
	inbox := e.inbox
	e.inbox = nil
	e.mu.Unlock()
	for _, f := range inbox {
		f()
	}
	e.compileRows()
	if len(e.dirty.meshes)+len(e.dirty.proxies)+len(e.dirty.audiences) > 0 {
		e.publishEarly()
	}
	e.compileMeshes()
	e.compileProxies()
	e.compileAudiences()
	e.publish()
	e.forgetVacated()

	waits := e.waits()
	e.crowd.waiting(waits, time.Now(), e.look)
	if !waits {
		for _, f := range e.after {
			f()
		}
		e.after = empty(e.after)
		e.revision.Store(uint64(e.snap.Revision()))
	}
	e.mu.Lock()
	close(e.progress)
	e.progress = make(chan struct{})
	e.mu.Unlock()
}

// advance takes the newest snapshot and marks what read a key that it changed.
func (e *Engine) advance() {
	next := e.view.Snapshot()
	prev := e.snap
	e.snap = next
	switch {
	case prev == nil || prev == next:
		return
	case next.Revision() <= prev.Revision():
		e.fullRestored.Add(1)
	default:
		keys, ok := e.view.Touched(prev.Revision(), next)
		if ok {
			for _, k := range keys {
				e.deps.touched(k, e.touch)
			}
			return
		}
		e.fullLagged.Add(1)
	}
	e.log.Info("compiling everything anew", "revision", next.Revision(), "last", prev.Revision())
	for _, m := range e.meshes {
		m.others = true
		e.mark(&m.unit)
	}
	for _, r := range e.rows {
		e.mark(&r.unit)
	}
	for _, r := range e.rosters {
		r.anew = true
		e.mark(&r.unit)
	}
	for _, a := range e.audiences {
		a.whole = true
		e.mark(&a.unit)
	}
	for p := range e.proxies {
		e.mark(&p.unit)
	}
}

// touch marks a unit that read a key that changed.
func (e *Engine) touch(u *unit, k view.Key) {
	switch o := u.owner.(type) {
	case *roster:
		if o.changed == nil {
			o.changed = map[resource.ID]struct{}{}
		}
		o.changed[k.ID] = struct{}{}
	case *mesh:
		o.others = o.others || concerns(o.idsRead, k)
	case *audience:
		// Its roster tells what became of destinations.
		o.whole = o.whole || o.roster == nil || k.Table != view.Destinations || k.Mesh != o.key.mesh
	}
	e.mark(u)
}

// mark has a unit compiled in this step.
func (e *Engine) mark(u *unit) {
	if u.dirty {
		return
	}
	u.dirty = true
	switch o := u.owner.(type) {
	case *mesh:
		e.dirty.meshes = append(e.dirty.meshes, o)
	case *row:
		e.dirty.rows = append(e.dirty.rows, o)
	case *roster:
		e.dirty.rosters = append(e.dirty.rosters, o)
	case *audience:
		e.dirty.audiences = append(e.dirty.audiences, o)
	case *Proxy:
		e.dirty.proxies = append(e.dirty.proxies, o)
	}
}

// shared is something that is kept once for all that need it.
type shared[T any] struct {
	value T
	users int
}

// empty keeps the room of a list, and nothing in it alive.
func empty[T any](list []T) []T {
	clear(list)
	return list[:0]
}
