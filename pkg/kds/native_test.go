package kds

import (
	"context"
	"testing"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/metadata"

	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/view"
)

func (s *site) link(observed string, state kind.ZoneLinkState) *resource.Object {
	s.t.Helper()
	return s.write(s.id(kind.ZoneLink, "", kind.ZoneLinkName(s.name, observed)),
		&kind.ZoneLinkSpec{Observer: s.name, Observed: observed, State: state}, nil)
}

// What a zone says of itself reaches all, what it says of others the global
// only, and neither a zone that is no Atoll.
func TestLinksOfZonesTravel(t *testing.T) {
	global := newSite(t, "").serve(nil, "g1")
	east, west := newSite(t, "east"), newSite(t, "west")
	east.join(global.address, nil)
	west.join(global.address, nil)
	ofSelf, ofWest := east.link("east", kind.LinkDown), east.link("west", kind.LinkUp)
	forged := west.write(west.id(kind.ZoneLink, "", "north-to-north"), &kind.ZoneLinkSpec{Observer: "north", Observed: "north", State: kind.LinkDown}, nil)
	last := east.policy("after", "links")
	for _, o := range []*resource.Object{ofSelf, ofWest, forged, last} {
		global.untilHas(copyOf(o))
	}
	if got := west.untilHas(copyOf(ofSelf)); got.Zone() != "east" || resource.SpecOf[kind.ZoneLinkSpec](got).State != kind.LinkDown {
		t.Errorf("west has %v %s", got.Labels, got.SpecWire())
	}
	// Changes travel too, and by then the other links would have.
	again := east.link("east", kind.LinkUp)
	west.until("east is up", func(s *view.Snapshot) bool {
		o := s.Get(copyOf(again))
		return o != nil && resource.SpecOf[kind.ZoneLinkSpec](o).State == kind.LinkUp
	})
	for at, o := range map[*site]*resource.Object{west: ofWest, east: forged} {
		if got := at.view.Snapshot().Get(copyOf(o)); got != nil {
			t.Errorf("%s was told %s", at.name, got.ID)
		}
	}
	east.remove(again.ID)
	west.untilLacks(copyOf(again))

	c, _ := dial(t, global.address)
	stream, err := c.GlobalToZoneSync(metadata.NewOutgoingContext(context.Background(),
		metadata.Pairs("client-id", "stock", "features", "hash-suffix")))
	if err != nil {
		t.Fatal(err)
	}
	east.link("east", kind.LinkDown)
	global.untilHas(copyOf(again))
	for _, typ := range []resource.Type{kind.ZoneLink, kind.ZoneTraffic} {
		req := &discovery.DeltaDiscoveryRequest{Node: &core.Node{Id: "stock"}, TypeUrl: string(typ), ResourceNamesSubscribe: []string{"*"}}
		if err := stream.Send(req); err != nil {
			t.Fatal(err)
		}
		resp, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if resp.TypeUrl != string(typ) || len(resp.Resources) > 0 {
			t.Errorf("a stock zone was sent %v", resp)
		}
	}
}
