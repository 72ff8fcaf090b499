package topology

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// readTypes are the types that rows are derived from.
var readTypes = []resource.Type{
	kind.Dataplane, kind.MeshService, kind.MeshMultiZoneService, kind.MeshExternalService, kind.MeshZoneAddress, kind.MeshIdentity,
	kind.ZoneLink, kind.ZoneTraffic, kind.DataplaneInsight,
}

// FromScratch derives everything from src.
func FromScratch(site resource.Site, src Source) *State {
	var ids []resource.ID
	for _, t := range readTypes {
		for o := range src.List(t, "") {
			ids = append(ids, o.ID)
		}
	}
	s, _ := Derive(Empty(site), src, ids)
	return s
}

// Derive returns the state of src, which differs from that of prev in the
// resources touched, and the rows that changed. Its work is proportional to
// what the touched resources can reach. A row that comes out equal keeps its
// pointer and is not listed.
func Derive(prev *State, src Source, touched []resource.ID) (*State, []Changed) {
	byType := map[resource.Type][]resource.ID{}
	for _, id := range touched {
		// A global serves no proxies, so that it has no use for endpoints.
		if slices.Contains(readTypes, id.Type) && !(prev.site.Global && endpointsOnly[id.Type]) {
			byType[id.Type] = append(byType[id.Type], id)
		}
	}
	if len(byType) == 0 {
		return prev, nil
	}
	d := derivation{
		State: prev.fork(), src: src,
		rebuild: map[string]*service{}, patch: map[string]*patch{},
		remote: map[string]resource.ID{}, external: map[string]resource.ID{}, rejoin: map[string]resource.ID{},
		entered: map[pair]bool{}, stood: map[string]bool{},
	}
	// What something is joined by, or entered through, is found by what is noted
	// of both: whichever comes second in this order finds the other.
	for _, id := range byType[kind.MeshMultiZoneService] {
		d.multiZoneService(id, src.Get(id))
	}
	proxies := byType[kind.Dataplane]
	for _, id := range byType[kind.DataplaneInsight] {
		if dataplane, changed := d.insight(id, src.Get(id)); changed {
			proxies = append(proxies, dataplane)
		}
	}
	for _, id := range proxies {
		o := src.Get(id)
		d.dataplane(id, o)
		d.zoneExit(id, o)
	}
	for _, id := range byType[kind.MeshService] {
		d.meshService(id, src.Get(id))
	}
	for _, id := range byType[kind.MeshZoneAddress] {
		d.zoneAddress(id, src.Get(id))
	}
	for zone := range d.entered {
		d.enter(zone)
	}
	for _, id := range byType[kind.ZoneLink] {
		d.zoneLink(id, src.Get(id))
	}
	for _, id := range byType[kind.ZoneTraffic] {
		d.stood[id.Name] = true
	}
	for zone := range d.stood {
		d.stand(zone)
	}
	for _, id := range byType[kind.MeshIdentity] {
		d.identity(id.Mesh)
	}
	for _, id := range byType[kind.MeshExternalService] {
		d.external[rowKey(id)] = id
	}

	for _, svc := range d.rebuild {
		d.rebuildEndpoints(svc)
	}
	for key, p := range d.patch {
		if d.rebuild[key] == nil {
			d.patchEndpoints(p)
		}
	}
	for _, id := range d.remote {
		d.remoteEndpoints(id)
	}
	for _, id := range d.external {
		d.externalService(id)
	}
	for _, id := range d.rejoin { // what it consists of is complete
		d.join(id)
	}
	d.publish()
	slices.SortFunc(d.changed, compareChanged)
	return d.State, slices.Compact(d.changed)
}

// endpointsOnly are types that matter to endpoints and nothing else.
var endpointsOnly = map[resource.Type]bool{
	kind.Dataplane: true, kind.MeshZoneAddress: true, kind.MeshIdentity: true, kind.ZoneLink: true, kind.ZoneTraffic: true,
	kind.DataplaneInsight: true,
}

func compareChanged(a, b Changed) int {
	if a.Endpoints != b.Endpoints {
		if b.Endpoints {
			return -1
		}
		return 1
	}
	return a.ID.Compare(b.ID)
}

// derivation is one run of Derive.
type derivation struct {
	*State
	src      Source
	changed  []Changed
	rebuild  map[string]*service    // by row key: look at all members again
	patch    map[string]*patch      // by row key: replace what some members serve
	remote   map[string]resource.ID // by row key: services of other zones to make anew
	external map[string]resource.ID // by row key
	rejoin   map[string]resource.ID // by row key
	entered  map[pair]bool          // zones whose entrances changed
	stood    map[string]bool        // zones whose links or traffic changed
}

// patch is a service and those of its present or former members that changed.
type patch struct {
	id      resource.ID
	members map[resource.ID]bool
}

// dataplane replaces the row of a Dataplane; o is nil when it is gone.
func (d *derivation) dataplane(id resource.ID, o *resource.Object) {
	key := rowKey(id)
	old, _ := d.proxies.Get(key)
	var row *proxy
	if o != nil {
		row = proxyOf(d.site, o, d.starting.Contains(key))
	}
	if old == nil && row == nil || old != nil && row != nil && old.equal(row) {
		return
	}
	// A service that is touched too may select by other labels only from here
	// on; it is rebuilt, so that what is noted for it here does not matter.
	affected := func(svc *service) {
		k := rowKey(svc.id)
		if d.patch[k] == nil {
			d.patch[k] = &patch{id: svc.id, members: map[resource.ID]bool{}}
		}
		d.patch[k].members[id] = true
	}
	if old != nil {
		d.selectors(old, affected)
	}
	if row != nil {
		d.selectors(row, affected)
	}
	switch {
	case old != nil && row != nil && maps.Equal(old.labels, row.labels):
		d.proxies.Set(key, row)
		return
	case old != nil:
		d.members.removeAll(id.Mesh, old.labels, key)
		d.members.remove(everything(id.Mesh), key)
		d.proxies.Delete(key)
	}
	if row != nil {
		d.members.addAll(id.Mesh, row.labels, key)
		d.members.add(everything(id.Mesh), key)
		d.proxies.Set(key, row)
	}
}

// meshService replaces the rows of a MeshService; o is nil when it is gone.
func (d *derivation) meshService(id resource.ID, o *resource.Object) {
	key := rowKey(id)
	oldRow, _ := d.destinations.Get(key)
	var row *Destination
	if o != nil {
		row = destinationOf(d.site, o)
	}
	d.replace(id, oldRow, row)
	if oldRow == nil && row == nil || d.site.Global {
		return
	}
	old, _ := d.services.Get(key)
	var svc *service
	if row != nil && row.Local {
		svc = serviceOf(row, o)
	}
	if old != nil && svc != nil && old.equal(svc) {
		return
	}
	if old != nil {
		d.selecting.remove(old.at, key)
		d.services.Delete(key)
	}
	if svc == nil {
		if row != nil {
			d.remoteService(row)
		}
		return
	}
	switch svc.selects {
	case byName:
		svc.at = named(id.Mesh, svc.ref)
	case all:
		svc.at = everything(id.Mesh)
	case byLabels:
		svc.at = d.selecting.rarest(id.Mesh, svc.labels)
	}
	if svc.selects != nothing {
		d.selecting.add(svc.at, key)
	}
	d.services.Set(key, svc)
	d.rebuild[key] = svc
}

// replace replaces the row of a destination, unless it is equal to the old one,
// and removes and adds the rows of its ports.
func (d *derivation) replace(id resource.ID, old, row *Destination) {
	if old == nil && row == nil {
		return
	}
	if old == nil || row == nil || !old.equal(row) {
		d.destination(id, old, row)
	}
	if !d.site.Global {
		d.endpointRows(id, old, row)
	}
}

func (d *derivation) destination(id resource.ID, old, row *Destination) {
	key := rowKey(id)
	if id.Type == kind.MeshService {
		for _, r := range []*Destination{old, row} {
			if r != nil {
				d.joinedBy(r)
			}
		}
	}
	if old == nil || row == nil || !maps.Equal(old.Labels, row.Labels) {
		if old != nil {
			d.byLabel.removeAll(id.Mesh, old.displayed(), key)
		}
		if row != nil {
			d.byLabel.addAll(id.Mesh, row.displayed(), key)
		}
	}
	if row != nil {
		d.destinations.Set(key, row)
	} else {
		d.destinations.Delete(key)
	}
	d.changed = append(d.changed, Changed{ID: id})
}

// endpointRows removes the rows of ports that are gone and adds empty ones for
// new ports.
func (d *derivation) endpointRows(id resource.ID, old, row *Destination) {
	var was, is []Port
	if old != nil {
		was = old.Ports
	}
	if row != nil {
		is = row.Ports
	}
	has := func(list []Port, p Port) bool {
		return slices.ContainsFunc(list, func(q Port) bool { return q.Section == p.Section })
	}
	for _, p := range was {
		if !has(is, p) {
			k := EndpointsKey{id, p.Section}.ID()
			d.endpoints.Delete(rowKey(k))
			d.changed = append(d.changed, Changed{ID: k, Endpoints: true})
		}
	}
	for _, p := range is {
		if !has(was, p) {
			d.setEndpoints(EndpointsKey{id, p.Section}, nil, nil)
		}
	}
}

// rebuildEndpoints makes the rows of svc from all its members.
func (d *derivation) rebuildEndpoints(svc *service) {
	of := make([]members, len(svc.ports))
	d.selected(svc, func(p *proxy) bool {
		for i, t := range svc.ports {
			of[i].add(p, t)
		}
		return true
	})
	for i, t := range svc.ports {
		d.setEndpoints(EndpointsKey{svc.id, t.section}, of[i].list, of[i].out)
	}
}

// patchEndpoints replaces what the changed members of a service serve.
func (d *derivation) patchEndpoints(p *patch) {
	svc, ok := d.services.Get(rowKey(p.id))
	if !ok {
		return
	}
	for _, t := range svc.ports {
		key := EndpointsKey{svc.id, t.section}
		old := d.State.Endpoints(key)
		of := members{list: make([]Endpoint, 0, len(old.List)+len(p.members))}
		for _, e := range old.List {
			if !p.members[e.Proxy] {
				of.list = append(of.list, e)
			}
		}
		for _, e := range old.Out {
			if !p.members[e.Proxy] {
				of.out = append(of.out, e)
			}
		}
		for id := range p.members {
			if row, ok := d.proxies.Get(rowKey(id)); ok && svc.matches(row) {
				of.add(row, t)
			}
		}
		d.setEndpoints(key, of.list, of.out)
	}
}

// setEndpoints stores a row unless it equals the old one. The lists become the
// row's own.
func (d *derivation) setEndpoints(key EndpointsKey, list, out []Endpoint) {
	list, out = inOrder(list), inOrder(out)
	old := d.State.Endpoints(key)
	equal := func(a, b Endpoint) bool { return a.equal(&b) }
	if old != nil && slices.EqualFunc(old.List, list, equal) && slices.EqualFunc(old.Out, out, equal) {
		return
	}
	id := key.ID()
	d.endpoints.Set(rowKey(id), &Endpoints{Key: key, List: list, Out: out})
	d.changed = append(d.changed, Changed{ID: id, Endpoints: true})
	if row := d.Destination(key.Destination); row != nil && row.ID.Type == kind.MeshService {
		d.joinedBy(row)
	}
}

// inOrder sorts endpoints. Of inbounds of one proxy at the same address the first
// counts.
func inOrder(list []Endpoint) []Endpoint {
	slices.SortStableFunc(list, compareEndpoints)
	return slices.CompactFunc(list, func(a, b Endpoint) bool { return compareEndpoints(a, b) == 0 })
}

func compareEndpoints(a, b Endpoint) int {
	return cmp.Or(strings.Compare(a.Address, b.Address), cmp.Compare(a.Port, b.Port), a.Proxy.Compare(b.Proxy))
}
