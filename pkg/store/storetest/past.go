package storetest

import (
	"testing"
	"time"

	"github.com/atoll-mesh/atoll/pkg/store"
)

func testFloor(t *testing.T, st store.Store) {
	ctx := t.Context()
	want := func(want store.Revision) {
		t.Helper()
		if got, err := store.Floor(ctx, st, 20); err != nil || got != want {
			t.Errorf("floor %d, %v; want %d", got, err, want)
		}
	}
	fill(t, st, 1, 20)
	want(0)
	for _, upTo := range []store.Revision{1, 2, 13, 19, 20} {
		if err := st.Compact(ctx, upTo); err != nil {
			t.Fatal(err)
		}
		want(upTo)
	}
	_, err := store.Floor(ctx, st, 19)
	wantErr(t, err, store.ErrCompacted)
	_, err = store.TimeOf(ctx, st, 20)
	wantErr(t, err, store.ErrCompacted)

	fill(t, st, 21, 25)
	at, err := store.TimeOf(ctx, st, 23)
	if err != nil || time.Since(at) > time.Minute {
		t.Errorf("revision 23 is of %v, %v", at, err)
	}
	for _, c := range []struct {
		t    time.Time
		want store.Revision
	}{{at.Add(-time.Hour), 20}, {at.Add(time.Hour), 25}} {
		if got, err := store.LastBefore(ctx, st, 20, 25, c.t); err != nil || got != c.want {
			t.Errorf("last before %v: %d, %v; want %d", c.t, got, err, c.want)
		}
	}
	if got, err := store.LastBefore(ctx, st, 20, 25, at); err != nil || got < 23 {
		t.Errorf("last at the time of 23: %d, %v", got, err)
	}
}
