package topology

import (
	"iter"
	"maps"
	"slices"

	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// join is what decides which MeshServices a MeshMultiZoneService consists of.
type join struct {
	id     resource.ID
	labels map[string]string
	at     pair // where the index of joins has it
}

func (j *join) matches(d *Destination) bool {
	m := resource.Meta{ID: d.ID, Labels: d.Labels}
	return len(j.labels) > 0 && m.Matches(j.labels)
}

// Joined returns the MeshServices that a MeshMultiZoneService consists of,
// whatever their state, in order of their names.
func (s *State) Joined(multiZone resource.ID) []*Destination {
	j, ok := s.joins.Get(rowKey(multiZone))
	if !ok || len(j.labels) == 0 {
		return nil
	}
	list := s.DestinationsByLabels(j.id.Mesh, kind.MeshService, j.labels)
	slices.SortFunc(list, func(a, b *Destination) int { return a.ID.Compare(b.ID) })
	return list
}

// Joining returns the MeshMultiZoneServices that a MeshService is part of.
func (s *State) Joining(service resource.ID) []resource.ID {
	d := s.Destination(service)
	if d == nil {
		return nil
	}
	ids := slices.SortedFunc(s.joiners(d), resource.ID.Compare)
	return slices.Compact(ids)
}

// joiners yields the MeshMultiZoneServices that select d.
func (s *State) joiners(d *Destination) iter.Seq[resource.ID] {
	return func(yield func(resource.ID) bool) {
		for k, v := range d.displayed() {
			names := s.joining.get(pair{d.ID.Mesh, k, v})
			if names == nil {
				continue
			}
			more := true
			names.Scan(func(key string) bool {
				if j, _ := s.joins.Get(key); j.matches(d) {
					more = yield(j.id)
				}
				return more
			})
			if !more {
				return
			}
		}
	}
}

// multiZone makes the row of a MeshMultiZoneService but for what it has of its
// members.
func multiZone(site resource.Site, o *resource.Object) *Destination {
	spec := resource.SpecOf[kind.MeshMultiZoneServiceSpec](o)
	d := &Destination{
		ID: o.ID, KRI: o.KRI(), Labels: o.Labels, Created: o.Created,
		Local: !site.Global && site.LocallyOriginated(o.Labels), TLSReady: true, Available: true,
	}
	for i := range spec.Ports {
		p := &spec.Ports[i]
		name := ""
		if p.Name != nil {
			name = *p.Name
		}
		d.addPort(Port{Section: p.Section(), Name: name, Number: uint32(p.Port), Protocol: kind.NormalProtocol(p.AppProtocol)}, p.Port)
	}
	if status := resource.StatusOf[kind.MeshMultiZoneServiceStatus](o); status != nil {
		d.address(status.VIPs, status.Addresses)
	}
	return d
}

// multiZoneService takes note of a MeshMultiZoneService that was touched; o is
// nil when it is gone.
func (d *derivation) multiZoneService(id resource.ID, o *resource.Object) {
	key := rowKey(id)
	d.rejoin[key] = id
	old, _ := d.joins.Get(key)
	var j *join
	if o != nil {
		j = &join{id: id, labels: resource.SpecOf[kind.MeshMultiZoneServiceSpec](o).Selector.MeshService.MatchLabels}
	}
	if old != nil && j != nil && maps.Equal(old.labels, j.labels) {
		return
	}
	if old != nil {
		d.joining.remove(old.at, key)
		d.joins.Delete(key)
	}
	if j == nil {
		return
	}
	if len(j.labels) > 0 {
		j.at = d.joining.rarest(id.Mesh, j.labels)
		d.joining.add(j.at, key)
	}
	d.joins.Set(key, j)
}

// joinedBy has the services that d is part of made anew.
func (d *derivation) joinedBy(row *Destination) {
	for id := range d.joiners(row) {
		d.rejoin[rowKey(id)] = id
	}
}

// join replaces the rows of a MeshMultiZoneService, once those of MeshServices
// are as they should be. A remote member counts while its zone says that it can
// answer; local ones always, since what they can do shows in their endpoints.
// Identities are those of all members, so that clients need no other
// configuration when one of them comes or goes.
func (d *derivation) join(id resource.ID) {
	old := d.Destination(id)
	var row *Destination
	var members []*Destination
	if o := d.src.Get(id); o != nil {
		row = multiZone(d.site, o)
		members = d.Joined(id)
		for _, m := range members {
			row.Identities = append(row.Identities, m.Identities...)
		}
		slices.Sort(row.Identities)
		row.Identities = slices.Compact(row.Identities)
	}
	d.replace(id, old, row)
	if d.site.Global || row == nil {
		return
	}
	for _, p := range row.Ports {
		var list []ranked
		for _, m := range members {
			if e := d.Endpoints(EndpointsKey{m.ID, p.Section}); e != nil && m.Available {
				list = d.rankAll(d.rankAll(list, serving, m, e.List), drained, m, e.Out)
			}
		}
		in, out := choose(list)
		d.setEndpoints(EndpointsKey{id, p.Section}, in, out)
	}
}
