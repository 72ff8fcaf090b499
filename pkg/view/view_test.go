package view_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/store"
	"github.com/atoll-mesh/atoll/pkg/store/memory"
	"github.com/atoll-mesh/atoll/pkg/view"

	meshv1 "github.com/atoll-mesh/atoll/api/kuma/mesh/v1alpha1"
	systemv1 "github.com/atoll-mesh/atoll/api/kuma/system/v1alpha1"
)

var (
	kinds = resource.NewKinds(kind.All()...)
	site  = resource.Site{Zone: "east", Env: resource.EnvUniversal}
)

func meshID(name string) resource.ID { return resource.ID{Type: kind.Mesh, Name: name} }

func secretID(mesh, name string) resource.ID {
	return resource.ID{Type: kind.Secret, Mesh: mesh, Name: name}
}

func mesh(t testing.TB, name string, skip ...string) *resource.Object {
	t.Helper()
	return object(t, meshID(name), nil, &meshv1.Mesh{SkipCreatingInitialPolicies: skip})
}

func secret(t testing.TB, id resource.ID, value string) *resource.Object {
	t.Helper()
	return object(t, id, map[string]string{"v": value}, &systemv1.Secret{})
}

func object(t testing.TB, id resource.ID, labels map[string]string, spec any) *resource.Object {
	t.Helper()
	o, err := kinds.ByType(id.Type).New(resource.Meta{ID: id, Labels: labels}, spec, nil)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// follow starts a view of a new memory store.
func follow(t *testing.T) (store.Store, *view.View) {
	t.Helper()
	st := memory.Open()
	v := view.New(kinds, site, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- view.Follow(ctx, st, v) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Follow ended with %v", err)
		}
		st.Close()
	})
	return st, v
}

func write(t testing.TB, st store.Store, ops ...store.Op) store.Revision {
	t.Helper()
	rev, err := st.Write(t.Context(), ops...)
	if err != nil {
		t.Fatal(err)
	}
	return rev
}

func TestReadYourWrites(t *testing.T) {
	st, v := follow(t)
	before := v.Snapshot()
	rev := write(t, st, store.Put(mesh(t, "shop"), store.Absent, "test"))
	after, err := v.Wait(t.Context(), rev)
	if err != nil {
		t.Fatal(err)
	}
	if o := after.Get(meshID("shop")); o == nil || o.Version != uint64(rev) {
		t.Errorf("after revision %d the view has %+v", rev, o)
	}
	if before.Get(meshID("shop")) != nil {
		t.Error("an older snapshot changed")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := v.Wait(ctx, rev+1); !errors.Is(err, context.Canceled) {
		t.Errorf("waiting for a revision that never comes: %v", err)
	}
}

func TestEqualContentWakesNobody(t *testing.T) {
	st, v := follow(t)
	first := write(t, st, store.Put(mesh(t, "shop"), store.Any, "test"))
	if _, err := v.Wait(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	second := write(t, st, store.Put(mesh(t, "shop"), store.Any, "test"))
	s, err := v.Wait(t.Context(), second)
	if err != nil {
		t.Fatal(err)
	}
	if got := s.Get(meshID("shop")).Version; got != uint64(second) {
		t.Errorf("version %d, want %d: it is what the next writer must state", got, second)
	}
	if keys, ok := v.Touched(first, s); !ok || len(keys) != 0 {
		t.Errorf("writing the same again touched %v, %v", keys, ok)
	}
}

func TestTouched(t *testing.T) {
	st, v := follow(t)
	r1 := write(t, st, store.Put(mesh(t, "a"), store.Any, ""))
	if _, err := v.Wait(t.Context(), r1); err != nil {
		t.Fatal(err)
	}
	write(t, st, store.Put(mesh(t, "b"), store.Any, ""), store.Put(mesh(t, "c"), store.Any, ""))
	write(t, st, store.Delete(meshID("a"), store.Any, ""))
	r4 := write(t, st, store.Put(mesh(t, "b", "MeshRetry"), store.Any, ""))
	s, err := v.Wait(t.Context(), r4)
	if err != nil {
		t.Fatal(err)
	}
	keys, ok := v.Touched(r1, s)
	if !ok {
		t.Fatal("the view forgot four commits")
	}
	var names []string
	for _, k := range keys {
		if k.Table == view.Objects {
			names = append(names, k.Name)
		}
	}
	slices.Sort(names)
	if fmt.Sprint(names) != "[a b c]" {
		t.Errorf("touched %v, want a, b and c once each", names)
	}
	if keys, ok := v.Touched(r4, s); !ok || keys != nil {
		t.Errorf("nothing is newer than the newest, but got %v", keys)
	}
}

func TestSubscriptionIsABit(t *testing.T) {
	st, v := follow(t)
	sub := v.Subscribe()
	defer sub.Close()
	<-sub.C() // set from the start
	var rev store.Revision
	for i := range 20 {
		rev = write(t, st, store.Put(mesh(t, fmt.Sprint("m", i)), store.Any, ""))
	}
	if _, err := v.Wait(t.Context(), rev); err != nil {
		t.Fatal(err)
	}
	<-sub.C()
	select {
	case <-sub.C():
		t.Error("changes that piled up woke more than once")
	default:
	}
}

func TestEditRetriesOnConflict(t *testing.T) {
	st, v := follow(t)
	id := secretID("shop", "counter")
	if _, err := v.Wait(t.Context(), write(t, st, store.Put(secret(t, id, ""), store.Absent, ""))); err != nil {
		t.Fatal(err)
	}
	const writers, each = 8, 10
	errs := make(chan error, writers)
	for range writers {
		go func() {
			for range each {
				_, err := view.Edit(context.Background(), v, st, id, "test", func(old *resource.Object) (*resource.Object, error) {
					return kinds.ByType(kind.Secret).New(resource.Meta{ID: id, Labels: map[string]string{"v": old.Labels["v"] + "x"}}, old.Spec, nil)
				})
				if err != nil && !errors.Is(err, store.ErrConflict) {
					errs <- err
					return
				}
			}
			errs <- nil
		}()
	}
	for range writers {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
	b, err := st.Read(t.Context(), 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	s, err := v.Wait(t.Context(), b.Head)
	if err != nil {
		t.Fatal(err)
	}
	// Every commit after the first appended one x: no update was lost.
	if got := len(s.Get(id).Labels["v"]); got != int(b.Head)-1 || got < writers {
		t.Errorf("%d increments survived %d commits", got, b.Head-1)
	}
}

// TestModel compares snapshots with a plain map over a random history, and old
// snapshots with what they were.
func TestModel(t *testing.T) {
	st, v := follow(t)
	rng := rand.New(rand.NewPCG(1, 2))
	model := map[resource.ID]string{}
	type past struct {
		s *view.Snapshot
		m map[resource.ID]string
	}
	var history []past
	for range 300 {
		var ops []store.Op
		used := map[resource.ID]bool{}
		for range 1 + rng.IntN(4) {
			id := secretID(fmt.Sprint("mesh-", rng.IntN(3)), fmt.Sprint("s", rng.IntN(12)))
			if used[id] {
				continue
			}
			used[id] = true
			if rng.IntN(3) == 0 {
				ops = append(ops, store.Delete(id, store.Any, ""))
				delete(model, id)
			} else {
				val := fmt.Sprint(rng.IntN(5))
				ops = append(ops, store.Put(secret(t, id, val), store.Any, ""))
				model[id] = val
			}
		}
		s, err := v.Wait(t.Context(), write(t, st, ops...))
		if err != nil {
			t.Fatal(err)
		}
		history = append(history, past{s, maps.Clone(model)})
	}
	for _, p := range history {
		got := map[resource.ID]string{}
		var last resource.ID
		for o := range p.s.List(kind.Secret, "") {
			if last.Compare(o.ID) >= 0 {
				t.Fatalf("%v listed after %v", o.ID, last)
			}
			last = o.ID
			got[o.ID] = o.Labels["v"]
			if p.s.Get(o.ID) != o {
				t.Fatalf("%v listed but not found", o.ID)
			}
		}
		if !maps.Equal(got, p.m) {
			t.Fatalf("revision %d: got %v, want %v", p.s.Revision(), got, p.m)
		}
		if p.s.Count(kind.Secret, "") != len(p.m) {
			t.Fatalf("count %d, want %d", p.s.Count(kind.Secret, ""), len(p.m))
		}
	}
}

func TestReaderRecordsMisses(t *testing.T) {
	_, v := follow(t)
	r := view.NewReader(v.Snapshot())
	if r.Get(meshID("absent")) != nil {
		t.Fatal("found what does not exist")
	}
	for range r.List(kind.Secret, "shop") {
		t.Fatal("listed what does not exist")
	}
	for _, k := range []view.Key{
		{Table: view.Objects, ID: meshID("absent")},
		{Table: view.Objects, ID: resource.ID{Type: kind.Secret, Mesh: "shop"}},
	} {
		if _, ok := r.Deps()[k]; !ok {
			t.Errorf("%+v was read but not recorded", k)
		}
	}
}
