package kds

import (
	"testing"

	meshv1 "github.com/atoll-mesh/atoll/api/kuma/mesh/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

func TestBothDirections(t *testing.T) {
	global := newSite(t, "").serve(nil, "g1")
	global.clusterID("one")
	global.write(global.id(kind.Mesh, "", "default"), &meshv1.Mesh{}, nil)
	p := global.policy("timeouts", "5s")

	east, west := newSite(t, "east"), newSite(t, "west")
	east.join(global.address, nil)
	west.join(global.address, nil)

	for _, z := range []*site{east, west} {
		z.untilHas(z.id(kind.Mesh, "", "default"))
		z.untilEqual(copyOf(p), &policySpec{Value: "5s"})
	}
	p = global.policy("timeouts", "6s")
	for _, z := range []*site{east, west} {
		z.untilEqual(copyOf(p), &policySpec{Value: "6s"})
	}

	// A service of one zone reaches the global and the other zone, under the same
	// name, and does not come back.
	svc := east.write(east.id(kind.MeshService, "default", "backend"), &kind.MeshServiceSpec{State: kind.ServiceAvailable}, nil)
	at := global.untilHas(copyOf(svc))
	if at.Labels[resource.LabelOrigin] != "zone" || at.Labels[resource.LabelZone] != "east" {
		t.Errorf("labels at the global: %v", at.Labels)
	}
	at = west.untilHas(copyOf(svc))
	if at.Labels[resource.LabelOrigin] != "global" || at.Labels[resource.LabelZone] != "east" {
		t.Errorf("labels in the other zone: %v", at.Labels)
	}
	if o := east.view.Snapshot().Get(copyOf(svc)); o != nil {
		t.Errorf("the service came back as %s", o.ID)
	}
	east.remove(svc.ID)
	global.untilLacks(copyOf(svc))
	west.untilLacks(copyOf(svc))

	global.remove(p.ID)
	east.untilLacks(copyOf(p))
	west.untilLacks(copyOf(p))
}
