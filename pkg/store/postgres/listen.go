package postgres

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
)

// Channels of NOTIFY. What arrives on them carries nothing.
const (
	logChannel   = "atoll_log"
	leaseChannel = "atoll_lease"
)

// Waits between attempts to connect grow between these bounds. The upper one is
// the longest that a replica takes to notice that the database is back.
const (
	firstBackoff = 50 * time.Millisecond
	lastBackoff  = 2 * time.Second
)

func next(wait time.Duration) time.Duration { return min(2*wait, lastBackoff) }

// jitter keeps replicas from knocking all at once.
func jitter(wait time.Duration) time.Duration { return wait/2 + rand.N(wait/2) }

// listen keeps one connection that hears of commits and of leases given up.
func (s *Store) listen() {
	wait, lost := firstBackoff, false
	for {
		err := s.listenOnce(func() {
			if lost {
				s.cfg.Log.Info("hearing the database's notifications again", "database", s.cfg.where())
			}
			wait, lost = firstBackoff, false
		})
		if s.alive.Err() != nil {
			return
		}
		if !lost {
			lost = true
			s.cfg.Log.Warn("lost the database's notifications, reconnecting", "database", s.cfg.where(), "error", err)
		}
		select {
		case <-time.After(jitter(wait)):
		case <-s.alive.Done():
			return
		}
		wait = next(wait)
	}
}

func (s *Store) listenOnce(connected func()) error {
	conn, err := pgx.ConnectConfig(s.alive, s.pool.Config().ConnConfig)
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		conn.Close(ctx)
	}()
	ctx, cancel := context.WithTimeout(s.alive, s.patience())
	defer cancel()
	for _, channel := range []string{logChannel, leaseChannel} {
		if _, err := conn.Exec(ctx, "LISTEN "+channel); err != nil {
			return err
		}
	}
	connected()
	s.bells.Ring() // for what was rung while nobody listened
	s.leases.Ring()
	for {
		n, err := conn.WaitForNotification(s.alive)
		if err != nil {
			return err
		}
		switch n.Channel {
		case logChannel:
			// What this replica wrote it has rung for already.
			if _, own := s.pids.Load(n.PID); !own {
				s.bells.Ring()
			}
		case leaseChannel:
			s.leases.Ring()
		}
	}
}
