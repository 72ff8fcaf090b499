package failover_test

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/atoll-mesh/atoll/pkg/failover"
)

func move(t *testing.T, s *failover.Simulation, zone, destination string) failover.Move {
	t.Helper()
	for _, m := range s.Moves {
		if m.Zone == zone && strings.HasPrefix(m.Destination, destination) {
			return m
		}
	}
	t.Fatalf("no move of %s in %s: %+v", destination, zone, s.Moves)
	return failover.Move{}
}

func placed(list []failover.Target) string {
	var out []string
	for _, x := range list {
		out = append(out, fmt.Sprintf("%s p%d %.2f", x.Zone, x.Priority, x.Share))
	}
	return strings.Join(out, ", ")
}

// A third zone that has clients only goes where the service is left; what was
// called by the name of the lost zone alone is lost.
func TestSimulate(t *testing.T) {
	d := sound(t)
	d["zone north"] = "type: Zone\nname: north\n"
	d["client north"] = proxy("north", "client-1", "inbound: [{port: 8080}]")
	s, err := failover.Simulate(d.inputs(t), "east", "")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range s.Moves {
		if m.Zone == "east" {
			t.Errorf("clients of the lost zone: %+v", m)
		}
	}
	joined := move(t, s, "north", "kri_mzsvc_m___backend_")
	if joined.Outcome != failover.Moves || placed(joined.Before) != "east p0 0.50, western p0 0.50" || placed(joined.After) != "western p0 1.00" {
		t.Errorf("joined: %s, %s, then %s", joined.Outcome, placed(joined.Before), placed(joined.After))
	}
	local := move(t, s, "western", "kri_mzsvc_m___backend_")
	if local.Outcome != failover.Unaffected || placed(local.Before) != "western p0 0.50, western p0 0.50, east p1 0.00" || placed(local.After) != "western p0 0.50, western p0 0.50" {
		t.Errorf("local: %s, %s, then %s", local.Outcome, placed(local.Before), placed(local.After))
	}
	if alone := move(t, s, "north", "kri_msvc_m_east_"); alone.Outcome != failover.Lost {
		t.Errorf("alone: %+v", alone)
	}
	if _, err := failover.Simulate(d.inputs(t), "south", ""); !errors.Is(err, failover.ErrNoZone) {
		t.Errorf("a zone that there is not: %v", err)
	}
}

// What check says agrees with simulate over all combinations of what may be
// missing: a service that clients elsewhere would lose has an error, and one that
// they keep has none.
func TestCheckAgreesWithSimulate(t *testing.T) {
	all := sound(t)
	all["zone north"] = "type: Zone\nname: north\n"
	all["client north"] = proxy("north", "client-1", "inbound: [{port: 8080}]")
	strategy := "type: MeshLoadBalancingStrategy\nmesh: m\nname: home\nspec: {to: [{targetRef: {kind: Mesh}, default: {localityAwareness: {crossZone: {failover: [{to: {type: Only, zones: [east]}}]}}}}]}\n"
	missing := []string{"entrance western", "identity", "backend western", "strategy"}
	for bits := range 1 << len(missing) {
		d := all
		var without []string
		for i, name := range missing {
			switch {
			case bits&(1<<i) == 0:
			case name == "strategy":
				d = d.with(name, strategy)
			default:
				d = d.without(name)
			}
			if bits&(1<<i) != 0 {
				without = append(without, name)
			}
		}
		in := d.inputs(t)
		s, err := failover.Simulate(in, "east", "m")
		if err != nil {
			t.Fatal(err)
		}
		m := move(t, s, "north", "kri_mzsvc_m___backend_")
		r := check(t, in, failover.Query{Zone: "east"})
		broken := slices.ContainsFunc(r.Gaps, func(g failover.Gap) bool { return g.Severity == failover.Error })
		if (len(m.After) == 0) != broken {
			t.Errorf("without %v: %s, but\n%s", without, m.Outcome, text(r))
		}
	}
}

// Answers do not depend on anything but the question.
func TestStable(t *testing.T) {
	d := sound(t).without("entrance", "trust western").with("service western", service("western", "other"))
	first := check(t, d.live(t), failover.Query{})
	for range 5 {
		if again := check(t, d.live(t), failover.Query{}); !reflect.DeepEqual(first, again) {
			t.Fatalf("first\n%s\nthen\n%s", text(first), text(again))
		}
	}
}

// Every code has its section, and every section its code.
func TestDocumented(t *testing.T) {
	b, err := os.ReadFile("../../docs/failover.md")
	if err != nil {
		t.Fatal(err)
	}
	for n := 1001; n <= 1019; n++ {
		if !strings.Contains(string(b), fmt.Sprintf("\n## ATL%d\n", n)) {
			t.Errorf("ATL%d has no section", n)
		}
	}
	if strings.Count(string(b), "\n## ATL") != 19 {
		t.Errorf("there are sections of codes that do not exist")
	}
}
