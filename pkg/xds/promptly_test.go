package xds

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/atoll-mesh/atoll/pkg/delta"
	"github.com/atoll-mesh/atoll/pkg/delta/client"
)

// A proxy that asks for what goes with its clusters and listeners, and accepts
// everything, has what it should without that any time passes, whatever changed
// while it was at it.
func TestNothingWaitsForTime(t *testing.T) {
	for seed := range uint64(30) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { promptly(t, rand.New(rand.NewPCG(seed, 9))) })
	}
}

func promptly(t *testing.T, rnd *rand.Rand) {
	const names = 90
	now := time.Unix(1e9, 0)
	change := func(share, n int) Changes {
		c := Changes{}
		for i := range n {
			name := fmt.Sprintf("n%02d", (i+names-n)%(names+3))
			switch rnd.IntN(share) {
			case 0: // together, as a service comes or changes
				for _, kind := range []Type{Clusters, Endpoints, Listeners, Routes} {
					if share > 2 && rnd.IntN(2) == 0 {
						continue
					}
					r := res(name, fmt.Sprint(rnd.IntN(5)))
					if kind == Listeners || kind == Routes {
						r.Refers = []string{name}
					}
					c.Put(kind, r)
				}
			case 1:
				if rnd.IntN(8) == 0 {
					for _, kind := range []Type{Clusters, Endpoints, Listeners, Routes} {
						c.Remove(kind, name)
					}
				}
			}
		}
		return c
	}
	shared, own := NewLayer(change(2, 40)), NewLayer(change(2, 3))
	set := NewSet(1, shared, own)
	s := delta.New(streamConfig("test"))
	want(s, set)
	state := client.NewState(client.Options{Subscribe: []string{Clusters.URL(), Listeners.URL()}})
	asks := map[Type]map[string]bool{Endpoints: {}, Routes: {}}
	follow := func(with, kind Type) {
		var add, remove []string
		for name := range state.Has(with.URL()) {
			if !asks[kind][name] {
				asks[kind][name] = true
				add = append(add, name)
			}
		}
		for name := range asks[kind] {
			if _, ok := state.Has(with.URL())[name]; !ok {
				delete(asks[kind], name)
				remove = append(remove, name)
			}
		}
		if len(add) > 0 {
			state.Subscribe(kind.URL(), add...)
		}
		if len(remove) > 0 {
			state.Unsubscribe(kind.URL(), remove...)
		}
	}
	var sent [][]byte
	exchange := func(most int) {
		for range most {
			for m := s.Next(now); m != nil; m = s.Next(now) {
				b, err := proto.Marshal(m)
				if err != nil {
					t.Fatal(err)
				}
				sent = append(sent, b)
			}
			if len(sent) == 0 {
				return
			}
			for range 1 + rnd.IntN(len(sent)) { // the others are on their way
				if err := state.Receive(sent[0]); err != nil {
					t.Fatal(err)
				}
				sent = sent[1:]
			}
			follow(Clusters, Endpoints)
			follow(Listeners, Routes)
			for _, req := range state.Requests() {
				if err := s.Handle(req, now); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	for _, req := range state.Requests() {
		if err := s.Handle(req, now); err != nil {
			t.Fatal(err)
		}
	}
	for revision := range uint64(12) {
		exchange(rnd.IntN(4))
		switch rnd.IntN(6) {
		case 0:
			shared = shared.With(change(2, names))
		case 1:
			own = own.With(change(2, 3))
		default:
			shared = shared.With(change(40, names))
		}
		set = NewSet(revision+2, shared, own)
		want(s, set)
	}
	exchange(10_000)
	for _, kind := range []Type{Clusters, Endpoints, Listeners, Routes} {
		for r := range set.Source(kind).All() {
			if (kind == Endpoints || kind == Routes) && !asks[kind][r.Name] {
				continue
			}
			if got := state.Has(kind.URL())[r.Name]; got != r.Version {
				t.Errorf("%s %s is %q, want %q", kind, r.Name, got, r.Version)
			}
		}
	}
	if s.Delivered() != set.Revision || s.Degraded() {
		t.Errorf("delivered is %d of %d, degraded: %v", s.Delivered(), set.Revision, s.Degraded())
	}
}
