// Package group lets many independent writes share one commit. While a group is
// being committed, the writes that arrive form the next one, so a lone write
// never waits and a thousand cost a few commits.
package group

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/store"
	"github.com/atoll-mesh/atoll/pkg/store/lease"
)

// A group takes calls until it has this many ops or bytes, which bounds the time
// that a commit holds the log. A call alone may be larger.
const (
	maxOps   = 2000
	maxBytes = 16 << 20
)

// Commit decides the calls of one group with Decide, makes the changes durable
// in one transaction and returns the store's newest revision. When it fails
// with store.ErrUnavailable the changes may have been made all the same; after
// any other error nothing was written.
type Commit func(calls []*Call) (store.Revision, error)

// Call is one Write under way. The IDs of all ops of a group differ.
type Call struct {
	Ops    []store.Op
	Fences []lease.Fence

	refused error // set by Decide: this call is left out
	rev     store.Revision
	err     error
	done    chan struct{}
}

// Writer collects calls into groups. At most one Commit runs at a time.
type Writer struct {
	commit Commit

	mu      sync.Mutex
	queue   []*Call
	running bool
	closed  bool
	idle    sync.Cond // on mu; broadcast when running becomes false
}

// New returns a writer. It has no goroutine while nothing is written.
func New(commit Commit) *Writer {
	w := &Writer{commit: commit}
	w.idle.L = &w.mu
	return w
}

// Write has the meaning of store.Store's Write. When ctx ends before the commit
// has begun nothing is written; when it ends during the commit the error is
// store.ErrUnavailable as well as ctx's.
func (w *Writer) Write(ctx context.Context, ops []store.Op) (store.Revision, error) {
	if err := check(ops); err != nil {
		return 0, err
	}
	if ctx.Err() != nil {
		return 0, fmt.Errorf("write: %w", context.Cause(ctx))
	}
	c := &Call{Ops: ops, Fences: lease.Fences(ctx), done: make(chan struct{})}
	if err := w.enqueue(c); err != nil {
		return 0, err
	}
	select {
	case <-c.done:
		return c.rev, c.err
	case <-ctx.Done():
	}
	if w.withdraw(c) {
		return 0, fmt.Errorf("write: %w", context.Cause(ctx))
	}
	select {
	case <-c.done:
		return c.rev, c.err
	default:
		return 0, fmt.Errorf("write: given up during the commit: %w: %w", store.ErrUnavailable, context.Cause(ctx))
	}
}

// Close fails the calls that wait and returns when the commit under way ended.
func (w *Writer) Close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	for _, c := range w.queue {
		c.finish(0, fmt.Errorf("write: %w", store.ErrClosed))
	}
	w.queue = nil
	for w.running {
		w.idle.Wait()
	}
}

func (w *Writer) enqueue(c *Call) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return fmt.Errorf("write: %w", store.ErrClosed)
	}
	w.queue = append(w.queue, c)
	if !w.running {
		w.running = true
		go w.run()
	}
	return nil
}

// withdraw takes a call back that is in no group yet.
func (w *Writer) withdraw(c *Call) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, q := range w.queue {
		if q == c {
			w.queue = append(w.queue[:i:i], w.queue[i+1:]...)
			return true
		}
	}
	return false
}

func (w *Writer) run() {
	for {
		calls := w.next()
		if calls == nil {
			return
		}
		w.apply(calls)
	}
}

// next takes the next group off the queue, or ends the run. A call that touches
// an ID of an earlier call waits for a later group: a commit has at most one
// change per ID, and calls on one ID keep their order. What waits is first in
// the next group, so nothing waits for ever.
func (w *Writer) next() []*Call {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.queue) == 0 {
		w.running = false
		w.idle.Broadcast()
		return nil
	}
	var group, rest []*Call
	touched := make(map[resource.ID]struct{}, len(w.queue))
	ops, bytes := 0, 0
	for _, c := range w.queue {
		wait := len(group) > 0 && (ops+len(c.Ops) > maxOps || bytes > maxBytes)
		for i := range c.Ops {
			if _, ok := touched[c.Ops[i].ID]; ok {
				wait = true
			}
		}
		for i := range c.Ops {
			touched[c.Ops[i].ID] = struct{}{}
		}
		if wait {
			rest = append(rest, c)
			continue
		}
		group = append(group, c)
		ops += len(c.Ops)
		for i := range c.Ops {
			bytes += len(c.Ops[i].Spec) + len(c.Ops[i].Status)
		}
	}
	w.queue = rest
	return group
}

func (w *Writer) apply(calls []*Call) {
	rev, err := w.commit(calls)
	if err != nil && len(calls) > 1 && !errors.Is(err, store.ErrUnavailable) && !errors.Is(err, store.ErrClosed) {
		// One of them is at fault. Alone, the others go through.
		for _, c := range calls {
			c.refused = nil
			w.apply([]*Call{c})
		}
		return
	}
	for _, c := range calls {
		switch {
		case c.refused != nil:
			c.finish(0, c.refused)
		case err != nil:
			c.finish(0, err)
		default:
			c.finish(rev, nil)
		}
	}
}

func (c *Call) finish(rev store.Revision, err error) {
	c.rev, c.err = rev, err
	close(c.done)
}
