package failover_test

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

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
		out = append(out, strings.TrimSpace(fmt.Sprintf("%s p%d %.2f %s", x.Zone, x.Priority, x.Share, x.Standing)))
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

// A look ahead starts from the world as it is: what is drained gets requests only
// when nobody else is left, and what is not reached serves nothing.
func TestSimulateFromNow(t *testing.T) {
	base := sound(t)
	for _, z := range []string{"north", "southern"} {
		base["zone "+z] = "type: Zone\nname: " + z + "\n"
	}
	base["client north"], base["trust north"] = proxy("north", "client-1", "inbound: [{port: 8080}]"), trust(t, "north", 8*365*24*time.Hour)
	for _, name := range []string{"service", "entrance", "trust"} {
		base[name+" southern"] = map[string]string{
			"service": service("southern", "web"), "entrance": entrance("southern"), "trust": trust(t, "southern", 8*365*24*time.Hour),
		}[name]
	}
	base["backend southern 1"], base["ingress southern 1"], base["ingress southern 2"] = backend("southern", 1, "web"), ingress("southern", 1), ingress("southern", 2)
	service := strings.Replace(drained, "share: 0", "share: 100, services: [{mesh: m, name: backend, share: 0}]", 1)
	away := strings.NewReplacer("east-to", "north-to", "zone: east", "zone: north", "observer: east", "observer: north").Replace(link)
	for name, c := range map[string]struct {
		docs          docs
		outcome       string
		before, after string
		codes         string // of north's errors when east is lost
		drainable     bool   // east
	}{
		"all is well":          {base, failover.Moves, "east p0 0.33, southern p0 0.33, western p0 0.33", "southern p0 0.50, western p0 0.50", "[]", true},
		"a zone is drained":    {base.with("drained", drained), failover.Moves, "east p0 0.50, southern p0 0.50", "southern p0 1.00", "[]", true},
		"a service is":         {base.with("drained", service), failover.Moves, "east p0 0.50, southern p0 0.50", "southern p0 1.00", "[]", true},
		"the only other is":    {base.without("backend southern", "service southern").with("drained", drained), failover.Moves, "east p0 1.00", "western p0 1.00 drained", "[]", false},
		"the lost one is":      {base.with("drained", strings.Replace(drained, "western", "east", 1)), failover.Unaffected, "southern p0 0.50, western p0 0.50", "southern p0 0.50, western p0 0.50", "[]", true},
		"one is not reached":   {base.with("link", away), failover.Moves, "east p0 0.50, southern p0 0.50", "southern p0 1.00", "[]", true},
		"the only other isn't": {base.without("backend southern", "service southern").with("link", away), failover.Lost, "east p0 1.00", "western p0 1.00 unreachable", "[ATL1014]", false},
	} {
		in := c.docs.live(t)
		s, err := failover.Simulate(in, "east", "m")
		if err != nil {
			t.Fatal(err)
		}
		m := move(t, s, "north", "kri_mzsvc_m___backend_")
		if m.Outcome != c.outcome || placed(m.Before) != c.before || placed(m.After) != c.after {
			t.Errorf("%s: %s, %s, then %s", name, m.Outcome, placed(m.Before), placed(m.After))
		}
		codes := []string{}
		for _, g := range check(t, in, failover.Query{Zone: "east"}).Gaps {
			if g.Severity == failover.Error {
				codes = append(codes, g.Code)
			}
		}
		if fmt.Sprint(codes) != c.codes {
			t.Errorf("%s: errors %v, want %s", name, codes, c.codes)
		}
		gaps, err := failover.Breaks(in, failover.Drain{Zone: "east"})
		if err != nil {
			t.Fatal(err)
		}
		if (len(gaps) == 0) != c.drainable {
			t.Errorf("%s: draining east would break %v", name, gaps)
		}
	}
	// What stands ready is not counted twice: of three endpoints one would remain.
	r := check(t, base.with("drained", drained).live(t), failover.Query{Zone: "east"})
	i := slices.IndexFunc(r.Losses, func(l failover.Loss) bool { return l.Zone == "east" })
	if i < 0 || len(r.Losses[i].Serves) != 1 || r.Losses[i].Serves[0].Zone != "southern" || !slices.Contains(r.Losses[i].Gaps, failover.TooFew) {
		t.Errorf("%+v", r.Losses)
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
