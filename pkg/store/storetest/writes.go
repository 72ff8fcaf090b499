package storetest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/store"
)

func testRoundTrip(t *testing.T, st store.Store) {
	modified := time.Date(2026, 3, 4, 5, 6, 7, 891234567, time.FixedZone("elsewhere", 3600))
	full := store.Record{
		ID:       resource.ID{Type: "Dataplane", Mesh: "größe", Name: "it's \"quoted\" ?#%"},
		Labels:   map[string]string{"kuma.io/zone": "east", "empty": "", "ünï": "\"\\\n"},
		Spec:     []byte{0, 1, 0xff, 0, '\''},
		Status:   []byte(`{"a":null}`),
		Modified: modified,
	}
	bare := store.Record{ID: resource.ID{Type: "Zone", Name: "east"}, Labels: map[string]string{}, Spec: []byte{}}
	before := time.Now().Add(-time.Second)
	rev := mustWrite(t, st, store.Op{Record: full, Author: "ann"}, store.Op{Record: bare, Author: ""})

	all, _ := contents(t, st)
	got := all[full.ID]
	if got.Version != rev || !got.Modified.Equal(modified.Truncate(time.Microsecond)) || got.Modified.Location() != time.UTC {
		t.Errorf("version %d, modified %v; want %d, %v in UTC", got.Version, got.Modified, rev, modified)
	}
	if got.Created.Before(before) || got.Created.After(time.Now().Add(time.Second)) {
		t.Errorf("created %v, want now", got.Created)
	}
	if !reflect.DeepEqual(got.Labels, full.Labels) || string(got.Spec) != string(full.Spec) || string(got.Status) != string(full.Status) {
		t.Errorf("got %+v, want %+v", got, full)
	}
	if got := all[bare.ID]; got.Labels != nil || got.Spec != nil || got.Status != nil || !got.Modified.Equal(got.Created) {
		t.Errorf("empty parts came back as %+v, want nil", got)
	}
	full.Spec[0], full.Labels["empty"] = 9, "changed" // belongs to the caller
	commits := readAll(t, st, 0)
	if len(commits) != 1 || len(commits[0].Changes) != 2 {
		t.Fatalf("the log has %+v, want one commit of two", commits)
	}
	for i, want := range []resource.ID{full.ID, bare.ID} {
		ch := commits[0].Changes[i]
		if ch.ID != want || !reflect.DeepEqual(*ch.Record, all[want]) {
			t.Errorf("the log has %+v, want %+v", ch.Record, all[want])
		}
	}
	if a := commits[0].Changes[0].Author; a != "ann" {
		t.Errorf("author %q, want ann", a)
	}
	if at := commits[0].Time; at.Before(before) || at.After(time.Now().Add(time.Second)) {
		t.Errorf("time of the commit %v, want now", at)
	}
}

func testVersions(t *testing.T, st store.Store) {
	r1 := mustWrite(t, st, put("a", "1", store.Absent))
	first, _ := contents(t, st)
	r2 := mustWrite(t, st, put("b", "1", store.Absent))
	r3 := mustWrite(t, st, put("a", "2", int64(r1)))
	if r1 != 1 || r2 != 2 || r3 != 3 {
		t.Errorf("revisions %d, %d, %d, want 1, 2, 3", r1, r2, r3)
	}
	all, rev := contents(t, st)
	a := all[id("a")]
	if rev != 3 || a.Version != 3 || all[id("b")].Version != 2 {
		t.Errorf("at %d: %+v", rev, all)
	}
	if !a.Created.Equal(first[id("a")].Created) {
		t.Errorf("an update changed created from %v to %v", first[id("a")].Created, a.Created)
	}
	mustWrite(t, st, del("a", store.Any))
	mustWrite(t, st, put("a", "3", store.Absent))
	if all, _ := contents(t, st); all[id("a")].Created.Before(a.Modified) {
		t.Errorf("created %v is from before the deletion", all[id("a")].Created)
	}
}

func testExpectations(t *testing.T, st store.Store) {
	rev := mustWrite(t, st, put("there", "1", store.Absent))
	for _, c := range []struct {
		op store.Op
		ok bool
	}{
		{put("there", "x", store.Absent), false},
		{put("there", "x", int64(rev)+1), false},
		{put("gone", "x", int64(rev)), false},
		{del("there", store.Absent), false},
		{del("there", int64(rev)+1), false},
		{del("gone", int64(rev)), false},
		{del("gone", store.Absent), true},
		{del("gone", store.Any), true},
		{put("there", "y", int64(rev)), true},
		{put("there", "z", store.Any), true},
		{del("there", int64(rev)+2), true},
		{put("there", "again", store.Absent), true},
	} {
		_, head := contents(t, st)
		_, err := st.Write(t.Context(), c.op)
		if c.ok && err != nil {
			t.Errorf("delete=%v %s expecting %d: %v", c.op.Delete, c.op.Name, c.op.Expect, err)
		}
		if !c.ok {
			wantErr(t, err, store.ErrConflict)
			if _, after := contents(t, st); after != head {
				t.Errorf("a conflict moved the revision from %d to %d", head, after)
			}
		}
	}
}

func testAtomicBatch(t *testing.T, st store.Store) {
	mustWrite(t, st, put("old", "1", store.Absent))
	_, err := st.Write(t.Context(), put("new", "1", store.Absent), del("old", store.Any), put("other", "1", 77))
	wantErr(t, err, store.ErrConflict)
	if all, rev := contents(t, st); rev != 1 || len(all) != 1 {
		t.Errorf("a conflicting batch left %v at %d", all, rev)
	}
	rev := mustWrite(t, st, put("new", "1", store.Absent), del("old", store.Any), put("other", "1", store.Any))
	all, head := contents(t, st)
	if _, old := all[id("old")]; old || len(all) != 2 || rev != 2 || head != 2 {
		t.Errorf("the batch left %v at %d", all, head)
	}
	if commits := readAll(t, st, 1); len(commits) != 1 || len(commits[0].Changes) != 3 {
		t.Errorf("the log has %+v, want one commit of three changes", commits)
	}
}

func testNoChange(t *testing.T, st store.Store) {
	if rev := mustWrite(t, st); rev != 0 {
		t.Errorf("no ops on an empty store: revision %d", rev)
	}
	mustWrite(t, st, put("a", "1", store.Absent))
	for _, ops := range [][]store.Op{nil, {del("none", store.Any)}, {del("none", store.Any), del("nil", store.Absent)}} {
		if rev := mustWrite(t, st, ops...); rev != 1 {
			t.Errorf("%d ops without effect: revision %d, want 1", len(ops), rev)
		}
	}
	if rev := mustWrite(t, st, put("a", "1", store.Any)); rev != 2 {
		t.Errorf("putting the same is a change: revision %d, want 2", rev)
	}
	if n := len(readAll(t, st, 0)); n != 2 {
		t.Errorf("%d commits, want 2", n)
	}
}

func testBadOps(t *testing.T, st store.Store) {
	for name, ops := range map[string][]store.Op{
		"one ID twice":    {put("a", "1", store.Any), del("a", store.Any)},
		"no name":         {put("", "1", store.Any)},
		"no type":         {{Record: store.Record{ID: resource.ID{Name: "a"}}}},
		"NUL in a name":   {put("a\x00b", "1", store.Any)},
		"bytes as a name": {put("\xff", "1", store.Any)},
		"NUL in a label":  {{Record: store.Record{ID: id("a"), Labels: map[string]string{"k": "\x00"}}}},
		"expectation":     {put("a", "1", -2)},
	} {
		if _, err := st.Write(t.Context(), ops...); err == nil || errors.Is(err, store.ErrUnavailable) || errors.Is(err, store.ErrConflict) {
			t.Errorf("%s: %v, want another error", name, err)
		}
	}
	if all, rev := contents(t, st); len(all) != 0 || rev != 0 {
		t.Errorf("refused ops left %v at %d", all, rev)
	}
}

func testGivenUp(t *testing.T, st store.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := st.Write(ctx, put("a", "1", store.Any))
	wantErr(t, err, context.Canceled)
	if errors.Is(err, store.ErrUnavailable) {
		t.Errorf("%v: the store was not to blame", err)
	}
	_, err = st.Read(ctx, 0, 0)
	wantErr(t, err, context.Canceled)
	if _, rev := contents(t, st); rev != 0 {
		t.Errorf("revision %d, want 0", rev)
	}
}

func testOrder(t *testing.T, st store.Store) {
	const writers, each = 16, 25
	var wrote sync.Map // revision → number of ops
	ctx, done := context.WithCancel(t.Context())
	var followers, wg sync.WaitGroup
	for range 2 { // readers at work see only whole, consecutive commits
		followers.Go(func() { follow(t, ctx, st) })
	}
	for w := range writers {
		wg.Go(func() {
			last := store.Revision(0)
			for i := range each {
				rev, err := st.Write(t.Context(), put(fmt.Sprintf("w%d-%d", w, i), "1", store.Absent), put(fmt.Sprintf("w%d", w), "1", store.Any))
				if err != nil {
					t.Errorf("writer %d: %v", w, err)
					return
				}
				if rev <= last {
					t.Errorf("writer %d: revision %d after %d", w, rev, last)
				}
				last = rev
				n, _ := wrote.LoadOrStore(rev, new(atomic.Int64))
				n.(*atomic.Int64).Add(2)
			}
		})
	}
	wg.Wait()
	done()
	followers.Wait()
	changes := 0
	commits := readAll(t, st, 0)
	for _, c := range commits {
		n, ok := wrote.Load(c.Revision)
		if !ok || int(n.(*atomic.Int64).Load()) != len(c.Changes) {
			t.Errorf("revision %d has %d changes, which is not what the writers that got it wrote", c.Revision, len(c.Changes))
		}
		changes += len(c.Changes)
	}
	if changes != writers*each*2 {
		t.Errorf("%d changes, want %d", changes, writers*each*2)
	}
	if all, _ := contents(t, st); !reflect.DeepEqual(all, replay(commits)) {
		t.Error("the log and the records differ")
	}
	t.Logf("%d writes in %d commits", writers*each, len(commits))
}

// follow reads along, woken by a doorbell, until ctx ends.
func follow(t *testing.T, ctx context.Context, st store.Store) {
	bell := st.Doorbell(ctx)
	after := store.Revision(0)
	for ctx.Err() == nil {
		b, err := st.Read(ctx, after, 7)
		if err == nil {
			err = Consecutive(after, b)
		}
		if err != nil {
			if ctx.Err() == nil {
				t.Error(err)
			}
			return
		}
		if n := len(b.Commits); n > 7 {
			t.Errorf("%d commits, asked for 7", n)
		} else if n > 0 {
			after = b.Commits[n-1].Revision
			continue
		}
		select {
		case <-bell:
		case <-ctx.Done():
		}
	}
}

func testConflictsApart(t *testing.T, st store.Store) {
	mustWrite(t, st, put("taken", "1", store.Absent))
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			name := fmt.Sprintf("c%d", i)
			if i%4 != 0 {
				if _, err := st.Write(t.Context(), put(name, "1", store.Absent)); err != nil {
					t.Error(err)
				}
				return
			}
			_, err := st.Write(t.Context(), put(name, "1", store.Absent), put(name+"-too", "1", 99))
			wantErr(t, err, store.ErrConflict)
		})
	}
	wg.Wait()
	if all, _ := contents(t, st); len(all) != 1+48 {
		t.Errorf("%d records, want 49", len(all))
	}
	readAll(t, st, 0)
}

func testSameID(t *testing.T, st store.Store) {
	const writers = 32
	var created, wg = atomic.Int64{}, sync.WaitGroup{}
	for range writers {
		wg.Go(func() {
			switch _, err := st.Write(t.Context(), put("one", "1", store.Absent)); {
			case err == nil:
				created.Add(1)
			default:
				wantErr(t, err, store.ErrConflict)
			}
		})
	}
	wg.Wait()
	if n := created.Load(); n != 1 {
		t.Errorf("%d of %d created the same resource", n, writers)
	}
	var revs sync.Map
	for i := range writers {
		wg.Go(func() {
			rev, err := st.Write(t.Context(), put("one", fmt.Sprint(i), store.Any), put(fmt.Sprintf("own%d", i), "1", store.Any))
			if err != nil {
				t.Error(err)
			}
			if _, twice := revs.LoadOrStore(rev, i); twice {
				t.Errorf("revision %d is of two writes of one resource", rev)
			}
		})
	}
	wg.Wait()
	if n := len(readAll(t, st, 0)); n != 1+writers {
		t.Errorf("%d commits, want %d", n, 1+writers)
	}
}
