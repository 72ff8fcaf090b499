package compile

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/atoll-mesh/atoll/pkg/ir"
	"github.com/atoll-mesh/atoll/pkg/topology"
)

// Where endpoints of zones 1 to 5 belong for clients of zone-1, as the steps of
// a policy say.
func TestPlacement(t *testing.T) {
	at := func(zone, address, node string) topology.Endpoint {
		return topology.Endpoint{Address: address, Port: 80, Zone: zone, Weight: 2, Labels: map[string]string{"node": node, "other": "x"}}
	}
	all := &topology.Endpoints{List: []topology.Endpoint{
		at("zone-1", "a", "n1"), at("zone-1", "b", "n2"), at("zone-1", "c", "n3"),
		at("zone-2", "d", "n1"), at("zone-3", "e", ""), at("zone-4", "f", ""), at("zone-5", "g", ""),
	}}
	remote := &topology.Endpoints{List: all.List[3:5]}
	steps := []ir.Step{
		{Zones: []string{"zone-3", "zone-4", "zone-5"}, Except: true, Priority: 1},
		{Zones: []string{"zone-3"}, Priority: 2},
		{Zones: []string{"zone-4"}, Priority: 4}, // the third was for other clients
	}
	nodes := []ir.Affinity{{Key: "node", Value: "n1", Weight: 90}, {Key: "node", Value: "n2", Weight: 9}}
	for _, c := range []struct {
		name  string
		place *ir.Placement
		list  *topology.Endpoints
		want  string
	}{
		{"the own zone, then all others", nil, all,
			"zone-1 0: a b c | zone-2 1: d | zone-3 1: e | zone-4 1: f | zone-5 1: g % 200"},
		{"priorities begin with 0", nil, remote, "zone-2 0: d | zone-3 0: e"},
		{"no zones", &ir.Placement{Flat: true}, all,
			"zone-1 0: a b c | zone-2 0: d | zone-3 0: e | zone-4 0: f | zone-5 0: g"},
		{"the own zone alone", &ir.Placement{Grouped: true}, all, "zone-1 0: a b c"},
		{"steps", &ir.Placement{Grouped: true, Steps: steps}, all,
			"zone-1 0: a b c | zone-2 1: d | zone-3 2: e | zone-4 3: f % 200"},
		{"steps without the own zone", &ir.Placement{Grouped: true, Steps: steps}, remote, "zone-2 0: d | zone-3 1: e % 200"},
		{"affinity", &ir.Placement{Grouped: true, Weighted: true, Affinity: nodes, Steps: steps, Overprovisioning: 200}, all,
			"zone-1 0 w1: c | zone-1/node=n1 0 w90: a | zone-1/node=n2 0 w9: b | zone-2 1 w2: d | zone-3 2 w2: e | zone-4 3 w2: f % 200"},
		{"labels that Envoy needs", &ir.Placement{Keep: []string{"node"}}, &topology.Endpoints{List: all.List[:1]},
			"zone-1 0: a{node=n1}"},
		{"no endpoints", &ir.Placement{Grouped: true}, nil, ""},
	} {
		if got := describe(buildLoad("c", "zone-1", c.place, c.list)); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, c.want)
		}
	}
}

func describe(l *ir.ClusterLoad) string {
	var parts []string
	for _, loc := range l.Localities {
		s := loc.Zone
		if loc.SubZone != "" {
			s += "/" + loc.SubZone
		}
		s += fmt.Sprintf(" %d", loc.Priority)
		if loc.Weight != 0 {
			s += fmt.Sprintf(" w%d", loc.Weight)
		}
		s += ":"
		for _, e := range loc.Endpoints {
			s += " " + e.Address
			for k, v := range e.Labels {
				s += "{" + k + "=" + v + "}"
			}
		}
		parts = append(parts, s)
	}
	out := strings.Join(parts, " | ")
	if l.Overprovisioning != 0 {
		out += fmt.Sprintf(" %% %d", l.Overprovisioning)
	}
	return out
}

// shareOf is the part of the requests that an endpoint gets when all are healthy.
func shareOf(l *ir.ClusterLoad, address string) float64 {
	var localities, endpoints, at, own float64
	for _, loc := range l.Localities {
		if loc.Priority != 0 {
			continue
		}
		localities += float64(loc.Weight)
		var whole float64
		mine := false
		for _, e := range loc.Endpoints {
			w := float64(max(e.Weight, 1))
			endpoints += w
			whole += w
			if e.Address == address {
				own, mine = w, true
			}
		}
		if mine {
			at = float64(loc.Weight) / whole
		}
	}
	if localities > 0 {
		return at * own / localities
	}
	return own / endpoints
}

// What endpoints give away goes to others of their priority, or else to the next.
func TestCede(t *testing.T) {
	at := func(zone, address string, away uint32) topology.Endpoint {
		return topology.Endpoint{Address: address, Port: 80, Zone: zone, Weight: 1, Away: away, Labels: map[string]string{"node": address}}
	}
	local := func(away uint32) []topology.Endpoint {
		return []topology.Endpoint{at("zone-1", "a", away), at("zone-1", "b", away)}
	}
	affinity := &ir.Placement{
		Grouped: true, Weighted: true, Affinity: []ir.Affinity{{Key: "node", Value: "a", Weight: 90}},
		Steps: []ir.Step{{Zones: []string{"zone-2"}, Priority: 1}, {Except: true, Priority: 2}},
	}
	for _, c := range []struct {
		name  string
		place *ir.Placement
		list  []topology.Endpoint
		want  map[string]float64
	}{
		{"the own zone to all others", nil, append(local(40), at("zone-2", "c", 0), at("zone-3", "d", 0)),
			map[string]float64{"a": .3, "b": .3, "c": .2, "d": .2}},
		{"nobody else", nil, local(40), map[string]float64{"a": .5, "b": .5}},
		{"one of two", nil, []topology.Endpoint{at("zone-1", "a", 50), at("zone-1", "b", 0), at("zone-2", "c", 0)},
			map[string]float64{"a": 1. / 3, "b": 2. / 3, "c": 0}},
		{"another zone among equals", nil, []topology.Endpoint{at("zone-2", "c", 50), at("zone-3", "d", 0)},
			map[string]float64{"c": 1. / 3, "d": 2. / 3}},
		{"those who take give away too", nil, append(local(80), at("zone-2", "c", 50), at("zone-3", "d", 0)),
			map[string]float64{"a": .1, "b": .1, "c": .8 / 3, "d": 1.6 / 3}},
		{"no zones", &ir.Placement{Flat: true}, []topology.Endpoint{at("zone-1", "a", 90), at("zone-2", "c", 0)},
			map[string]float64{"a": 1. / 11, "c": 10. / 11}},
		{"the next step only", affinity, []topology.Endpoint{at("zone-1", "a", 25), at("zone-2", "c", 0), at("zone-3", "d", 0)},
			map[string]float64{"a": .75, "c": .25, "d": 0}},
		{"weights of localities", affinity, append(local(50), at("zone-2", "c", 0)),
			map[string]float64{"a": 90. / 91 / 2, "b": 1. / 91 / 2, "c": .5}},
		{"crossing is forbidden", &ir.Placement{Grouped: true}, append(local(50), at("zone-2", "c", 0)),
			map[string]float64{"a": .5, "b": .5, "c": 0}},
	} {
		l := buildLoad("c", "zone-1", c.place, &topology.Endpoints{List: c.list})
		for address, want := range c.want {
			got := 0.0
			if slices.ContainsFunc(l.Localities, func(loc ir.Locality) bool {
				return loc.Priority == 0 && slices.ContainsFunc(loc.Endpoints, func(e ir.Endpoint) bool { return e.Address == address })
			}) {
				got = shareOf(l, address)
			}
			if math.Abs(got-want) > 1e-4 {
				t.Errorf("%s: %s gets %.4f, want %.4f", c.name, address, got, want)
			}
		}
	}
}

// A client that may not cross keeps its own zone though that is drained.
func TestDrainedServesWhoMayNotCross(t *testing.T) {
	e := &topology.Endpoints{
		List: []topology.Endpoint{{Address: "c", Port: 80, Zone: "zone-2", Weight: 1}},
		Out:  []topology.Endpoint{{Address: "a", Port: 80, Zone: "zone-1", Weight: 1, Away: 100}},
	}
	if got := describe(buildLoad("c", "zone-1", &ir.Placement{Grouped: true}, e)); got != "zone-1 0: a" {
		t.Error(got)
	}
	if got := describe(buildLoad("c", "zone-1", nil, e)); got != "zone-2 0: c" {
		t.Error(got)
	}
}
