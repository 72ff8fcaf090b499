package compile

import (
	"fmt"
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
			"zone-1 0: a b c | zone-2 1: d | zone-3 1: e | zone-4 1: f | zone-5 1: g"},
		{"priorities begin with 0", nil, remote, "zone-2 0: d | zone-3 0: e"},
		{"no zones", &ir.Placement{Flat: true}, all,
			"zone-1 0: a b c | zone-2 0: d | zone-3 0: e | zone-4 0: f | zone-5 0: g"},
		{"the own zone alone", &ir.Placement{Grouped: true}, all, "zone-1 0: a b c"},
		{"steps", &ir.Placement{Grouped: true, Steps: steps}, all,
			"zone-1 0: a b c | zone-2 1: d | zone-3 2: e | zone-4 3: f"},
		{"steps without the own zone", &ir.Placement{Grouped: true, Steps: steps}, remote, "zone-2 0: d | zone-3 1: e"},
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
