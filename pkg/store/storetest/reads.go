package storetest

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/store"
)

func fill(t testing.TB, st store.Store, from, to int) {
	t.Helper()
	for i := from; i <= to; i++ {
		if rev := mustWrite(t, st, put(fmt.Sprintf("r%d", i), strconv.Itoa(i), store.Absent)); rev != store.Revision(i) {
			t.Fatalf("write %d got revision %d", i, rev)
		}
	}
}

func testResume(t *testing.T, st store.Store) {
	fill(t, st, 1, 10)
	for after := store.Revision(0); after <= 10; after++ {
		for _, limit := range []int{0, 1, 3, 100} {
			b, err := st.Read(t.Context(), after, limit)
			if err == nil {
				err = Consecutive(after, b)
			}
			if err != nil {
				t.Fatal(err)
			}
			want := 10 - int(after)
			if limit > 0 {
				want = min(want, limit)
			}
			if len(b.Commits) != want || b.Head != 10 {
				t.Errorf("after %d, limit %d: %d commits, head %d; want %d, 10", after, limit, len(b.Commits), b.Head, want)
			}
		}
	}
	// A reader that is ahead knew another history.
	_, err := st.Read(t.Context(), 11, 0)
	wantErr(t, err, store.ErrCompacted)
	_, err = st.Read(t.Context(), 1<<63+5, 0)
	wantErr(t, err, store.ErrCompacted)
}

func testLargeCommit(t *testing.T, st store.Store) {
	const size = 5000
	mustWrite(t, st, put("before", "1", store.Absent))
	ops := make([]store.Op, size)
	for i := range ops {
		ops[i] = put(fmt.Sprintf("large%d", i), "1", store.Absent)
	}
	mustWrite(t, st, ops...)
	mustWrite(t, st, put("after", "1", store.Absent))
	commits := readAll(t, st, 0)
	if len(commits) != 3 || len(commits[1].Changes) != size {
		t.Errorf("%d commits, want 3, the second with %d changes", len(commits), size)
	}
	if all, _ := contents(t, st); len(all) != size+2 {
		t.Errorf("%d records, want %d", len(all), size+2)
	}
}

func testCompaction(t *testing.T, st store.Store) {
	ctx := t.Context()
	fill(t, st, 1, 10)
	for range 2 { // the second time there is nothing to do
		if err := st.Compact(ctx, 4); err != nil {
			t.Fatal(err)
		}
		_, err := st.Read(ctx, 3, 0)
		wantErr(t, err, store.ErrCompacted)
		if n := len(readAll(t, st, 4)); n != 6 {
			t.Errorf("%d commits after 4, want 6", n)
		}
	}
	if err := st.Compact(ctx, 2); err != nil { // forgets nothing more, brings nothing back
		t.Fatal(err)
	}
	_, err := st.Read(ctx, 2, 0)
	wantErr(t, err, store.ErrCompacted)
	if all, rev := contents(t, st); len(all) != 10 || rev != 10 {
		t.Errorf("the snapshot has %d records at %d, want 10 at 10", len(all), rev)
	}
	if err := st.Compact(ctx, 1000); err != nil { // no further than the head
		t.Fatal(err)
	}
	if b, err := st.Read(ctx, 10, 0); err != nil || b.Head != 10 || len(b.Commits) != 0 {
		t.Errorf("at the head of a compacted log: %+v, %v", b, err)
	}
	fill(t, st, 11, 12)
	if n := len(readAll(t, st, 10)); n != 2 {
		t.Errorf("%d commits after the compaction, want 2", n)
	}
}

// rings waits for a ring: there is nothing else to wait for.
func rings(t testing.TB, bell <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-bell:
	case <-time.After(10 * time.Second):
		t.Fatalf("%s: the doorbell did not ring", what)
	}
}

func testDoorbells(t *testing.T, st store.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	one, two := st.Doorbell(ctx), st.Doorbell(t.Context())
	fill(t, st, 1, 1)
	rings(t, one, "first")
	rings(t, two, "second")
	fill(t, st, 2, 50) // nobody looks: writes are not held up
	rings(t, one, "first")
	rings(t, two, "second")
	cancel()
	late := st.Doorbell(t.Context())
	fill(t, st, 51, 51)
	rings(t, late, "late")
	rings(t, two, "second")
	if got := st.Doorbell(ctx); got == nil {
		t.Error("a doorbell of an ended context is nil")
	}
}

func testLostDoorbells(t *testing.T, st store.Store) {
	const writes = 60
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range writes / 4 {
				if _, err := st.Write(t.Context(), put(fmt.Sprintf("l%d-%d", w, i), "1", store.Absent)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	// This reader has no doorbell at all.
	got, after := 0, store.Revision(0)
	for got < writes && !t.Failed() {
		b, err := st.Read(t.Context(), after, 0)
		if err == nil {
			err = Consecutive(after, b)
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range b.Commits {
			got += len(c.Changes)
			after = c.Revision
		}
	}
	wg.Wait()
}

func testSnapshot(t *testing.T, st store.Store) {
	if all, rev := contents(t, st); len(all) != 0 || rev != 0 {
		t.Errorf("an empty store has %v at %d", all, rev)
	}
	fill(t, st, 1, 20)
	records, rev, err := st.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	mustWrite(t, st, del("r1", store.Any), put("r2", "changed", store.Any), put("new", "1", store.Any))
	n := 0
	for r, err := range records {
		if err != nil {
			t.Fatal(err)
		}
		if n++; number(r) != int(r.Version) {
			t.Errorf("%s is %q at %d: from after the snapshot", r.ID, r.Spec, r.Version)
		}
	}
	if n != 20 || rev != 20 {
		t.Errorf("%d records at %d, want 20 at 20", n, rev)
	}
	for range 50 { // abandoned ones hold on to nothing
		records, _, err := st.Snapshot(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for range records {
			break
		}
	}
	for range 50 { // ones that nobody reads end with their context
		ctx, cancel := context.WithCancel(t.Context())
		if _, _, err := st.Snapshot(ctx); err != nil {
			t.Fatal(err)
		}
		cancel()
	}
	mustWrite(t, st, put("last", "1", store.Absent))
	if err := st.Compact(t.Context(), 5); err != nil {
		t.Error(err)
	}
}

func testSnapshotsDuringWrites(t *testing.T, st store.Store) {
	writing, done := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for n := 1; n <= 30; n++ {
				text := strconv.Itoa(n)
				if _, err := st.Write(t.Context(), put(fmt.Sprintf("a%d", w), text, store.Any), put(fmt.Sprintf("b%d", w), text, store.Any)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	type seen struct {
		all map[resource.ID]store.Record
		rev store.Revision
	}
	var snapshots []seen
	go func() { wg.Wait(); done() }()
	for writing.Err() == nil {
		all, rev := contents(t, st)
		snapshots = append(snapshots, seen{all, rev})
		for w := range 8 {
			if a, b := all[id(fmt.Sprintf("a%d", w))], all[id(fmt.Sprintf("b%d", w))]; string(a.Spec) != string(b.Spec) || a.Version != b.Version {
				t.Errorf("at %d: half of a batch: %q and %q", rev, a.Spec, b.Spec)
			}
		}
	}
	commits := readAll(t, st, 0)
	for _, s := range snapshots {
		if want := replay(commits[:s.rev]); !maps.EqualFunc(s.all, want, func(a, b store.Record) bool { return reflect.DeepEqual(a, b) }) {
			t.Errorf("the snapshot of revision %d is not what the log makes of it", s.rev)
		}
	}
}
