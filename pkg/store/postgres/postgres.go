// Package postgres is the store of control planes that have several replicas, or
// a database that is looked after elsewhere. Revisions are numbered by one row,
// whose lock a write takes first and holds to its commit, so that the order of
// commits is the order of revisions, without gaps, for all replicas.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/atoll-mesh/atoll/pkg/store"
	"github.com/atoll-mesh/atoll/pkg/store/doorbell"
	"github.com/atoll-mesh/atoll/pkg/store/group"
)

// Store is a database, seen from one replica. When the database goes away its
// operations fail with store.ErrUnavailable; when it is back they work again.
type Store struct {
	cfg   Config
	pool  *pgxpool.Pool
	group *group.Writer

	bells  doorbell.Set // of the log
	leases doorbell.Set // rung when a lease was given up
	pids   sync.Map     // server processes of the pool's connections: uint32 → nil

	alive context.Context // ends with Close
	die   context.CancelFunc
	tasks sync.WaitGroup // listener and renewals
}

var _ store.Store = (*Store)(nil)

// Open connects and migrates the schema, or checks it when that is required. It
// waits for a database that cannot be reached until ctx ends; what waiting cannot
// cure, such as a wrong password, it returns at once.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	cfg = cfg.withDefaults()
	pc, err := cfg.pool()
	if err != nil {
		return nil, err
	}
	s := &Store{cfg: cfg}
	pc.AfterConnect = func(_ context.Context, c *pgx.Conn) error {
		s.pids.Store(c.PgConn().PID(), nil)
		return nil
	}
	pc.BeforeClose = func(c *pgx.Conn) { s.pids.Delete(c.PgConn().PID()) }
	if s.pool, err = pgxpool.NewWithConfig(ctx, pc); err != nil {
		return nil, fmt.Errorf("%s: %w", cfg.where(), err)
	}
	if err := prepare(ctx, cfg, s.pool); err != nil {
		s.pool.Close()
		return nil, err
	}
	s.alive, s.die = context.WithCancel(context.Background())
	s.group = group.New(s.commit)
	s.tasks.Go(s.listen)
	return s, nil
}

// Write has the meaning that store.Store gives it.
func (s *Store) Write(ctx context.Context, ops ...store.Op) (store.Revision, error) {
	return s.group.Write(ctx, ops)
}

// Doorbell has the meaning that store.Store gives it.
func (s *Store) Doorbell(ctx context.Context) <-chan struct{} { return s.bells.Add(ctx) }

// Compact has the meaning that store.Store gives it.
func (s *Store) Compact(ctx context.Context, upTo store.Revision) error {
	what := fmt.Sprintf("compact up to revision %d", upTo)
	// First readers are told, then rows go, in portions that nobody waits for.
	var compacted int64
	err := s.do(ctx, what, func(ctx context.Context) error {
		return s.pool.QueryRow(ctx, `UPDATE atoll_log_head SET compacted = greatest(compacted, least(rev, $1)) RETURNING compacted`,
			int64(min(upTo, 1<<62))).Scan(&compacted)
	})
	for deleted := int64(1); err == nil && deleted > 0; {
		err = s.do(ctx, what, func(ctx context.Context) error {
			tag, err := s.pool.Exec(ctx, `DELETE FROM atoll_log
				WHERE rev <= $1 AND rev < (SELECT min(rev) FROM atoll_log) + 1000`, compacted)
			deleted = tag.RowsAffected()
			return err
		})
	}
	return err
}

// Close has the meaning that store.Store gives it. It ends snapshots under way.
func (s *Store) Close() error {
	s.group.Close()
	s.die()
	s.tasks.Wait()
	s.pool.Close()
	return nil
}

// patience is how long one operation may take.
func (s *Store) patience() time.Duration { return 2 * s.cfg.ConnectionTimeout }

// do runs something that may be repeated. A connection that the pool has kept may
// be from before a restart of the server, so a broken one gets a second try on a
// fresh one.
func (s *Store) do(ctx context.Context, what string, try func(context.Context) error) error {
	callers := ctx
	ctx, cancel := context.WithTimeout(ctx, s.patience())
	defer cancel()
	defer context.AfterFunc(s.alive, cancel)()
	err := s.alive.Err()
	if err == nil {
		err = try(ctx)
	}
	if broken(err) && ctx.Err() == nil {
		s.pool.Reset()
		err = try(ctx)
	}
	return s.wrap(callers, what, err)
}

// wrap sorts errors into those of the contract.
func (s *Store) wrap(ctx context.Context, what string, err error) error {
	switch {
	case err == nil || errors.Is(err, store.ErrCompacted):
		return err
	case s.alive.Err() != nil:
		return fmt.Errorf("%s: %w", what, store.ErrClosed)
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w", what, context.Cause(ctx))
	case broken(err) || passing(err):
		return fmt.Errorf("%s: %s: %w: %w", what, s.cfg.where(), store.ErrUnavailable, err)
	}
	return fmt.Errorf("%s: %s: %w", what, s.cfg.where(), err)
}
