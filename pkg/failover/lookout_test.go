package failover_test

import (
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/atoll-mesh/atoll/pkg/failover"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// differing are the resources that two scenarios do not have alike.
func differing(t *testing.T, a, b failover.Inputs) []resource.ID {
	t.Helper()
	was, is := map[resource.ID]*resource.Object{}, map[resource.ID]*resource.Object{}
	for in, out := range map[*failover.Inputs]map[resource.ID]*resource.Object{&a: was, &b: is} {
		for _, list := range in.Source.(failover.Objects) {
			for _, o := range list {
				out[o.ID] = o
			}
		}
	}
	var ids []resource.ID
	for id, o := range was {
		if is[id] == nil || !o.SameContent(is[id]) || !maps.Equal(o.Labels, is[id].Labels) {
			ids = append(ids, id)
		}
	}
	for id := range is {
		if was[id] == nil {
			ids = append(ids, id)
		}
	}
	return ids
}

// TestLookout goes through random histories: what is found by looking at changes
// only is what is found by looking at everything.
func TestLookout(t *testing.T) {
	base := sound(t)
	base["zone north"], base["client north"] = "type: Zone\nname: north\n", proxy("north", "client-1", "inbound: [{port: 8080}]")
	cart := func(doc string) string { return strings.ReplaceAll(doc, "backend", "cart") }
	team := func(doc string) string { return strings.Replace(doc, "kuma.io/zone:", "team: a, kuma.io/zone:", 1) }
	other := map[string]string{}
	for _, z := range []string{"east", "western"} {
		base["service "+z] = team(base["service "+z])
		base["cart service "+z], base["cart "+z] = cart(base["service "+z]), cart(backend(z, 1, "web"))
		other["service "+z] = service(z, "other")
		other["cart service "+z] = strings.Replace(base["cart service "+z], "team: a, ", "", 1)
		other["backend "+z+" 1"] = proxy(z, "backend-1", "inbound: [{port: 8080, name: web, state: NotReady}]")
		other["client "+z] = strings.Replace(base["client "+z], "app: ", "other: x, app: ", 1)
		other["zone "+z] = "type: Zone\nname: " + z + "\nenabled: false\n"
	}
	base["cart join"] = cart(base["join"])
	base["team join"] = strings.NewReplacer("name: backend", "name: team", "kuma.io/display-name: backend", "team: a").Replace(base["join"])
	base["route"], base["link"], base["drained"] = routed, link, drained
	names := slices.Sorted(maps.Keys(base))
	frequent := slices.DeleteFunc(slices.Clone(names), func(n string) bool {
		return !strings.Contains(n, "service") && !strings.Contains(n, "backend") && !strings.Contains(n, "cart ") && !strings.Contains(n, "client") && !strings.Contains(n, "ingress")
	})
	for seed := range uint64(4) {
		rng := rand.New(rand.NewPCG(seed, 7))
		d := base.without("route", "link", "drained")
		in := d.live(t)
		l := &failover.Lookout{}
		l.Check(in, nil, true)
		steps, full := 0, 0
		for range 60 {
			next := d.with("", "")
			delete(next, "")
			for range 1 + rng.IntN(2) {
				from := frequent
				if rng.IntN(6) == 0 {
					from = names
				}
				n := from[rng.IntN(len(from))]
				_, there := next[n]
				switch {
				case there && other[n] != "" && next[n] != other[n] && rng.IntN(2) == 0:
					next[n] = other[n]
				case there && rng.IntN(3) > 0:
					delete(next, n)
				default:
					next[n] = base[n]
				}
			}
			was := in
			d, in = next, next.live(t)
			changed := differing(t, was, in)
			built := l.Rebuilt
			got := l.Check(in, changed, false)
			steps++
			full += l.Rebuilt - built
			if want := check(t, in, failover.Query{}); !reflect.DeepEqual(got, want) {
				t.Fatalf("seed %d, step %d, after %v (anew: %v):\n%s\nwant\n%s", seed, steps, changed, l.Rebuilt > built, text(got), text(want))
			}
		}
		if full > steps/2 {
			t.Errorf("seed %d: %d of %d times all was found anew", seed, full, steps)
		}
	}
}

// A change of one proxy concerns its service, and no other.
func TestLookoutLooksAtLittle(t *testing.T) {
	d := large(t, 30, 3, 6)
	in := d.live(t)
	l := &failover.Lookout{}
	l.Check(in, nil, true)
	if l.Looked != 30 || l.Rebuilt != 1 {
		t.Fatalf("at first %d services were looked at, %d times all", l.Looked, l.Rebuilt)
	}
	gone := slices.Sorted(maps.Keys(d))
	gone = slices.DeleteFunc(gone, func(n string) bool { return !strings.HasPrefix(n, "proxy ") })
	after := d.without(gone[0]).live(t)
	l.Check(after, differing(t, in, after), false)
	if l.Looked != 31 || l.Rebuilt != 1 {
		t.Errorf("for one proxy %d services were looked at, %d times all", l.Looked-30, l.Rebuilt-1)
	}
	l.Check(after, []resource.ID{{Type: "Workload", Mesh: "m", Name: "w"}, {Type: "DataplaneInsight", Mesh: "m", Name: "w"}}, false)
	if l.Looked != 31 || l.Rebuilt != 1 {
		t.Errorf("for what opens no gap %d services were looked at, %d times all", l.Looked-31, l.Rebuilt-1)
	}

	// What would take too much to be remembered is not.
	d = large(t, 1, 40, 40)
	in, l = d.live(t), &failover.Lookout{}
	for range 2 {
		l.Check(in, nil, false)
	}
	if l.Rebuilt != 2 {
		t.Errorf("a service in 40 zones are remembered")
	}
}
