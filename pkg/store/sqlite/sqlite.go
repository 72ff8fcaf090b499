// Package sqlite is the store of a control plane that is alone with its data: one
// file, which survives kill -9 and loss of power.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"sync"
	"time"

	driver "modernc.org/sqlite"

	"github.com/atoll-mesh/atoll/pkg/store"
	"github.com/atoll-mesh/atoll/pkg/store/doorbell"
	"github.com/atoll-mesh/atoll/pkg/store/group"
	"github.com/atoll-mesh/atoll/pkg/store/lease"
)

// Options may be zero.
type Options struct {
	// LockTimeout is how long Open waits for another process that has the file
	// open, for example this program's previous run, to end. 0: 5 s.
	LockTimeout time.Duration
}

// Store is one database file.
type Store struct {
	path   string
	lock   *os.File
	reads  *sql.DB
	writes *sql.DB
	bells  doorbell.Set
	leases *lease.Table
	group  *group.Writer

	mu  sync.Mutex // held through each transaction that writes
	out *writer    // guarded by mu

	alive context.Context // ends with Close
	die   context.CancelFunc
}

var _ store.Store = (*Store)(nil)

// Open opens the file, creates it if there is none, and brings its schema up to
// date. Only one process at a time can have it open.
func Open(ctx context.Context, path string, opts Options) (*Store, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("open store %q: %w", path, err)
	}
	s := &Store{path: path, leases: lease.NewTable()}
	s.alive, s.die = context.WithCancel(context.Background())
	s.group = group.New(s.commit)
	if err := s.open(ctx, opts); err != nil {
		return nil, errors.Join(fmt.Errorf("open store %s: %w", path, err), s.Close())
	}
	return s, nil
}

func (s *Store) open(ctx context.Context, opts Options) error {
	var err error
	if s.lock, err = lock(ctx, s.path+".lock", opts.LockTimeout); err != nil {
		return err
	}
	if err := create(s.path); err != nil {
		return err
	}
	// FULL syncs the write-ahead log in every commit: what was acknowledged
	// survives a crash of the machine too. NORMAL would survive kill -9 only, and
	// as writes are grouped there is little to gain from it.
	if s.writes, err = connect(s.path, "_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=journal_size_limit(67108864)"); err != nil {
		return err
	}
	s.writes.SetMaxOpenConns(1)
	if err := migrate(ctx, s.writes); err != nil {
		return err
	}
	if s.out, err = newWriter(ctx, s.writes); err != nil {
		return err
	}
	s.reads, err = connect(s.path, "_pragma=query_only(1)")
	return err
}

func connect(path, pragmas string) (*sql.DB, error) {
	c, err := driver.NewConnector(dsn(path) + "?_pragma=busy_timeout(5000)&" + pragmas)
	if err != nil {
		return nil, err
	}
	db := sql.OpenDB(c)
	db.SetMaxIdleConns(4)
	return db, nil
}

// Write has the meaning that store.Store gives it.
func (s *Store) Write(ctx context.Context, ops ...store.Op) (store.Revision, error) {
	return s.group.Write(ctx, ops)
}

func (s *Store) commit(calls []*group.Call) (store.Revision, error) {
	holds, thaw := s.leases.Freeze()
	defer thaw()
	s.mu.Lock()
	defer s.mu.Unlock()
	rev, changed, err := s.out.commit(calls, holds)
	if err != nil {
		return 0, s.wrap(context.Background(), fmt.Errorf("write: %w", err))
	}
	if changed {
		s.bells.Ring()
	}
	return rev, nil
}

// Read has the meaning that store.Store gives it.
func (s *Store) Read(ctx context.Context, after store.Revision, limit int) (store.Batch, error) {
	b, err := readLog(ctx, s.reads, after, limit)
	if err != nil {
		return store.Batch{}, s.wrap(ctx, err)
	}
	return b, nil
}

// Snapshot has the meaning that store.Store gives it, in the order of IDs. While
// a sequence is unfinished the write-ahead log cannot be folded into the file.
func (s *Store) Snapshot(ctx context.Context) (iter.Seq2[store.Record, error], store.Revision, error) {
	life, cancel := context.WithCancel(ctx)
	forget := context.AfterFunc(s.alive, cancel)
	end := func() { forget(); cancel() }
	records, rev, err := snapshot(life, end, s.reads)
	if err != nil {
		end()
		return nil, 0, s.wrap(ctx, fmt.Errorf("snapshot: %w", err))
	}
	return func(yield func(store.Record, error) bool) {
		for r, err := range records {
			if err != nil {
				err = s.wrap(ctx, fmt.Errorf("snapshot: %w", err))
			}
			if !yield(r, err) {
				return
			}
		}
	}, rev, nil
}

// Doorbell has the meaning that store.Store gives it.
func (s *Store) Doorbell(ctx context.Context) <-chan struct{} { return s.bells.Add(ctx) }

// Compact has the meaning that store.Store gives it.
func (s *Store) Compact(ctx context.Context, upTo store.Revision) error {
	for {
		s.mu.Lock()
		more, err := s.out.compact(ctx, upTo)
		s.mu.Unlock() // between two portions writes get their turn
		if err != nil {
			return s.wrap(ctx, fmt.Errorf("compact up to revision %d: %w", upTo, err))
		}
		if !more {
			return nil
		}
	}
}

// Lease has the meaning that store.Store gives it. The file belongs to this
// process, so a lease has no time to live: it ends by Release or Close.
func (s *Store) Lease(ctx context.Context, name, holder string, _ time.Duration) (store.Lease, error) {
	return s.leases.Acquire(ctx, name, holder)
}

// Close has the meaning that store.Store gives it.
func (s *Store) Close() error {
	s.group.Close()
	s.leases.Close()
	s.die()
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	if s.out != nil {
		errs = append(errs, s.out.close())
	}
	for _, db := range []*sql.DB{s.reads, s.writes} { // the last one folds the log into the file
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
		s.lock = nil
	}
	return errors.Join(errs...)
}

// wrap sorts errors into those of the contract.
func (s *Store) wrap(ctx context.Context, err error) error {
	switch {
	case err == nil || errors.Is(err, store.ErrCompacted):
		return err
	case s.alive.Err() != nil:
		return fmt.Errorf("store %s: %w: %w", s.path, store.ErrClosed, err)
	case ctx.Err() != nil:
		return fmt.Errorf("store %s: %w: %w", s.path, context.Cause(ctx), err)
	case errors.Is(err, errCommit) || unavailable(err):
		return fmt.Errorf("store %s: %w: %w", s.path, store.ErrUnavailable, err)
	}
	return fmt.Errorf("store %s: %w", s.path, err)
}
