package xds

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/atoll-mesh/atoll/pkg/delta"
)

func TestSetLayers(t *testing.T) {
	shared := NewLayer(layer(Clusters, res("a", "1"), res("b", "1")))
	own := NewLayer(layer(Clusters, res("b", "own"), res("c", "1")))
	s := NewSet(1, shared, own)
	src := s.Source(Clusters)
	var all []string
	for r := range src.All() {
		all = append(all, r.Name+"@"+r.Version)
	}
	slices.Sort(all)
	if fmt.Sprint(all) != "[a@1 b@own c@1]" || src.Len() != 3 || src.Get("b").Version != "own" || src.Get("d") != nil {
		t.Errorf("%v, %d", all, src.Len())
	}
	if n := s.Source(Routes).Len(); n != 0 {
		t.Errorf("%d routes", n)
	}
	if names, ok := s.At(2).Source(Clusters).ChangedSince(src); !ok || len(names) != 0 {
		t.Errorf("the same layers at another revision differ by %v", names)
	}
	if l := shared.Becoming(layer(Clusters, res("a", "1"), res("b", "1"))); l != shared {
		t.Error("became the same, but is another layer")
	}
}

// Whatever happens to layers, the names that a source says changed include all
// that did, each once.
func TestSetChanges(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	random := func() Changes {
		c := Changes{}
		for range rnd.IntN(4) {
			name := fmt.Sprint("n", rnd.IntN(12))
			kind := Type(rnd.IntN(2))
			if rnd.IntN(3) == 0 {
				c.Remove(kind, name)
			} else {
				c.Put(kind, res(name, fmt.Sprint(rnd.IntN(3))))
			}
		}
		return c
	}
	layers := []*Layer{NewLayer(random()), NewLayer(random())}
	sets := []*Set{NewSet(0, layers...)}
	for rev := range uint64(500) {
		layers = slices.Clone(layers)
		i := rnd.IntN(len(layers))
		switch rnd.IntN(10) {
		case 0:
			layers[i] = NewLayer(random())
		case 1:
			layers = append(layers, nil)
		case 2:
			if len(layers) > 1 {
				layers = slices.Delete(layers, i, i+1)
			}
		case 3:
			layers[i] = layers[i].Becoming(random())
		default:
			layers[i] = layers[i].With(random())
		}
		next := NewSet(rev, layers...)
		sets = append(sets, next)
		prev := sets[max(0, len(sets)-1-rnd.IntN(8))]
		for _, kind := range []Type{Clusters, Endpoints} {
			a, b := prev.Source(kind), next.Source(kind)
			names, ok := b.ChangedSince(a)
			if !ok {
				t.Fatal("not known")
			}
			for i := range 12 {
				name := fmt.Sprint("n", i)
				n := len(slices.DeleteFunc(slices.Clone(names), func(s string) bool { return s != name }))
				if n > 1 || n == 0 && !same(a.Get(name), b.Get(name)) {
					t.Fatalf("%s is named %d times: %v → %v", name, n, a.Get(name), b.Get(name))
				}
			}
		}
	}
}

func same(a, b *delta.Resource) bool {
	return a == b || a != nil && b != nil && a.Version == b.Version
}
