package kds

import (
	"testing"

	meshv1 "github.com/atoll-mesh/atoll/api/kuma/mesh/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/topology"
	"github.com/atoll-mesh/atoll/pkg/view"
)

// What zones and the global say about services makes, in every zone, the
// destinations that can be called there, without anything else being written.
func TestDestinationsOfZones(t *testing.T) {
	global := newSite(t, "").serve(nil, "g1")
	global.clusterID("one")
	global.write(global.id(kind.Mesh, "", "default"), &meshv1.Mesh{}, nil)
	multi := global.write(global.id(kind.MeshMultiZoneService, "default", "everywhere"), &kind.MeshMultiZoneServiceSpec{
		Selector: kind.MultiZoneSelector{MeshService: kind.LabelSelector{MatchLabels: map[string]string{resource.LabelDisplayName: "backend"}}},
		Ports:    []kind.MultiZonePort{{Port: 80}},
	}, nil)
	outside := global.write(global.id(kind.MeshExternalService, "default", "outside"), &kind.MeshExternalServiceSpec{Match: kind.ExternalMatch{Port: 443}}, nil)
	identity := global.write(global.id(kind.MeshIdentity, "default", "identity"), &kind.MeshIdentitySpec{}, nil)

	east, west := newSite(t, "east"), newSite(t, "west")
	east.join(global.address, nil)
	west.join(global.address, nil)
	west.untilHas(copyOf(identity))

	service := func(state string) *resource.Object {
		return east.write(east.id(kind.MeshService, "default", "backend"), &kind.MeshServiceSpec{
			State: state, Ports: []kind.MeshServicePort{{Port: 80}},
			Identities: []kind.ServiceIdentity{{Type: "SpiffeID", Value: "spiffe://default.east/backend"}},
		}, nil)
	}
	svc := service(kind.ServiceAvailable)
	address := east.write(east.id(kind.MeshZoneAddress, "default", "entrance"), &kind.MeshZoneAddressSpec{Address: "203.0.113.1", Port: 10001}, nil)
	local := east.write(east.id(kind.MeshExternalService, "default", "of-east"), &kind.MeshExternalServiceSpec{Match: kind.ExternalMatch{Port: 443}}, nil)

	endpoints := func(s *view.Snapshot, id resource.ID) []topology.Endpoint {
		e := s.Topology().Endpoints(topology.EndpointsKey{Destination: id, Section: "80"})
		if e == nil {
			return nil
		}
		return e.List
	}
	entered := func(id resource.ID) func(*view.Snapshot) bool {
		return func(s *view.Snapshot) bool {
			list := endpoints(s, id)
			return len(list) == 1 && list[0].Address == "203.0.113.1" && list[0].Port == 10001 && list[0].Zone == "east" && list[0].Proxy.Name == ""
		}
	}
	west.until("the entrance of east behind its service", entered(copyOf(svc)))
	west.until("the entrance of east behind the service of all zones", entered(copyOf(multi)))
	snap := west.view.Snapshot()
	d := snap.Topology().Destination(copyOf(svc))
	if d.Local || !d.Available || d.Zone != "east" || d.Labels[resource.LabelOrigin] != resource.OriginGlobal || d.KRI.String() != "kri_msvc_default_east__backend_" {
		t.Errorf("the service of east, in west: %+v", d)
	}
	if sni, _ := d.KRI.WithSection("80").SNI(); sni != "sni.msvc.default.east.backend.80" {
		t.Errorf("server name %s", sni)
	}
	all := snap.Topology().Destination(copyOf(multi))
	if len(all.Identities) != 1 || all.KRI.String() != "kri_mzsvc_default___everywhere_" {
		t.Errorf("the service of all zones: %+v", all)
	}
	if snap.Topology().Destination(copyOf(outside)) == nil {
		t.Error("what is outside the mesh is no destination")
	}
	if o := snap.Get(copyOf(address)); o == nil || o.Zone() != "east" {
		t.Errorf("address: %v", o)
	}

	// In east the same service is served by workloads, not by the entrance.
	own := east.view.Snapshot().Topology()
	if d := own.Destination(svc.ID); !d.Local {
		t.Errorf("the service of east, in east: %+v", d)
	}
	east.until("the service of all zones", func(s *view.Snapshot) bool { return s.Topology().Destination(copyOf(multi)) != nil })
	if got := east.view.Snapshot().Topology().Joined(copyOf(multi)); len(got) != 1 || got[0].ID != svc.ID {
		t.Errorf("members in east: %v", got)
	}

	// What is outside stays a matter of the zone that said so, and of the global.
	global.untilHas(copyOf(local))
	if west.view.Snapshot().Get(copyOf(local)) != nil {
		t.Error("the external service of one zone reached another one")
	}

	service(kind.ServiceUnavailable)
	west.until("nobody behind the service of all zones", func(s *view.Snapshot) bool { return len(endpoints(s, copyOf(multi))) == 0 })
	service(kind.ServiceAvailable)
	west.until("the entrance again", entered(copyOf(multi)))
	global.remove(identity.ID)
	west.until("nobody without identities", func(s *view.Snapshot) bool {
		return len(endpoints(s, copyOf(multi)))+len(endpoints(s, copyOf(svc))) == 0
	})
}
