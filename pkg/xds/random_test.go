package xds

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/atoll-mesh/atoll/pkg/delta"
	"github.com/atoll-mesh/atoll/pkg/delta/client"
)

// Proxies that share a large layer and have small ones of their own end up with
// what their sets say, whatever happened: much at once or little, to the shared
// layer or their own, names that move from one to the other, refusals.
func TestRandomSets(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { randomSets(t, rand.New(rand.NewPCG(seed, 5))) })
	}
}

func randomSets(t *testing.T, rnd *rand.Rand) {
	const proxies, names = 4, 90
	cfg := streamConfig("test")
	now := time.Unix(1e9, 0)
	types := []Type{Clusters, Endpoints, Listeners, Routes}
	change := func(share, n int) Changes {
		c := Changes{}
		for _, kind := range types {
			for i := range n {
				name := fmt.Sprintf("n%02d", (i+names-n)%(names+3))
				switch rnd.IntN(share) {
				case 0:
					c.Put(kind, res(name, fmt.Sprint(rnd.IntN(5))))
				case 1:
					if rnd.IntN(8) == 0 {
						c.Remove(kind, name)
					}
				}
			}
		}
		return c
	}
	shared := NewLayer(change(2, names))
	own := make([]*Layer, proxies)
	streams := make([]*delta.Stream, proxies)
	states := make([]*client.State, proxies)
	sets := make([]*Set, proxies)
	revision := uint64(0)
	publish := func() {
		revision++
		for i := range proxies {
			sets[i] = NewSet(revision, shared, own[i])
			if s := streams[i]; s != nil && rnd.IntN(4) > 0 {
				want(s, sets[i])
			}
		}
	}
	calm := false
	refuse := func(_ string, r client.Resource) error {
		if !calm && r.Version == "4" && rnd.IntN(20) == 0 {
			return fmt.Errorf("%s is refused", r.Name)
		}
		return nil
	}
	publish()
	for i := range proxies {
		states[i] = client.NewState(client.Options{Subscribe: []string{Clusters.URL(), Listeners.URL()}, Reject: refuse})
		streams[i] = delta.New(cfg)
		want(streams[i], sets[i])
	}
	asks := make([]map[Type]map[string]bool, proxies)
	for i := range asks {
		asks[i] = map[Type]map[string]bool{Endpoints: {}, Routes: {}}
	}
	subscribe := func(i int, kind Type, names ...string) {
		for _, name := range names {
			asks[i][kind][name] = true
		}
		states[i].Subscribe(kind.URL(), names...)
	}
	exchange := func(i, most int) {
		for range most {
			for _, req := range states[i].Requests() {
				if err := streams[i].Handle(req, now); err != nil {
					t.Fatal(err)
				}
			}
			m := streams[i].Next(now)
			if m == nil {
				return
			}
			b, err := proto.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			if err := states[i].Receive(b); err != nil {
				t.Fatal(err)
			}
		}
	}
	for range 60 {
		i := rnd.IntN(proxies)
		switch rnd.IntN(9) {
		case 0:
			shared = shared.With(change(2, names))
			publish()
		case 1, 2:
			shared = shared.With(change(60, names))
			publish()
		case 3:
			own[i] = own[i].With(change(2, 5))
			publish()
		case 4:
			kind := []Type{Endpoints, Routes}[rnd.IntN(2)]
			var some []string
			for k := range names {
				if name := fmt.Sprintf("n%02d", k); len(asks[i][kind]) == 0 || rnd.IntN(6) == 0 {
					some = append(some, name)
				}
			}
			if len(some) > 0 {
				subscribe(i, kind, some...)
			}
		case 5:
			if rnd.IntN(3) == 0 {
				kind := []Type{Endpoints, Routes}[rnd.IntN(2)]
				name := fmt.Sprintf("n%02d", rnd.IntN(names))
				delete(asks[i][kind], name)
				states[i].Unsubscribe(kind.URL(), name)
			}
		case 6:
			if rnd.IntN(3) == 0 {
				streams[i] = delta.New(cfg)
				want(streams[i], sets[i])
				states[i].Reconnect()
			}
		default:
			exchange(i, []int{1, 3, 10_000}[rnd.IntN(3)])
		}
		if rnd.IntN(10) == 0 {
			now = now.Add(time.Second)
		}
	}
	calm = true
	for i := range proxies {
		subscribe(i, Endpoints, "n01")
		subscribe(i, Routes, "n01")
		want(streams[i], sets[i])
		for range 4 { // gates of what was refused or never asked for expire
			exchange(i, 10_000)
			now = now.Add(gate)
		}
		for _, kind := range types {
			source := sets[i].Source(kind)
			has := maps.Clone(states[i].Has(kind.URL()))
			for r := range source.All() {
				if (kind == Endpoints || kind == Routes) && !asks[i][kind][r.Name] {
					continue
				}
				if has[r.Name] != r.Version && !slices.ContainsFunc(streams[i].Rejections(), func(x delta.Rejection) bool { return x.Name == r.Name }) {
					t.Fatalf("proxy %d %s %s is %q, want %q", i, kind, r.Name, has[r.Name], r.Version)
				}
				delete(has, r.Name)
			}
			if len(has) > 0 && len(streams[i].Rejections()) == 0 { // else it may be in use
				t.Fatalf("proxy %d %s has %v, which is not wanted", i, kind, has)
			}
		}
	}
}

func want(s *delta.Stream, set *Set) {
	for t := range NumTypes {
		s.Want(int(t), set.Source(t))
	}
	s.At(set.Revision)
}
