package control

import (
	"slices"

	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/topology"
)

// multiZoneStatus states of each MeshMultiZoneService which MeshServices it
// consists of, as this zone sees it.
type multiZoneStatus struct{}

func (multiZoneStatus) plan(p *pass) {
	due := map[resource.ID]bool{}
	for id := range p.touched(kind.MeshMultiZoneService) {
		due[id] = true
	}
	if !p.full { // otherwise all are due already
		for id := range p.touched(kind.MeshService) {
			if p.old != nil {
				for _, m := range p.old.Topology().Joining(id) {
					due[m] = true
				}
			}
			for _, m := range p.now.Topology().Joining(id) {
				due[m] = true
			}
		}
	}
	for id := range due {
		if cur := p.get(id); cur != nil {
			p.put(joined(cur, p.now.Topology().Joined(id)))
		}
	}
}

// Conditions of a MeshMultiZoneService.
const (
	conditionMatched = "MeshServicesMatched"
	reasonMatched    = "MatchesFound"
	reasonUnmatched  = "NoMatchesFound"
)

func joined(o *resource.Object, members []*topology.Destination) *resource.Object {
	s := status[kind.MeshMultiZoneServiceStatus](o)
	s.MeshServices = nil
	for _, d := range members {
		s.MeshServices = append(s.MeshServices, kind.MatchedService{
			Name: d.KRI.Name, Namespace: d.KRI.Namespace, Zone: d.KRI.Zone, Mesh: d.KRI.Mesh,
		})
	}
	c := kind.Condition{Type: conditionMatched, Status: "True", Reason: reasonMatched, Message: "MeshServices match the selector"}
	if len(members) == 0 {
		c.Status, c.Reason, c.Message = "False", reasonUnmatched, "no MeshService of the mesh has the labels of the selector"
	}
	s.Conditions = slices.DeleteFunc(slices.Clone(s.Conditions), func(x kind.Condition) bool { return x.Type == c.Type })
	s.Conditions = append(s.Conditions, c)
	return changedObject(o, o.Labels, o.Spec, s)
}
