package postgres

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/atoll-mesh/atoll/pkg/store"
	"github.com/atoll-mesh/atoll/pkg/store/lease"
)

// Lease has the meaning that store.Store gives it. Whether a lease has run out
// is decided by the database's clock; its holder counts by its own steady clock
// from before it asked, and so stops first.
func (s *Store) Lease(ctx context.Context, name, holder string, ttl time.Duration) (store.Lease, error) {
	what := fmt.Sprintf("lease %q", name)
	if holder == "" || ttl < time.Millisecond {
		return nil, fmt.Errorf("%s: holder %q and time to live %s: both must be set", what, holder, ttl)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	freed := s.leases.Add(ctx)
	backoff := firstBackoff
	for {
		asked := time.Now()
		token, wait, err := s.acquire(ctx, what, name, holder, ttl)
		switch {
		case err == nil && token > 0:
			return s.hold(lease.Fence{Name: name, Holder: holder, Token: token}, asked, ttl), nil
		case err == nil:
			backoff = firstBackoff
		case errors.Is(err, store.ErrUnavailable):
			wait, backoff = jitter(backoff), next(backoff)
		default:
			return nil, err
		}
		// A holder that dies rings no bell: look when its time is up.
		select {
		case <-time.After(wait):
		case <-freed:
		case <-ctx.Done():
			return nil, fmt.Errorf("%s: %w", what, context.Cause(ctx))
		case <-s.alive.Done():
			return nil, fmt.Errorf("%s: %w", what, store.ErrClosed)
		}
	}
}

// acquire returns the token, or 0 and how long the present holder has left.
func (s *Store) acquire(ctx context.Context, what, name, holder string, ttl time.Duration) (token int64, wait time.Duration, err error) {
	err = s.do(ctx, what, func(ctx context.Context) error {
		err := s.pool.QueryRow(ctx, `INSERT INTO atoll_lease AS l (name, holder, token, expires) VALUES ($1, $2, 1, clock_timestamp() + $3)
			ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, token = l.token + 1, expires = excluded.expires
				WHERE l.holder = '' OR l.expires <= clock_timestamp()
			RETURNING token`, name, holder, ttl).Scan(&token)
		if !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		var left float64
		err = s.pool.QueryRow(ctx, `SELECT extract(epoch FROM expires - clock_timestamp())::float8 FROM atoll_lease WHERE name = $1`, name).Scan(&left)
		wait = max(0, time.Duration(left*float64(time.Second))) + 10*time.Millisecond
		return err
	})
	return token, wait, err
}

type held struct {
	store *Store
	fence lease.Fence
	ttl   time.Duration
	stop  context.CancelFunc
	lost  chan struct{}
	once  sync.Once
	err   error
}

func (s *Store) hold(f lease.Fence, asked time.Time, ttl time.Duration) *held {
	ctx, stop := context.WithCancel(s.alive)
	l := &held{store: s, fence: f, ttl: ttl, stop: stop, lost: make(chan struct{})}
	s.tasks.Go(func() {
		defer close(l.lost)
		l.renew(ctx, asked.Add(ttl))
		if s.alive.Err() != nil { // closing: leave it to others at once
			l.giveUp(context.Background())
		}
	})
	return l
}

// renew returns when the lease is lost, released, or its time is up.
func (l *held) renew(ctx context.Context, until time.Time) {
	wait := l.ttl / 3
	for {
		select {
		case <-time.After(min(wait, time.Until(until))):
		case <-ctx.Done():
			return
		}
		asked := time.Now()
		if !asked.Before(until) {
			return
		}
		still, err := l.extend(ctx, until)
		switch {
		case err != nil:
			wait = min(l.ttl/10, lastBackoff) // soon again: the time runs
		case !still:
			return
		default:
			until, wait = asked.Add(l.ttl), l.ttl/3
		}
	}
}

func (l *held) extend(ctx context.Context, until time.Time) (still bool, err error) {
	ctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	err = l.store.do(ctx, fmt.Sprintf("renew lease %q", l.fence.Name), func(ctx context.Context) error {
		tag, err := l.store.pool.Exec(ctx, `UPDATE atoll_lease SET expires = clock_timestamp() + $4
			WHERE name = $1 AND holder = $2 AND token = $3`, l.fence.Name, l.fence.Holder, l.fence.Token, l.ttl)
		still = tag.RowsAffected() == 1
		return err
	})
	return still, err
}

func (l *held) Lost() <-chan struct{} { return l.lost }

func (l *held) Fence(ctx context.Context) context.Context { return lease.WithFence(ctx, l.fence) }

func (l *held) Release(ctx context.Context) error {
	l.stop()
	<-l.lost
	return l.giveUp(ctx)
}

// giveUp frees the row, unless somebody else has it by now.
func (l *held) giveUp(ctx context.Context) error {
	l.once.Do(func() {
		ctx, cancel := context.WithTimeout(ctx, l.store.cfg.ConnectionTimeout)
		defer cancel()
		b := &pgx.Batch{}
		b.Queue(`UPDATE atoll_lease SET holder = '' WHERE name = $1 AND holder = $2 AND token = $3`,
			l.fence.Name, l.fence.Holder, l.fence.Token)
		b.Queue(`NOTIFY ` + leaseChannel)
		if err := l.store.pool.SendBatch(ctx, b).Close(); err != nil {
			l.err = fmt.Errorf("release lease %q: %w; it runs out by itself in %s", l.fence.Name, err, l.ttl)
		}
	})
	return l.err
}
