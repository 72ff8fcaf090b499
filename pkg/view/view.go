// Package view is the memory of a control plane: every resource and everything
// derived from them, as immutable snapshots numbered like the store's commits.
// One goroutine commits; any number read without locks.
package view

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/store"
	"github.com/atoll-mesh/atoll/pkg/topology"
)

// historyLimit bounds the touched keys that are remembered; who lags further
// behind looks at everything.
const historyLimit = 1 << 16

// View holds the newest snapshot and wakes those who follow it.
type View struct {
	kinds *resource.Kinds
	site  resource.Site
	log   *slog.Logger
	root  atomic.Pointer[Snapshot]

	loadOnce sync.Once
	loaded   chan struct{}

	// mu guards subs and history, and is held while the root is swapped, so that
	// history always reaches the newest snapshot. Nobody else's code runs under it.
	mu      sync.Mutex
	subs    map[*Subscription]struct{}
	history []touched
	kept    int            // keys in history
	floor   store.Revision // history begins after this revision
}

// touched is what one commit of the view changed.
type touched struct {
	from, to store.Revision // changes after from, up to and including to
	keys     []Key
}

// New makes an empty view at revision 0. Objects of kinds that are not listed
// are left out.
func New(kinds *resource.Kinds, site resource.Site, log *slog.Logger) *View {
	v := &View{kinds: kinds, site: site, log: log, subs: map[*Subscription]struct{}{}, loaded: make(chan struct{})}
	v.root.Store(&Snapshot{
		kinds: kinds, site: site,
		tables: map[resource.Type]*table{},
		topo:   topology.Empty(site),
		next:   make(chan struct{}),
	})
	return v
}

// Snapshot returns the newest snapshot. It is never nil and never changes.
func (v *View) Snapshot() *Snapshot { return v.root.Load() }

// Loaded is closed once the store was read for the first time. Before that the
// view is empty because nothing is known, not because there is nothing.
func (v *View) Loaded() <-chan struct{} { return v.loaded }

// Kinds is the list of kinds that the view knows.
func (v *View) Kinds() *resource.Kinds { return v.kinds }

// Site is the control plane that the view belongs to.
func (v *View) Site() resource.Site { return v.site }

// Wait returns the newest snapshot once it has a revision, which is how a caller
// reads what it wrote. It returns the error of ctx when that ends first.
func (v *View) Wait(ctx context.Context, rev store.Revision) (*Snapshot, error) {
	for {
		s := v.root.Load()
		if s.rev >= rev {
			return s, nil
		}
		select {
		case <-s.next:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Subscription is a wake bit: a value in C means that the view may be newer than
// when its owner last looked.
type Subscription struct {
	v *View
	c chan struct{}
}

// Subscribe returns a new wake bit, already set so that its owner looks once.
func (v *View) Subscribe() *Subscription {
	s := &Subscription{v: v, c: make(chan struct{}, 1)}
	s.c <- struct{}{}
	v.mu.Lock()
	v.subs[s] = struct{}{}
	v.mu.Unlock()
	return s
}

// C carries at most one value however many changes there were.
func (s *Subscription) C() <-chan struct{} { return s.c }

// Wait returns when the view may be newer or, unless it is zero, at a time at
// which there is something to do although nothing changed. It fails when ctx ends.
func (s *Subscription) Wait(ctx context.Context, due time.Time) error {
	var expired <-chan time.Time
	if !due.IsZero() {
		t := time.NewTimer(time.Until(due)) // a deadline of the caller's
		defer t.Stop()
		expired = t.C
	}
	select {
	case <-s.c:
	case <-expired:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// Close ends the subscription. C is not closed.
func (s *Subscription) Close() {
	s.v.mu.Lock()
	delete(s.v.subs, s)
	s.v.mu.Unlock()
}

// Touched returns the keys of rows that differ between the revision after and
// snapshot s, each once. ok is false when the view no longer knows; the caller
// then has to look at everything.
func (v *View) Touched(after store.Revision, s *Snapshot) (keys []Key, ok bool) {
	if after >= s.rev {
		return nil, true
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if after < v.floor {
		return nil, false
	}
	first := len(v.history)
	for first > 0 && v.history[first-1].to > after {
		first--
	}
	spans := v.history[first:]
	if len(spans) == 1 {
		return spans[0].keys, true
	}
	seen := map[Key]struct{}{}
	for _, t := range spans {
		if t.from >= s.rev {
			break
		}
		for _, k := range t.keys {
			if _, dup := seen[k]; !dup {
				seen[k] = struct{}{}
				keys = append(keys, k)
			}
		}
	}
	return keys, true
}

// Commit applies commits that follow the newest snapshot and publishes the
// result as one snapshot, whose revision is that of the last. Only one goroutine
// may commit.
func (v *View) Commit(commits []store.Commit) *Snapshot {
	prev := v.root.Load()
	next := prev.fork()
	var changes []store.Change
	for _, c := range commits {
		next.rev = c.Revision
		changes = append(changes, c.Changes...)
	}
	ids := make([]resource.ID, 0, len(changes))
	listed := make(map[resource.ID]bool, len(changes))
	for _, c := range changes {
		if next.apply(c, v.log) && !listed[c.ID] {
			listed[c.ID] = true
			ids = append(ids, c.ID)
		}
	}
	topo, derived := topology.Derive(prev.topo, next, ids)
	next.topo = topo
	keys := make([]Key, 0, len(ids)+len(derived))
	for _, id := range ids {
		keys = append(keys, Key{Objects, id})
	}
	for _, d := range derived {
		keys = append(keys, derivedKey(d))
	}
	v.publish(prev, next, keys, true)
	return next
}

// reset publishes a snapshot that was built from scratch. What it changed is not
// known in detail.
func (v *View) reset(next *Snapshot) {
	v.publish(v.root.Load(), next, nil, false)
}

func (v *View) publish(prev, next *Snapshot, keys []Key, known bool) {
	v.mu.Lock()
	if known {
		v.history = append(v.history, touched{from: prev.rev, to: next.rev, keys: keys})
		v.kept += len(keys) + 1
		for v.kept > historyLimit && len(v.history) > 1 {
			v.floor = v.history[0].to
			v.kept -= len(v.history[0].keys) + 1
			v.history[0] = touched{}
			v.history = v.history[1:]
		}
	} else {
		v.history, v.kept, v.floor = nil, 0, next.rev
	}
	v.root.Store(next)
	for s := range v.subs {
		select {
		case s.c <- struct{}{}:
		default: // already set
		}
	}
	v.mu.Unlock()
	close(prev.next)
}
