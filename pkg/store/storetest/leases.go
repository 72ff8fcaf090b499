package storetest

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/atoll-mesh/atoll/pkg/store"
)

const ttl = 10 * time.Second

func lead(t testing.TB, st store.Store, name, holder string) store.Lease {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), ttl)
	defer cancel()
	l, err := st.Lease(ctx, name, holder, ttl)
	if err != nil {
		t.Fatalf("%s: %v", holder, err)
	}
	return l
}

func isLost(l store.Lease) bool {
	select {
	case <-l.Lost():
		return true
	default:
		return false
	}
}

func testLeases(t *testing.T, st store.Store) {
	a := lead(t, st, "leader", "a")
	other := lead(t, st, "other", "b") // leases of other names are free
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := st.Lease(ctx, "leader", "b", ttl)
	wantErr(t, err, context.DeadlineExceeded)
	_, err = st.Lease(ctx, "leader", "a", ttl) // the same name is no licence
	wantErr(t, err, context.DeadlineExceeded)
	if isLost(a) || isLost(other) {
		t.Error("a lease was lost that nobody else could have")
	}

	got := make(chan store.Lease)
	go func() {
		l, err := st.Lease(t.Context(), "leader", "b", ttl)
		if err != nil {
			t.Error(err)
		}
		got <- l
	}()
	if err := a.Release(t.Context()); err != nil {
		t.Error(err)
	}
	if !isLost(a) {
		t.Error("a released lease still looks held")
	}
	select {
	case b := <-got:
		if isLost(b) {
			t.Error("the lease is lost as soon as it is held")
		}
		if err := b.Release(t.Context()); err != nil {
			t.Error(err)
		}
		if err := b.Release(t.Context()); err != nil {
			t.Errorf("released again: %v", err)
		}
	case <-time.After(ttl / 2):
		t.Error("a released lease was not handed on at once")
	}
}

func testFences(t *testing.T, st store.Store) {
	ctx := t.Context()
	a := lead(t, st, "leader", "a")
	if _, err := st.Write(a.Fence(ctx), put("x", "a", store.Any)); err != nil {
		t.Fatalf("the leader cannot write: %v", err)
	}
	if err := a.Release(ctx); err != nil {
		t.Fatal(err)
	}
	b := lead(t, st, "leader", "b")
	_, err := st.Write(a.Fence(ctx), put("x", "a again", store.Any), put("y", "a", store.Any))
	wantErr(t, err, store.ErrNotLeader)
	_, err = st.Write(a.Fence(ctx), put("x", "a", store.Absent)) // leadership comes first
	wantErr(t, err, store.ErrNotLeader)
	if all, rev := contents(t, st); rev != 1 || len(all) != 1 {
		t.Errorf("a former leader wrote: %v at %d", all, rev)
	}
	if _, err := st.Write(b.Fence(ctx), put("x", "b", store.Any)); err != nil {
		t.Errorf("the new leader cannot write: %v", err)
	}
	other := lead(t, st, "other", "b")
	if _, err := st.Write(other.Fence(b.Fence(ctx)), put("x", "both", store.Any)); err != nil {
		t.Errorf("two leases guard a write: %v", err)
	}
	if err := b.Release(ctx); err != nil {
		t.Fatal(err)
	}
	_, err = st.Write(other.Fence(b.Fence(ctx)), put("x", "one", store.Any))
	wantErr(t, err, store.ErrNotLeader)
	again := lead(t, st, "leader", "a") // the same holder, but another term
	_, err = st.Write(a.Fence(ctx), put("x", "a", store.Any))
	wantErr(t, err, store.ErrNotLeader)
	if _, err := st.Write(again.Fence(ctx), put("x", "a", store.Any)); err != nil {
		t.Error(err)
	}
	if _, err := st.Write(ctx, put("x", "anybody", store.Any)); err != nil {
		t.Errorf("a write without a fence: %v", err)
	}
}

// testLeadershipMoves has leaders write their name with their fence, as fast as
// they can, also after they gave up. In the log the terms must not interleave.
func testLeadershipMoves(t *testing.T, st store.Store) {
	const terms = 12
	var wg sync.WaitGroup
	var refused atomic.Int64
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for holder := range 3 {
		wg.Go(func() {
			for term := range terms / 3 {
				l, err := st.Lease(ctx, "leader", fmt.Sprint(holder), ttl)
				if err != nil {
					t.Error(err)
					return
				}
				fenced, name := l.Fence(ctx), fmt.Sprintf("%d/%d", holder, term)
				var busy sync.WaitGroup
				for k := range 2 {
					busy.Go(func() {
						for {
							if _, err := st.Write(fenced, put(fmt.Sprintf("k%d", k), name, store.Any)); err != nil {
								wantErr(t, err, store.ErrNotLeader)
								refused.Add(1)
								return
							}
						}
					})
				}
				if _, err := st.Write(fenced, put("start", name, store.Any)); err != nil {
					t.Error(err)
				}
				if err := l.Release(ctx); err != nil {
					t.Error(err)
				}
				busy.Wait() // fenced writes end by being refused, and only so
			}
		})
	}
	wg.Wait()
	if n := refused.Load(); n != 2*terms {
		t.Errorf("%d writers were refused, want %d", n, 2*terms)
	}
	now, over := "", map[string]bool{}
	for _, c := range readAll(t, st, 0) {
		for _, ch := range c.Changes {
			if term := string(ch.Record.Spec); term != now {
				if over[term] {
					t.Errorf("revision %d: %s wrote although %s had led since", c.Revision, term, now)
				}
				over[now], now = true, term
			}
		}
	}
}

func testClose(t *testing.T, st store.Store) {
	fill(t, st, 1, 1)
	l := lead(t, st, "leader", "a")
	waiting := make(chan error)
	go func() {
		_, err := st.Lease(context.WithoutCancel(t.Context()), "leader", "b", ttl)
		waiting <- err
	}()
	for range 2 {
		if err := st.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-waiting; err == nil {
		t.Error("a lease of a closed store was granted")
	}
	if !isLost(l) {
		t.Error("a lease outlived its store")
	}
	_, err := st.Write(t.Context(), put("a", "1", store.Any))
	wantErr(t, err, store.ErrClosed)
	_, err = st.Read(t.Context(), 0, 0)
	wantErr(t, err, store.ErrClosed)
	_, _, err = st.Snapshot(t.Context())
	wantErr(t, err, store.ErrClosed)
	wantErr(t, st.Compact(t.Context(), 1), store.ErrClosed)
	_, err = st.Lease(t.Context(), "leader", "c", ttl)
	wantErr(t, err, store.ErrClosed)
}
