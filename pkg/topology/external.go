package topology

import (
	"iter"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	mesh_proto "github.com/atoll-mesh/atoll/api/kuma/mesh/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// exit is a Dataplane of this zone with listeners through which the mesh is left.
type exit struct {
	id        resource.ID
	endpoints []Endpoint // ready listeners
}

// exitOf makes the row of a Dataplane; nil when it is no egress.
func exitOf(o *resource.Object, starting bool) *exit {
	var x *exit
	for _, l := range kind.NetworkingOf(o).GetListeners() {
		if l.GetType() != mesh_proto.Dataplane_Networking_Listener_ZoneEgress {
			continue
		}
		if x == nil {
			x = &exit{id: o.ID}
		}
		addr, err := netip.ParseAddr(l.GetAddress())
		if err != nil || starting || o.Labels[resource.LabelDraining] == "true" || l.GetState() != mesh_proto.Dataplane_Networking_Listener_Ready {
			continue
		}
		x.endpoints = append(x.endpoints, Endpoint{Address: addr.String(), Port: l.GetPort(), Weight: 1, Proxy: o.ID})
	}
	return x
}

func (x *exit) equal(y *exit) bool {
	return slices.EqualFunc(x.endpoints, y.endpoints, func(a, b Endpoint) bool { return a.equal(&b) })
}

// zoneExit replaces the row of a Dataplane as an egress; o is nil when it is gone.
func (d *derivation) zoneExit(id resource.ID, o *resource.Object) {
	key := rowKey(id)
	old, _ := d.exits.Get(key)
	var row *exit
	if o != nil {
		row = exitOf(o, d.starting.Contains(key))
	}
	switch {
	case old == nil && row == nil, old != nil && row != nil && old.equal(row):
		return
	case row == nil:
		d.exits.Delete(key)
	default:
		d.exits.Set(key, row)
	}
	for row := range d.destinationsOf(id.Mesh, kind.MeshExternalService) {
		d.external[rowKey(row.ID)] = row.ID
	}
}

// exitsOf yields the egresses of a mesh in order of their names.
func (s *State) exitsOf(mesh string) iter.Seq[*exit] {
	prefix := rowKey(resource.ID{Type: kind.Dataplane, Mesh: mesh})
	return func(yield func(*exit) bool) {
		s.exits.Ascend(prefix, func(key string, x *exit) bool {
			return strings.HasPrefix(key, prefix) && yield(x)
		})
	}
}

// destinationsOf yields the destinations of a mesh and type.
func (s *State) destinationsOf(mesh string, t resource.Type) iter.Seq[*Destination] {
	prefix := rowKey(resource.ID{Type: t, Mesh: mesh})
	return func(yield func(*Destination) bool) {
		s.destinations.Ascend(prefix, func(key string, d *Destination) bool {
			return strings.HasPrefix(key, prefix) && yield(d)
		})
	}
}

// externalOf makes the row of a MeshExternalService but for its exits.
func externalOf(site resource.Site, o *resource.Object) *Destination {
	m := resource.SpecOf[kind.MeshExternalServiceSpec](o).Match
	d := &Destination{
		ID: o.ID, KRI: o.KRI(), Labels: o.Labels, Created: o.Created,
		Local: !site.Global && site.LocallyOriginated(o.Labels), Available: true,
	}
	d.addPort(Port{Section: strconv.Itoa(int(m.Port)), Number: uint32(m.Port), Protocol: kind.NormalProtocol(m.Protocol)}, m.Port)
	if status := resource.StatusOf[kind.MeshExternalServiceStatus](o); status != nil {
		var vips []kind.VIP
		if status.VIP.IP != "" {
			vips = []kind.VIP{status.VIP}
		}
		d.address(vips, status.Addresses)
	}
	return d
}

// externalService replaces the rows of a MeshExternalService: whatever it is,
// proxies call it through the egresses of their zone.
func (d *derivation) externalService(id resource.ID) {
	old := d.Destination(id)
	var row *Destination
	var list []Endpoint
	if o := d.src.Get(id); o != nil {
		row = externalOf(d.site, o)
		for x := range d.exitsOf(id.Mesh) {
			row.Exits = append(row.Exits, x.id)
			list = append(list, x.endpoints...)
		}
	}
	d.replace(id, old, row)
	if d.site.Global || row == nil {
		return
	}
	for _, p := range row.Ports {
		d.setEndpoints(EndpointsKey{id, p.Section}, list, nil)
	}
}
