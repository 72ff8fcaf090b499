package topology

import (
	"iter"
	"net/netip"
	"slices"

	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// entrance is a MeshZoneAddress: where other zones enter a zone.
type entrance struct {
	id   resource.ID
	zone string
	host string // an IP, or a name that nobody resolved
	port uint32
}

func entranceOf(o *resource.Object) *entrance {
	spec := resource.SpecOf[kind.MeshZoneAddressSpec](o)
	if spec.Port < 1 || spec.Port > 65535 {
		return nil
	}
	e := &entrance{id: o.ID, zone: o.Zone(), host: spec.Address, port: uint32(spec.Port)}
	e.host = normalHost(e.host)
	return e
}

// zoneOf is where the index of entrances keeps those of a zone.
func zoneOf(mesh, zone string) pair { return pair{mesh, "zone", zone} }

// zoneAddress replaces the row of a MeshZoneAddress; o is nil when it is gone.
func (d *derivation) zoneAddress(id resource.ID, o *resource.Object) {
	key := rowKey(id)
	old, _ := d.entrances.Get(key)
	var row *entrance
	if o != nil {
		row = entranceOf(o)
	}
	if old != nil && row != nil && *old == *row {
		return
	}
	if old != nil {
		at := zoneOf(id.Mesh, old.zone)
		d.entered[at] = true
		d.inZone.remove(at, key)
		d.entrances.Delete(key)
	}
	if row != nil {
		at := zoneOf(id.Mesh, row.zone)
		d.entered[at] = true
		d.inZone.add(at, key)
		d.entrances.Set(key, row)
	}
}

// identity looks whether a mesh still has, or now has, a MeshIdentity. Without
// one nobody can prove who they are to another zone.
func (d *derivation) identity(mesh string) {
	has := false
	for range d.src.List(kind.MeshIdentity, mesh) {
		has = true
		break
	}
	if has == d.secured.Contains(mesh) {
		return
	}
	if has {
		d.secured.Insert(mesh)
	} else {
		d.secured.Delete(mesh)
	}
	for row := range d.Destinations(mesh) {
		d.remoteService(row)
	}
}

// remoteService has the endpoints of a MeshService of another zone made anew.
func (d *derivation) remoteService(row *Destination) {
	if row.ID.Type == kind.MeshService && !row.Local {
		d.remote[rowKey(row.ID)] = row.ID
	}
}

// enter has the endpoints of all services of a zone made anew.
func (d *derivation) enter(zone pair) {
	for row := range d.servicesOf(zone) {
		d.remoteService(row)
	}
}

// servicesOf yields the MeshServices of a zone: those that say so, and of this
// zone also those that need not.
func (d *derivation) servicesOf(zone pair) iter.Seq[*Destination] {
	return func(yield func(*Destination) bool) {
		if zone.value == d.site.Zone {
			for row := range d.destinationsOf(zone.mesh, kind.MeshService) {
				if (row.Local || row.Zone == zone.value) && !yield(row) {
					return
				}
			}
			return
		}
		names := d.byLabel.get(pair{zone.mesh, resource.LabelZone, zone.value})
		if names == nil {
			return
		}
		names.Scan(func(key string) bool {
			row, _ := d.destinations.Get(key)
			return row.ID.Type != kind.MeshService || yield(row)
		})
	}
}

// remoteEndpoints makes the rows of a MeshService of another zone: the entrances
// of its zone, whichever proxies stand behind them.
func (d *derivation) remoteEndpoints(id resource.ID) {
	row := d.Destination(id)
	if row == nil || row.Local {
		return
	}
	var list []Endpoint
	if d.secured.Contains(id.Mesh) && row.Zone != "" {
		list = d.entrancesOf(id.Mesh, row.Zone)
	}
	// All are of one zone: only single addresses may stand worse than others.
	in, out := choose(d.rankAll(nil, serving, row, list))
	alike(in)
	for i := range out {
		out[i].Away = 0
	}
	for _, p := range row.Ports {
		d.setEndpoints(EndpointsKey{id, p.Section}, slices.Clone(in), slices.Clone(out))
	}
}

// alike has endpoints that all give away the same give away nothing.
func alike(list []Endpoint) {
	for i := range list {
		if list[i].Away != list[0].Away {
			return
		}
	}
	for i := range list {
		list[i].Away = 0
	}
}

// entrancesOf are the addresses of a zone as endpoints.
func (s *State) entrancesOf(mesh, zone string) []Endpoint {
	names := s.inZone.get(zoneOf(mesh, zone))
	if names == nil {
		return nil
	}
	var list []Endpoint
	names.Scan(func(key string) bool {
		e, _ := s.entrances.Get(key)
		if _, err := netip.ParseAddr(e.host); err == nil {
			list = append(list, Endpoint{
				Address: e.host, Port: e.port, Zone: zone, Weight: 1,
				Labels: map[string]string{resource.LabelZone: zone},
			})
		}
		return true
	})
	return list
}
