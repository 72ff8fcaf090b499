package topology

import (
	mesh_proto "github.com/atoll-mesh/atoll/api/kuma/mesh/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// insight takes note of whether the proxy of a Dataplane starts, by the insight
// that was touched; o is nil when it is gone. It returns the Dataplane, and false
// when nothing changed.
func (d *derivation) insight(id resource.ID, o *resource.Object) (dataplane resource.ID, changed bool) {
	dataplane = resource.ID{Type: kind.Dataplane, Mesh: id.Mesh, Name: id.Name}
	starting := o != nil && kind.Starting(resource.SpecOf[mesh_proto.DataplaneInsight](o))
	key := rowKey(dataplane)
	if starting == d.starting.Contains(key) {
		return dataplane, false
	}
	if starting {
		d.starting.Insert(key)
	} else {
		d.starting.Delete(key)
	}
	return dataplane, true
}

// Starting tells whether a Dataplane is no endpoint yet because its Envoy has just
// begun to run and does not listen.
func (s *State) Starting(dataplane resource.ID) bool { return s.starting.Contains(rowKey(dataplane)) }
