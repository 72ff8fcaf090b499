package compile

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/atoll-mesh/atoll/pkg/resource"
)

// TestEffects compares, for random policies in random worlds, what Effects says
// with what is compiled for each proxy from scratch before and after.
func TestEffects(t *testing.T) {
	told := 0
	for seed := range uint64(15) {
		w := newWorld(t)
		g := &generator{rng: rand.New(rand.NewPCG(seed, 3)), zones: true, many: 3}
		for range 60 {
			w.put(w.decode(g.anything()))
		}
		w.e.step()
		s := w.view.Snapshot()
		var proxies []ProxyInfo
		for i := range 8 {
			for _, mesh := range []string{"default", "other"} {
				p := dataplane(fmt.Sprintf("dp-%d", i))
				p.ID.Mesh = mesh
				proxies = append(proxies, p)
			}
		}
		for range 6 {
			p := w.decode(g.policy())
			after := s.With(p)
			if g.rng.IntN(2) == 0 {
				after = s.Without([]resource.ID{p.ID})
			}
			var want []string
			for _, info := range proxies {
				a, err := Build(w.e.in, s, info)
				if err != nil {
					continue
				}
				b, err := Build(w.e.in, after, info)
				if err != nil {
					t.Fatal(err)
				}
				for _, c := range compare(a.Resources, b.Resources) {
					want = append(want, info.ID.String()+" "+changesKey([]Change{c}))
				}
			}
			var got []string
			for _, e := range Effects(w.e.in, s, after, proxies) {
				for _, id := range e.Proxies {
					for _, c := range e.Changes {
						got = append(got, id.String()+" "+changesKey([]Change{c}))
					}
				}
			}
			slices.Sort(want)
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Fatalf("seed %d, %s: got\n%s\nwant\n%s", seed, p.ID, strings.Join(got, ""), strings.Join(want, ""))
			}
			told += len(got)
		}
	}
	if told < 20 {
		t.Errorf("only %d changes: the test compares nothing", told)
	}
}

// TestEffectsAreGrouped tells once what is the same for many proxies.
func TestEffectsAreGrouped(t *testing.T) {
	w := newWorld(t)
	w.apply(meshService("a", 1) + "\n---\n" + meshService("b", 2))
	var proxies []ProxyInfo
	for i := range 50 {
		w.apply(workload(fmt.Sprintf("web-%d", i), "web", 10+i, everything))
		proxies = append(proxies, dataplane(fmt.Sprintf("web-%d", i)))
	}
	w.apply(workload("client", "client", 3, onlyTo("a")))
	proxies = append(proxies, dataplane("client"))
	s := w.view.Snapshot()
	after := s.With(w.decode("type: MeshTimeout\nmesh: default\nname: t\nspec: {to: [{targetRef: {kind: MeshService, labels: {kuma.io/display-name: a}}, default: {connectionTimeout: 1s}}]}"))
	got := Effects(w.e.in, s, after, proxies)
	if len(got) != 1 || len(got[0].Proxies) != 51 || len(got[0].Changes) != 1 || got[0].Changes[0].Name != "kri_msvc_default_east__a_http" {
		t.Errorf("%+v", got)
	}
	after = s.With(w.decode("type: MeshTimeout\nmesh: default\nname: t\nspec: {to: [{targetRef: {kind: MeshService, labels: {kuma.io/display-name: b}}, default: {connectionTimeout: 1s}}]}"))
	if got = Effects(w.e.in, s, after, proxies); len(got) != 1 || len(got[0].Proxies) != 50 {
		t.Errorf("%+v", got)
	}
	if got = Effects(w.e.in, s, s, proxies); len(got) != 0 {
		t.Errorf("without a change: %+v", got)
	}
}
