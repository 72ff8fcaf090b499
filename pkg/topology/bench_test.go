package topology_test

import (
	"fmt"
	"testing"

	mesh_proto "github.com/atoll-mesh/atoll/api/kuma/mesh/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/topology"
)

// BenchmarkOneDataplane changes one of many Dataplanes, ten for each service.
// The time must not follow the number of Dataplanes.
func BenchmarkOneDataplane(b *testing.B) {
	for _, services := range []int{100, 1000} {
		b.Run(fmt.Sprint(services), func(b *testing.B) {
			w := world{}
			for i := range services {
				app := map[string]string{"app": fmt.Sprint(i), resource.LabelMesh: "m", resource.LabelZone: "east"}
				svc := resource.ID{Type: kind.MeshService, Mesh: "m", Name: fmt.Sprint("svc-", i)}
				w[svc] = object(b, svc, epoch, nil, &kind.MeshServiceSpec{
					Selector: kind.MeshServiceSelector{DataplaneLabels: &kind.DataplaneLabels{MatchLabels: app}},
					Ports:    []kind.MeshServicePort{{Port: 80, TargetPort: &kind.IntOrString{Int: 8080}}},
				}, nil)
				for j := range 10 {
					dp := resource.ID{Type: kind.Dataplane, Mesh: "m", Name: fmt.Sprint("dp-", i, "-", j)}
					w[dp] = object(b, dp, epoch, app, proxyAt(fmt.Sprintf("10.%d.%d.%d", i/250, i%250, j)), nil)
				}
			}
			state := topology.FromScratch(east, w)
			id := resource.ID{Type: kind.Dataplane, Mesh: "m", Name: "dp-7-3"}
			two := [2]*resource.Object{
				object(b, id, epoch, w[id].Labels, proxyAt("10.99.0.1"), nil), object(b, id, epoch, w[id].Labels, proxyAt("10.99.0.2"), nil),
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				w[id] = two[i%2]
				next, changed := topology.Derive(state, w, []resource.ID{id})
				if len(changed) != 1 {
					b.Fatalf("changed %v", changed)
				}
				state = next
			}
		})
	}
}

func proxyAt(address string) *mesh_proto.Dataplane {
	return &mesh_proto.Dataplane{Networking: &kind.Networking{Address: address, Inbound: []*kind.DataplaneInbound{{Port: 8080}}}}
}
