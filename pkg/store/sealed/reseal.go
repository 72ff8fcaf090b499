package sealed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/atoll-mesh/atoll/pkg/store"
)

// scrubber is a store that can wipe what it deleted from its files.
type scrubber interface {
	Scrub(ctx context.Context) error
}

// reloadInterval is how often the file of keys is looked at. It is a timer because
// a mounted file that is replaced tells nobody.
const reloadInterval = 10 * time.Second

// retryInterval is the pause after a pass that failed.
const retryInterval = 5 * time.Second

// Reseal keeps everything sealed with the active key: records that are in clear
// or under another key are written again, at the start and whenever the keys
// change. Log entries in clear, and those whose key is gone, are forgotten. It
// runs until ctx ends, in the leader: ctx carries the fence. The author stands in
// the history of what it writes.
func (s *Store) Reseal(ctx context.Context, author string, log *slog.Logger) error {
	wait := time.Duration(0)
	for {
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		}
		changed, err := s.ring.Reload()
		if err != nil {
			log.Error("the encryption keys cannot be read again; those known stay in use", "error", err)
		}
		if wait == reloadInterval && !changed {
			continue
		}
		if changed {
			log.Info("encryption keys were read", "active", s.ring.Keys().Active())
		}
		wait = reloadInterval
		err = s.reseal(ctx, author, log)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, store.ErrNotLeader), errors.Is(err, store.ErrClosed):
			return err
		case err != nil:
			log.Warn("not all secrets are sealed with the active key yet", "error", err, "retryIn", retryInterval)
			wait = retryInterval
		}
	}
}

// reseal does the work once.
func (s *Store) reseal(ctx context.Context, author string, log *slog.Logger) error {
	keys := s.ring.Keys()
	if keys.Active() == "" {
		return nil
	}
	stale, head, err := s.stale(ctx, keys)
	if err != nil {
		return err
	}
	wasClear := false
	for _, r := range stale {
		if _, ok := isSealed(r.Spec); !ok {
			wasClear = true
		}
		clear, err := s.opened(r)
		if err != nil {
			return err
		}
		op := store.Op{Record: clear, Expect: int64(r.Version), Author: author}
		rev, err := s.Write(ctx, op)
		if err != nil && !errors.Is(err, store.ErrConflict) { // somebody wrote it, and so sealed it
			return err
		}
		head = max(head, rev)
	}
	if len(stale) > 0 {
		log.Info("secrets were sealed with the active key", "key", keys.Active(), "secrets", len(stale))
	}
	upTo, clearLog, err := s.unwanted(ctx, keys, head)
	if err != nil {
		return err
	}
	if upTo > 0 {
		if err := s.Compact(ctx, upTo); err != nil {
			return err
		}
		log.Warn("history was forgotten because it held secrets in clear or under keys that are gone", "upTo", upTo)
	}
	if sc, ok := s.Store.(scrubber); ok && (wasClear || clearLog) {
		if err := sc.Scrub(ctx); err != nil {
			return fmt.Errorf("wipe what was deleted: %w", err)
		}
	}
	return nil
}

// stale are the records, as stored, that are not sealed with the active key.
func (s *Store) stale(ctx context.Context, keys *Keys) ([]store.Record, store.Revision, error) {
	rows, head, err := s.Store.Snapshot(ctx)
	if err != nil {
		return nil, 0, err
	}
	var out []store.Record
	for r, err := range rows {
		if err != nil {
			return nil, 0, err
		}
		if s.types[r.Type] && !sealedWith(&r, func(id string) bool { return id == keys.Active() }) {
			out = append(out, r)
		}
	}
	return out, head, nil
}

// unwanted is the newest revision whose log entries are in clear or cannot be
// opened, 0 when there is none.
func (s *Store) unwanted(ctx context.Context, keys *Keys, head store.Revision) (upTo store.Revision, clear bool, err error) {
	after, err := store.Floor(ctx, s.Store, head)
	if err != nil {
		return 0, false, err
	}
	for after < head {
		b, err := s.Store.Read(ctx, after, 0)
		if err != nil {
			return 0, false, err
		}
		if len(b.Commits) == 0 {
			break
		}
		for _, c := range b.Commits {
			for _, ch := range c.Changes {
				if ch.Record == nil || !s.types[ch.Type] {
					continue
				}
				if !sealedWith(ch.Record, func(id string) bool { return keys.get(id) != nil }) {
					upTo = c.Revision
					if _, ok := isSealed(ch.Record.Spec); !ok {
						clear = true
					}
				}
			}
		}
		after = b.Commits[len(b.Commits)-1].Revision
	}
	return upTo, clear, nil
}

func sealedWith(r *store.Record, good func(key string) bool) bool {
	id, ok := isSealed(r.Spec)
	if !ok || !good(id) {
		return false
	}
	if len(r.Status) == 0 {
		return true
	}
	id, ok = isSealed(r.Status)
	return ok && good(id)
}

var _ store.Store = (*Store)(nil)
