package control_test

import (
	"net/netip"
	"testing"

	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

const (
	// A global wrote it; it came by sync.
	everywhere = `{"mesh": "default", "name": "everywhere-x", "labels": {"kuma.io/origin": "global", "kuma.io/display-name": "everywhere"}, "spec": {"selector": {"meshService": {"matchLabels": {"kuma.io/display-name": "backend"}}}, "ports": [{"port": 80}]}}`
	outside    = `{"mesh": "default", "name": "outside", "spec": {"match": {"type": "HostnameGenerator", "port": 443}}}`
)

// Each kind has its own range, and a federated zone gives out its own addresses
// also to what the global wrote.
func TestAddressesOfOtherKinds(t *testing.T) {
	inBubble(t, federated, func(t *testing.T, p *plane) {
		p.apply(kind.Mesh, mesh)
		p.receive(kind.MeshMultiZoneService, everywhere)
		p.apply(kind.MeshExternalService, outside)
		p.start()
		multi := p.get(kind.MeshMultiZoneService, "default", "everywhere-x")
		p.want("status", statusOf(multi), `{"vips":[{"ip":"243.0.0.0"}],"conditions":[{"type":"MeshServicesMatched","status":"False","reason":"NoMatchesFound","message":"no MeshService of the mesh has the labels of the selector"}]}`)
		external := p.get(kind.MeshExternalService, "default", "outside")
		p.want("status", statusOf(external), `{"vip":{"ip":"242.0.0.0"}}`)
		p.apply(kind.MeshExternalService, outside)
		p.settle()
		p.want("status", statusOf(p.get(kind.MeshExternalService, "default", "outside")), `{"vip":{"ip":"242.0.0.0"}}`)
	})
	site := resource.Site{Zone: "east", Env: resource.EnvKubernetes}
	inBubble(t, site, func(t *testing.T, p *plane) {
		p.cfg.ExternalServiceCIDR = netip.MustParsePrefix("10.9.0.0/24")
		p.apply(kind.Mesh, mesh)
		p.apply(kind.MeshExternalService, outside)
		p.start()
		p.want("on Kubernetes", statusOf(p.get(kind.MeshExternalService, "default", "outside")), `{"vip":{"ip":"10.9.0.0"}}`)
	})
}

func TestMultiZoneStatus(t *testing.T) {
	inBubble(t, federated, func(t *testing.T, p *plane) {
		members := func() string {
			t.Helper()
			p.settle()
			s := resource.StatusOf[kind.MeshMultiZoneServiceStatus](p.get(kind.MeshMultiZoneService, "default", "everywhere-x"))
			list := s.Conditions[len(s.Conditions)-1].Status + ":"
			for _, m := range s.MeshServices {
				list += " " + m.Zone + "/" + m.Namespace + "/" + m.Name
			}
			return list
		}
		remote := `{"mesh": "default", "name": "backend-abc", "labels": {"kuma.io/origin": "global", "kuma.io/zone": "west", "k8s.kuma.io/namespace": "ns", "kuma.io/display-name": "backend"}, "spec": {"ports": [{"port": 80}]}}`
		p.apply(kind.Mesh, mesh)
		p.receive(kind.MeshMultiZoneService, everywhere)
		p.start()
		p.want("at first", members(), "False:")
		p.apply(kind.MeshService, service("backend"), service("other"))
		p.want("with a local one", members(), "True: east//backend")
		p.receive(kind.MeshService, remote)
		p.want("with one of west", members(), "True: east//backend west/ns/backend")
		p.delete(resource.ID{Type: kind.MeshService, Mesh: "default", Name: "backend"})
		p.want("without the local one", members(), "True: west/ns/backend")
		p.delete(resource.ID{Type: kind.MeshService, Mesh: "default", Name: "backend-abc"})
		p.want("in the end", members(), "False:")
	})
}
