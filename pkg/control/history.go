package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/atoll-mesh/atoll/pkg/store"
	"github.com/atoll-mesh/atoll/pkg/view"
)

// History bounds the log of a store: what is beyond Revisions or older than Age
// is forgotten. Zero is no bound.
type History struct {
	View      *view.View
	Store     store.Store
	Log       *slog.Logger
	Revisions uint64
	Age       time.Duration

	due time.Time // when the oldest commit kept is too old; zero: not known
}

// historyMargin is how many of the newest revisions are never forgotten, however
// old they are: readers that lag or were away for a while go on from the log
// instead of reading everything anew.
const historyMargin = 500

// step is how far the log may grow beyond its bound. Forgetting in large steps
// costs little; doing it with each write would double the work of writing.
func step(bound uint64) uint64 { return max(bound/10, 1) }

// Run forgets until ctx ends. The caller holds the leader's lease. It wakes with
// the view, looks at the log only when there is something to forget, and works
// by time only for the age of what nobody adds to.
func (h *History) Run(ctx context.Context) error {
	sub := h.View.Subscribe()
	defer sub.Close()
	floor, known := store.Revision(0), false
	for {
		var deadline time.Time
		err := ctx.Err()
		if !known && err == nil {
			floor, err = store.Floor(ctx, h.Store, h.View.Snapshot().Revision())
			known = err == nil
		}
		if err == nil {
			floor, deadline, err = h.pass(ctx, floor)
		}
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, store.ErrClosed), errors.Is(err, store.ErrNotLeader):
			return err
		case errors.Is(err, store.ErrCompacted): // by hand, or the database was reset
			known, h.due = false, time.Time{}
			deadline = time.Now().Add(retryMax)
		case err != nil:
			h.Log.Warn("old history could not be forgotten; trying again", "error", err, "retryIn", retryMax)
			deadline = time.Now().Add(retryMax)
		}
		if err := sub.Wait(ctx, deadline); err != nil {
			return err
		}
	}
}

// pass forgets what is due and returns the new floor and when something may be
// due by its age.
func (h *History) pass(ctx context.Context, floor store.Revision) (store.Revision, time.Time, error) {
	head := h.View.Snapshot().Revision()
	if head < floor { // the database was put back
		return floor, time.Time{}, fmt.Errorf("history: the newest revision is %d: %w", head, store.ErrCompacted)
	}
	upTo := floor
	if n := h.Revisions; n > 0 && uint64(head-floor) >= n+step(n) {
		upTo = head - store.Revision(n)
	}
	var deadline time.Time
	if h.Age > 0 && head > floor {
		aged, next, err := h.aged(ctx, floor, head)
		if err != nil {
			return floor, time.Time{}, err
		}
		upTo, deadline = max(upTo, aged), next
	}
	if upTo = min(upTo, head-min(head, historyMargin)); upTo <= floor {
		return floor, deadline, nil
	}
	if err := h.Store.Compact(ctx, upTo); err != nil {
		return floor, time.Time{}, err
	}
	h.due = time.Time{}
	h.Log.Info("old history was forgotten", "upTo", upTo, "kept", head-upTo)
	return upTo, deadline, nil
}

// aged returns the newest revision that is too old once the oldest one kept is
// too old by a good part of the age, and when that will be.
func (h *History) aged(ctx context.Context, floor, head store.Revision) (upTo store.Revision, next time.Time, err error) {
	if head <= floor+historyMargin {
		return floor, time.Time{}, nil // all of it is margin; a write wakes us
	}
	if h.due.IsZero() {
		oldest, err := store.TimeOf(ctx, h.Store, floor+1)
		if err != nil {
			return floor, time.Time{}, err
		}
		h.due = oldest.Add(h.Age + h.Age/10)
	}
	now := time.Now()
	if h.due.After(now) {
		return floor, h.due, nil
	}
	upTo, err = store.LastBefore(ctx, h.Store, floor, head, now.Add(-h.Age))
	return upTo, now.Add(h.Age / 10), err
}
