// Package memory is a store that lives as long as its process: for tests, and
// for trying things. Records that it returns are shared with the store and must
// not be modified.
package memory

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/tidwall/btree"

	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/store"
	"github.com/atoll-mesh/atoll/pkg/store/doorbell"
	"github.com/atoll-mesh/atoll/pkg/store/group"
	"github.com/atoll-mesh/atoll/pkg/store/lease"
)

// Store keeps everything in memory.
type Store struct {
	writer *group.Writer
	bells  doorbell.Set
	leases *lease.Table

	mu        sync.RWMutex // taken after the lease table's
	records   *btree.BTreeG[*store.Record]
	log       []store.Commit // log[i] is revision compacted+1+i
	compacted store.Revision
	closed    bool
}

var _ store.Store = (*Store)(nil)

// Open returns an empty store.
func Open() *Store {
	s := &Store{
		leases: lease.NewTable(),
		records: btree.NewBTreeGOptions(func(a, b *store.Record) bool { return a.ID.Compare(b.ID) < 0 },
			btree.Options{NoLocks: true}),
	}
	s.writer = group.New(s.commit)
	return s
}

// Write has the meaning that store.Store gives it.
func (s *Store) Write(ctx context.Context, ops ...store.Op) (store.Revision, error) {
	return s.writer.Write(ctx, ops)
}

func (s *Store) commit(calls []*group.Call) (store.Revision, error) {
	holds, thaw := s.leases.Freeze()
	defer thaw()
	s.mu.Lock()
	defer s.mu.Unlock()
	stored := map[resource.ID]group.Stored{}
	for _, c := range calls {
		for i := range c.Ops {
			if r, ok := s.records.Get(&store.Record{ID: c.Ops[i].ID}); ok {
				stored[r.ID] = group.Stored{Version: r.Version, Created: r.Created}
			}
		}
	}
	next, now := s.head()+1, time.Now()
	changes := group.Decide(calls, stored, holds, next, now)
	if len(changes) == 0 {
		return s.head(), nil
	}
	for _, c := range changes {
		if c.Record != nil {
			s.records.Set(c.Record)
		} else {
			s.records.Delete(&store.Record{ID: c.ID})
		}
	}
	s.log = append(s.log, store.Commit{Revision: next, Time: group.Timestamp(now), Changes: changes})
	s.bells.Ring()
	return next, nil
}

// head is called with mu held.
func (s *Store) head() store.Revision { return s.compacted + store.Revision(len(s.log)) }

// Read has the meaning that store.Store gives it; its own limit is 1,000.
func (s *Store) Read(ctx context.Context, after store.Revision, limit int) (store.Batch, error) {
	if err := ctx.Err(); err != nil {
		return store.Batch{}, fmt.Errorf("read after revision %d: %w", after, err)
	}
	if limit <= 0 {
		limit = 1000
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return store.Batch{}, fmt.Errorf("read after revision %d: %w", after, store.ErrClosed)
	}
	if err := store.Resumable(after, s.compacted, s.head()); err != nil {
		return store.Batch{}, err
	}
	from := int(after - s.compacted)
	to := min(from+limit, len(s.log))
	return store.Batch{Commits: s.log[from:to:to], Head: s.head()}, nil
}

// Snapshot has the meaning that store.Store gives it, in the order of IDs. It
// never yields an error.
func (s *Store) Snapshot(ctx context.Context) (iter.Seq2[store.Record, error], store.Revision, error) {
	if err := ctx.Err(); err != nil {
		return nil, 0, fmt.Errorf("snapshot: %w", err)
	}
	s.mu.Lock() // Copy marks the original too
	defer s.mu.Unlock()
	if s.closed {
		return nil, 0, fmt.Errorf("snapshot: %w", store.ErrClosed)
	}
	records := s.records.Copy()
	return func(yield func(store.Record, error) bool) {
		records.Scan(func(r *store.Record) bool { return yield(*r, nil) })
	}, s.head(), nil
}

// Doorbell has the meaning that store.Store gives it.
func (s *Store) Doorbell(ctx context.Context) <-chan struct{} { return s.bells.Add(ctx) }

// Compact has the meaning that store.Store gives it.
func (s *Store) Compact(_ context.Context, upTo store.Revision) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return fmt.Errorf("compact: %w", store.ErrClosed)
	}
	if upTo = min(upTo, s.head()); upTo > s.compacted {
		s.log = slices.Clone(s.log[upTo-s.compacted:]) // frees the forgotten ones
		s.compacted = upTo
	}
	return nil
}

// Lease has the meaning that store.Store gives it. Holders are in this process,
// so a lease has no time to live: it ends by Release or Close.
func (s *Store) Lease(ctx context.Context, name, holder string, _ time.Duration) (store.Lease, error) {
	return s.leases.Acquire(ctx, name, holder)
}

// Close has the meaning that store.Store gives it.
func (s *Store) Close() error {
	s.writer.Close()
	s.leases.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return nil
}
