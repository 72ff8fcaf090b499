package lease

import (
	"context"
	"fmt"
	"sync"

	"github.com/atoll-mesh/atoll/pkg/store"
)

// Table keeps the leases of a store that belongs to one process. Its leases end
// only by Release or Close: a holder cannot die without the table.
type Table struct {
	mu     sync.RWMutex
	held   map[string]Fence
	last   int64         // newest token
	freed  chan struct{} // closed, and replaced, when a lease is given up
	leases map[*local]struct{}
	closed bool
}

// NewTable returns a table without leases.
func NewTable() *Table {
	return &Table{held: map[string]Fence{}, freed: make(chan struct{}), leases: map[*local]struct{}{}}
}

// Acquire returns when the lease is held or ctx ends.
func (t *Table) Acquire(ctx context.Context, name, holder string) (store.Lease, error) {
	if holder == "" {
		return nil, fmt.Errorf("lease %q: a holder must have a name", name)
	}
	for {
		l, freed, err := t.try(name, holder)
		if l != nil || err != nil {
			return l, err
		}
		select {
		case <-freed:
		case <-ctx.Done():
			return nil, fmt.Errorf("lease %q: %w", name, context.Cause(ctx))
		}
	}
}

func (t *Table) try(name, holder string) (store.Lease, <-chan struct{}, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil, nil, fmt.Errorf("lease %q: %w", name, store.ErrClosed)
	}
	if _, taken := t.held[name]; taken {
		return nil, t.freed, nil
	}
	t.last++
	l := &local{table: t, fence: Fence{Name: name, Holder: holder, Token: t.last}, lost: make(chan struct{})}
	t.held[name] = l.fence
	t.leases[l] = struct{}{}
	return l, nil, nil
}

// Freeze keeps every lease where it is until thaw is called, and tells meanwhile
// whether the holding that a fence names still lasts. A store calls it around
// the commit of guarded writes.
func (t *Table) Freeze() (holds func(Fence) bool, thaw func()) {
	t.mu.RLock()
	return func(f Fence) bool { return t.held[f.Name] == f }, t.mu.RUnlock
}

// Close ends all leases.
func (t *Table) Close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	for l := range t.leases {
		t.end(l)
	}
	t.wake()
}

// end and wake are called with mu held.
func (t *Table) end(l *local) {
	if _, ok := t.leases[l]; !ok {
		return
	}
	delete(t.leases, l)
	delete(t.held, l.fence.Name)
	close(l.lost)
}

func (t *Table) wake() {
	close(t.freed)
	t.freed = make(chan struct{})
}

type local struct {
	table *Table
	fence Fence
	lost  chan struct{}
}

func (l *local) Lost() <-chan struct{} { return l.lost }

func (l *local) Fence(ctx context.Context) context.Context { return WithFence(ctx, l.fence) }

func (l *local) Release(context.Context) error {
	l.table.mu.Lock()
	defer l.table.mu.Unlock()
	l.table.end(l)
	l.table.wake()
	return nil
}
