package failover_test

import (
	"slices"
	"testing"

	"github.com/atoll-mesh/atoll/pkg/failover"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// inZone is a scenario as the control plane of a zone has it: the proxies of
// others are not there.
func (d docs) inZone(t testing.TB, zone string) failover.Inputs {
	in := d.live(t)
	in.Site = resource.Site{Federated: true, Zone: zone, Env: resource.EnvUniversal}
	objects := in.Source.(failover.Objects)
	for typ, list := range objects {
		objects[typ] = slices.DeleteFunc(list, func(o *resource.Object) bool {
			if o.Zone() == "" || o.Zone() == zone {
				return false
			}
			o.Labels[resource.LabelOrigin] = resource.OriginGlobal
			return typ == kind.Dataplane
		})
	}
	delete(objects, kind.Zone)
	return in
}

// A zone tells for its own clients what it can know.
func TestInZone(t *testing.T) {
	d := sound(t)
	if r := check(t, d.inZone(t, "east"), failover.Query{}); len(r.Gaps) > 0 || len(r.Losses) != 2 {
		t.Errorf("sound:\n%s%+v", text(r), r.Losses)
	}
	for code, d := range map[string]docs{
		failover.OneZone:    d.without("service western"),
		failover.NotJoined:  d.without("join"),
		failover.NoEntrance: d.without("entrance western"),
		failover.NoTrust:    d.without("trust western"),
	} {
		r := check(t, d.inZone(t, "east"), failover.Query{Zone: "east"})
		if len(r.Gaps) != 1 || r.Gaps[0].Code != code {
			t.Errorf("%s:\n%s", code, text(r))
		}
	}
	s, err := failover.Simulate(d.inZone(t, "east"), "east", "m")
	if err != nil {
		t.Fatal(err)
	}
	m := move(t, s, "east", "kri_mzsvc_m___backend_")
	if m.Outcome != failover.Moves || placed(m.After) != "western p0 1.00" {
		t.Errorf("%s to %s", m.Outcome, placed(m.After))
	}
}
