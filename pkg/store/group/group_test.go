package group

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/store"
	"github.com/atoll-mesh/atoll/pkg/store/lease"
)

// table is a store that commits when it is told to.
type table struct {
	stored map[resource.ID]Stored
	rev    store.Revision
	gate   chan error // one commit each: fails with the error before deciding
	late   error      // fails commits after deciding
	poison string     // fails commits that have this name
	groups [][]string // names of the ops of each commit
}

func newTable() *table {
	return &table{stored: map[resource.ID]Stored{}, gate: make(chan error)}
}

func (tb *table) commit(calls []*Call) (store.Revision, error) {
	if err := <-tb.gate; err != nil {
		return 0, err
	}
	var names []string
	for _, c := range calls {
		for _, op := range c.Ops {
			names = append(names, op.Name)
			if op.Name == tb.poison {
				return 0, errors.New("indigestible")
			}
		}
	}
	tb.groups = append(tb.groups, names)
	changes := Decide(calls, tb.stored, func(lease.Fence) bool { return false }, tb.rev+1, time.Now())
	if tb.late != nil {
		return 0, tb.late
	}
	if len(changes) > 0 {
		tb.rev++
	}
	for _, c := range changes {
		if c.Record == nil {
			delete(tb.stored, c.ID)
		} else {
			tb.stored[c.ID] = Stored{Version: tb.rev, Created: c.Record.Created}
		}
	}
	return tb.rev, nil
}

type result struct {
	rev store.Revision
	err error
}

// write starts a Write and lets it get as far as it can.
func write(ctx context.Context, w *Writer, ops ...store.Op) <-chan result {
	out := make(chan result, 1)
	go func() {
		rev, err := w.Write(ctx, ops)
		out <- result{rev, err}
	}()
	synctest.Wait()
	return out
}

func op(name string, expect int64) store.Op {
	return store.Op{Record: store.Record{ID: resource.ID{Type: "T", Name: name}}, Expect: expect}
}

func want(t *testing.T, got <-chan result, rev store.Revision, err error) {
	t.Helper()
	synctest.Wait()
	select {
	case r := <-got:
		if r.rev != rev || !errors.Is(r.err, err) {
			t.Errorf("got revision %d, error %v; want %d, %v", r.rev, r.err, rev, err)
		}
	default:
		t.Error("the write has not returned")
	}
}

func wantGroups(t *testing.T, tb *table, groups string) {
	t.Helper()
	if got := fmt.Sprint(tb.groups); got != groups {
		t.Errorf("groups %s, want %s", got, groups)
	}
}

func TestWritesShareTheNextCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tb := newTable()
		w := New(tb.commit)
		first := write(t.Context(), w, op("first", store.Absent))
		var rest []<-chan result
		for i := range 1000 {
			rest = append(rest, write(t.Context(), w, op(fmt.Sprint(i), store.Absent)))
		}
		conflict := write(t.Context(), w, op("new", store.Absent), op("none", 7))
		tb.gate <- nil
		want(t, first, 1, nil)
		tb.gate <- nil
		for _, r := range rest {
			want(t, r, 2, nil)
		}
		want(t, conflict, 0, store.ErrConflict)
		if len(tb.groups) != 2 || len(tb.stored) != 1001 {
			t.Errorf("%d commits, %d records; want 2, 1001", len(tb.groups), len(tb.stored))
		}
	})
}

func TestOneChangePerResourceAndCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tb := newTable()
		w := New(tb.commit)
		busy := write(t.Context(), w, op("busy", store.Any))
		a := write(t.Context(), w, op("x", store.Any), op("a", store.Any))
		b := write(t.Context(), w, op("x", store.Any), op("y", store.Any)) // after a
		c := write(t.Context(), w, op("y", store.Any))                     // after b, though a's group has room
		d := write(t.Context(), w, op("d", store.Any))                     // beside a
		for range 4 {
			tb.gate <- nil
		}
		for i, r := range []<-chan result{busy, a, b, c} {
			want(t, r, store.Revision(i+1), nil)
		}
		want(t, d, 2, nil)
		wantGroups(t, tb, "[[busy] [x a d] [x y] [y]]")
	})
}

func TestGroupsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tb := newTable()
		w := New(tb.commit)
		busy := write(t.Context(), w, op("busy", store.Any))
		many := make([]store.Op, maxOps+1) // more than a group takes, but one call
		for i := range many {
			many[i] = op(fmt.Sprint(i), store.Any)
		}
		large := write(t.Context(), w, many...)
		small := write(t.Context(), w, op("small", store.Any))
		for range 3 {
			tb.gate <- nil
		}
		want(t, busy, 1, nil)
		want(t, large, 2, nil)
		want(t, small, 3, nil)
	})
}

func TestGivingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tb := newTable()
		w := New(tb.commit)
		ctx, cancel := context.WithCancel(t.Context())
		under := write(ctx, w, op("under", store.Any))
		queued := write(ctx, w, op("queued", store.Any))
		next := write(t.Context(), w, op("next", store.Any))
		cancel()
		synctest.Wait()
		r := <-queued
		if !errors.Is(r.err, context.Canceled) || errors.Is(r.err, store.ErrUnavailable) {
			t.Errorf("a write that waited: %v, want only context.Canceled", r.err)
		}
		r = <-under
		if !errors.Is(r.err, context.Canceled) || !errors.Is(r.err, store.ErrUnavailable) {
			t.Errorf("a write under way: %v, want context.Canceled and ErrUnavailable", r.err)
		}
		tb.gate <- nil
		tb.gate <- nil
		want(t, next, 2, nil)
		wantGroups(t, tb, "[[under] [next]]")
	})
}

func TestErrorsOfACommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tb := newTable()
		w := New(tb.commit)
		group := func() (a, b, c <-chan result) {
			busy := write(t.Context(), w, op("busy", store.Any))
			a = write(t.Context(), w, op("a", store.Any))
			b = write(t.Context(), w, op("b", 99))
			c = write(t.Context(), w, op("c", store.Any))
			tb.gate <- nil
			<-busy
			return a, b, c
		}
		a, b, c := group()
		tb.gate <- store.ErrUnavailable
		for _, r := range []<-chan result{a, b, c} {
			want(t, r, 0, store.ErrUnavailable)
		}
		a, b, c = group()
		tb.late = fmt.Errorf("outcome unknown: %w", store.ErrUnavailable)
		tb.gate <- nil
		want(t, a, 0, store.ErrUnavailable)
		want(t, b, 0, store.ErrConflict) // certainly not written
		want(t, c, 0, store.ErrUnavailable)

		tb.late, tb.poison, tb.rev = nil, "c", 10
		a, b, c = group()
		for range 4 { // together, then one by one
			tb.gate <- nil
		}
		want(t, a, 12, nil)
		want(t, b, 0, store.ErrConflict)
		synctest.Wait()
		if r := <-c; r.err == nil || r.err.Error() != "indigestible" {
			t.Errorf("the write at fault: %v", r.err)
		}
	})
}

func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tb := newTable()
		w := New(tb.commit)
		under := write(t.Context(), w, op("under", store.Any))
		queued := write(t.Context(), w, op("queued", store.Any))
		closed := make(chan result, 1)
		go func() { w.Close(); closed <- result{} }()
		want(t, queued, 0, store.ErrClosed)
		select {
		case <-closed:
			t.Error("closed before the commit under way ended")
		default:
		}
		tb.gate <- nil
		want(t, under, 1, nil)
		want(t, closed, 0, nil)
		want(t, write(t.Context(), w, op("late", store.Any)), 0, store.ErrClosed)
	})
}

func TestFence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tb := newTable()
		w := New(tb.commit)
		fenced := write(lease.WithFence(t.Context(), lease.Fence{Name: "l"}), w, op("a", store.Any))
		tb.gate <- nil
		want(t, fenced, 0, store.ErrNotLeader)
		if tb.rev != 0 {
			t.Errorf("revision %d, want none", tb.rev)
		}
	})
}
