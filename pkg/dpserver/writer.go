package dpserver

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/store"
)

const (
	// writeLimit bounds the proxies of one write, and so its transaction.
	writeLimit = 500
	// retryMin and retryMax bound the pauses while the store refuses writes.
	retryMin = 100 * time.Millisecond
	retryMax = 5 * time.Second
)

// writer registers Dataplanes and writes down what happened to their proxies.
// One goroutine writes; what happens during a write goes together with the next,
// so that a thousand proxies that connect at once cost a few writes and no timer
// delays the first. What nobody waits for is written with growing pauses while it
// goes on: each proxy that listens is one more endpoint, and who calls it is told.
type writer struct {
	s      *Server
	wake   chan struct{} // cap 1
	urgent chan struct{} // cap 1; somebody waits for what is to be written
	turn   chan struct{} // cap 1; held while something is being written

	mu      sync.Mutex // guards pending and order
	pending map[resource.ID]*change
	order   []resource.ID
}

// registration is a Dataplane that came with its proxy and is to be stored.
type registration struct {
	sess  *session
	sent  *resource.Object
	check func(stored *resource.Object) error // may it be overwritten?
	err   error                               // of check
	done  chan error                          // cap 1
}

// change is what is to be written about one proxy.
type change struct {
	register *registration
	sessions []*session // whose subscriptions changed, oldest first
	stale    bool       // end subscriptions that an earlier run left open
	dead     string     // end those that this instance left open
	// removed, when set, deletes Dataplane and insight and is then called.
	removed func()
}

func newWriter(s *Server) *writer {
	return &writer{
		s: s, wake: make(chan struct{}, 1), urgent: make(chan struct{}, 1), turn: make(chan struct{}, 1),
		pending: map[resource.ID]*change{},
	}
}

func (w *writer) note(id resource.ID, fn func(*change)) {
	w.mu.Lock()
	c := w.pending[id]
	if c == nil {
		c = &change{}
		w.pending[id] = c
		w.order = append(w.order, id)
	}
	fn(c)
	wake := w.wake
	if c.urgent() {
		wake = w.urgent
	}
	w.mu.Unlock()
	select {
	case wake <- struct{}{}:
	default:
	}
}

// urgent tells whether somebody waits for the change.
func (c *change) urgent() bool { return c.register != nil || c.removed != nil }

// register stores the Dataplane that came with a session, and with it that its
// proxy is connected. It returns when the view has both, or the error of check.
// It waits for a store that is away, since the proxy could do nothing else.
func (w *writer) register(s *session, sent *resource.Object, check func(*resource.Object) error) error {
	r := &registration{sess: s, sent: sent, check: check, done: make(chan error, 1)}
	w.note(s.proxy.ID, func(c *change) {
		if c.register != nil {
			c.drop(c.register)
		}
		c.register = r
		c.sessions = append(c.sessions, s)
	})
	return <-r.done
}

// drop gives up a registration because the same proxy began another one.
func (c *change) drop(r *registration) {
	c.forget(r.sess)
	r.done <- status.Error(codes.Aborted, "the proxy has a newer stream")
}

// forget leaves out a session that did not come to be.
func (c *change) forget(s *session) {
	c.sessions = slices.DeleteFunc(c.sessions, func(x *session) bool { return x == s })
}

// changed has the session's subscription written as it is then.
func (w *writer) changed(s *session) {
	w.note(s.proxy.ID, func(c *change) {
		if !slices.Contains(c.sessions, s) {
			c.sessions = append(c.sessions, s)
		}
	})
}

// remove has a Dataplane and its insight deleted, if its proxy is not connected
// elsewhere, and calls done when that is settled.
func (w *writer) remove(id resource.ID, done func()) {
	w.note(id, func(c *change) { c.removed = done })
}

// endStale has subscriptions ended that nobody serves any more.
func (w *writer) endStale(id resource.ID) {
	w.note(id, func(c *change) { c.stale = true })
}

// run writes until ctx ends.
func (w *writer) run(ctx context.Context) {
	pause := retryMin
	var p pace
	for {
		all := true
		select {
		case <-w.wake:
			all = w.rest(ctx, &p)
		case <-w.urgent:
			all = false
		case <-ctx.Done():
			return
		}
		err := w.flush(ctx, all)
		if err == nil || ctx.Err() != nil {
			pause = retryMin
			continue
		}
		w.s.log.Warn("what happened to proxies cannot be written now", "error", err, "retryIn", pause)
		t := time.NewTimer(pause) // the store is away; there is no event for its return
		select {
		case <-t.C:
		case <-ctx.Done():
		}
		t.Stop()
		pause = min(2*pause, retryMax)
		for _, wake := range []chan struct{}{w.wake, w.urgent} {
			select {
			case wake <- struct{}{}:
			default:
			}
		}
	}
}

// flush writes what is pending, after what is being written already: all of it, or
// what somebody waits for. What could not be written stays.
func (w *writer) flush(ctx context.Context, all bool) error {
	select {
	case w.turn <- struct{}{}:
		defer func() { <-w.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	for {
		ids, batch := w.take(all)
		if len(ids) == 0 {
			return nil
		}
		if err := w.write(ctx, ids, batch); err != nil {
			w.putBack(ids, batch)
			return err
		}
		for _, id := range ids {
			c := batch[id]
			if c.register != nil {
				c.register.done <- c.register.err
			}
			if c.removed != nil {
				c.removed()
			}
		}
	}
}

func (w *writer) take(all bool) ([]resource.ID, map[resource.ID]*change) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var ids []resource.ID
	batch := map[resource.ID]*change{}
	w.order = slices.DeleteFunc(w.order, func(id resource.ID) bool {
		c := w.pending[id]
		if len(ids) == writeLimit || !all && !c.urgent() {
			return false
		}
		ids = append(ids, id)
		batch[id] = c
		delete(w.pending, id)
		return true
	})
	return ids, batch
}

func (w *writer) putBack(ids []resource.ID, batch map[resource.ID]*change) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, id := range ids {
		old, newer := batch[id], w.pending[id]
		if newer == nil {
			w.pending[id] = old
			w.order = append(w.order, id)
			continue
		}
		switch {
		case newer.register == nil:
			newer.register = old.register
		case old.register != nil:
			old.drop(old.register)
		}
		for _, s := range newer.sessions {
			if !slices.Contains(old.sessions, s) {
				old.sessions = append(old.sessions, s)
			}
		}
		newer.sessions = old.sessions
		newer.stale = newer.stale || old.stale
		if newer.dead == "" {
			newer.dead = old.dead
		}
		if newer.removed == nil {
			newer.removed = old.removed
		}
	}
}

// write writes a batch in one transaction. When somebody else changed one of its
// resources meanwhile, each proxy is written by itself, from the newest state.
func (w *writer) write(ctx context.Context, ids []resource.ID, batch map[resource.ID]*change) error {
	snap := w.s.cfg.View.Snapshot()
	var ops []store.Op
	for _, id := range ids {
		o, err := w.ops(snap, id, batch[id])
		if err != nil {
			return err
		}
		ops = append(ops, o...)
	}
	if len(ops) == 0 {
		return nil
	}
	rev, err := w.s.cfg.Store.Write(ctx, ops...)
	if errors.Is(err, store.ErrConflict) {
		return w.writeEach(ctx, snap.Revision(), ids, batch)
	}
	if err != nil {
		return err
	}
	_, err = w.s.cfg.View.Wait(ctx, rev) // the next batch builds on this one
	return err
}

func (w *writer) writeEach(ctx context.Context, seen store.Revision, ids []resource.ID, batch map[resource.ID]*change) error {
	for _, id := range ids {
		for {
			b, err := w.s.cfg.Store.Read(ctx, seen, 1)
			if err != nil && !errors.Is(err, store.ErrCompacted) {
				return err
			}
			snap, err := w.s.cfg.View.Wait(ctx, b.Head)
			if err != nil {
				return err
			}
			seen = snap.Revision()
			ops, err := w.ops(snap, id, batch[id])
			if err != nil {
				return err
			}
			if len(ops) == 0 {
				break
			}
			rev, err := w.s.cfg.Store.Write(ctx, ops...)
			if errors.Is(err, store.ErrConflict) {
				continue // somebody was faster; what they wrote is read next
			}
			if err != nil {
				return err
			}
			if _, err := w.s.cfg.View.Wait(ctx, rev); err != nil {
				return err
			}
			break
		}
	}
	return nil
}
