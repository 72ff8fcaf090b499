package store

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"time"
)

// Floor is the newest revision that the log no longer holds, 0 when it holds
// all. Head is a revision not older than the floor, such as the newest one known.
// It costs a few reads of one commit each.
func Floor(ctx context.Context, st Store, head Revision) (Revision, error) {
	readable := func(after Revision) (bool, error) {
		_, err := st.Read(ctx, after, 1)
		if errors.Is(err, ErrCompacted) {
			return false, nil
		}
		return err == nil, err
	}
	if ok, err := readable(0); ok || err != nil {
		return 0, err
	}
	if ok, err := readable(head); !ok {
		if err == nil {
			err = fmt.Errorf("revision %d: %w", head, ErrCompacted)
		}
		return 0, err
	}
	low, high := Revision(0), head // of which low is forgotten and high is not
	for low+1 < high {
		mid := low + (high-low)/2
		ok, err := readable(mid)
		switch {
		case err != nil:
			return 0, err
		case ok:
			high = mid
		default:
			low = mid
		}
	}
	return high, nil
}

// TimeOf is when a revision was committed.
func TimeOf(ctx context.Context, st Store, rev Revision) (time.Time, error) {
	if rev == 0 {
		return time.Time{}, fmt.Errorf("revision 0 has no commit: %w", ErrCompacted)
	}
	b, err := st.Read(ctx, rev-1, 1)
	if err != nil {
		return time.Time{}, err
	}
	if len(b.Commits) == 0 {
		return time.Time{}, fmt.Errorf("revision %d does not exist, the newest is %d: %w", rev, b.Head, ErrCompacted)
	}
	return b.Commits[0].Time, nil
}

// LastBefore is the newest of the revisions floor < rev ≤ head that was committed
// no later than t, or floor when there is none. It takes for granted that clocks
// go forward.
func LastBefore(ctx context.Context, st Store, floor, head Revision, t time.Time) (Revision, error) {
	var failed error
	n := sort.Search(int(head-floor), func(i int) bool {
		if failed != nil {
			return true
		}
		at, err := TimeOf(ctx, st, floor+1+Revision(i))
		failed = err
		return err == nil && at.After(t)
	})
	return floor + Revision(n), failed
}
