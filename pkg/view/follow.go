package view

import (
	"context"
	"errors"
	"time"

	"github.com/atoll-mesh/atoll/pkg/store"
	"github.com/atoll-mesh/atoll/pkg/topology"
)

const (
	// safetyReread bounds how long a lost ring of the doorbell goes unnoticed.
	safetyReread = 30 * time.Second
	// retryMin and retryMax bound the pauses while the store cannot be read.
	retryMin = 50 * time.Millisecond
	retryMax = 2 * time.Second
	readSize = 512
)

// Follow keeps v in step with a store until ctx ends. It returns early only when
// the store is closed. While the store is away v stays at its last snapshot.
func Follow(ctx context.Context, st store.Store, v *View) error {
	doorbell := st.Doorbell(ctx)
	pause := retryMin
	loaded := false
	for {
		var err error
		if !loaded {
			err = load(ctx, st, v)
			loaded = err == nil
		}
		if loaded {
			v.loadOnce.Do(func() { close(v.loaded) })
		}
		if loaded {
			err = catchUp(ctx, st, v)
		}
		wait := safetyReread
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, store.ErrClosed):
			return err
		case err != nil:
			v.log.Warn("the store cannot be read; serving the last known state", "error", err, "retryIn", pause)
			wait, pause = pause, min(2*pause, retryMax)
		default:
			pause = retryMin
		}
		t := time.NewTimer(wait) // a retry, or the safety re-read
		select {
		case <-doorbell:
		case <-t.C:
		case <-ctx.Done():
		}
		t.Stop()
	}
}

// catchUp reads until nothing is new.
func catchUp(ctx context.Context, st store.Store, v *View) error {
	for {
		rev := v.Snapshot().rev
		b, err := st.Read(ctx, rev, readSize)
		switch {
		case errors.Is(err, store.ErrCompacted):
			err = load(ctx, st, v)
		case err == nil && b.Head < rev:
			v.log.Error("the store went back in time; was an old copy restored? Reading it anew", "was", rev, "is", b.Head)
			err = load(ctx, st, v)
		case err == nil && len(b.Commits) == 0:
			return nil
		case err == nil:
			v.Commit(b.Commits)
		}
		if err != nil {
			return err
		}
	}
}

// load replaces everything by the store's present state.
func load(ctx context.Context, st store.Store, v *View) error {
	rows, rev, err := st.Snapshot(ctx)
	if err != nil {
		return err
	}
	next := New(v.kinds, v.site, v.log).Snapshot().fork()
	next.rev = rev
	for r, err := range rows {
		if err != nil {
			return err
		}
		next.apply(store.Change{ID: r.ID, Record: &r}, v.log)
	}
	next.topo = topology.FromScratch(v.site, next)
	v.reset(next)
	return nil
}
