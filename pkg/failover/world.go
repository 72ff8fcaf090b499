package failover

import (
	"iter"
	"maps"
	"slices"

	mesh_proto "github.com/atoll-mesh/atoll/api/kuma/mesh/v1alpha1"
	system_proto "github.com/atoll-mesh/atoll/api/kuma/system/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/compile"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/policy"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/view"
)

// world is all zones, each as its own control plane sees it.
type world struct {
	Inputs
	zones    []string          // sorted
	disabled map[string]bool   // zones
	eyes     map[string]*eye   // zones that see for themselves; in a zone only itself
	services map[group]members // MeshServices by what they are called in their zones
}

// group is a service: the MeshServices of one name in different zones.
type group struct{ mesh, name, namespace string }

// members are the MeshServices of a group by zone.
type members map[string]*resource.Object

// eye is what the control plane of a zone sees.
type eye struct {
	zone string
	site resource.Site
	snap *view.Snapshot
	// clients are one proxy of each lot that chooses alike, by mesh.
	clients map[string][]*resource.Object
	lost    map[lossKey]*view.Snapshot

	// What is asked for again and again.
	balances map[balanceKey]*compile.Balance
	spiffe   map[string][]string // of all proxies, by mesh
	guards   map[resource.ID]*guarded
	stands   *standings
}

type balanceKey struct {
	lossKey
	client resource.ID
}

// lossKey is a loss as a zone sees it.
type lossKey struct {
	zone string
	mesh string // set: only the workloads of the mesh in the zone are lost
}

func newWorld(in Inputs) *world {
	w := &world{Inputs: in, disabled: map[string]bool{}, eyes: map[string]*eye{}, services: map[group]members{}}
	zones := map[string]bool{}
	for o := range in.Source.List(kind.Zone, "") {
		zones[o.Name] = true
		if z, ok := o.Spec.(*system_proto.Zone); ok && !kind.ZoneEnabled(z) {
			w.disabled[o.Name] = true
		}
	}
	for _, t := range []resource.Type{kind.Dataplane, kind.MeshService, kind.MeshZoneAddress} {
		for o := range in.Source.List(t, "") {
			if z := w.zoneOf(o); z != "" {
				zones[z] = true
			}
		}
	}
	w.zones = slices.Sorted(maps.Keys(zones))
	for o := range in.Source.List(kind.MeshService, "") {
		g := group{o.Mesh, o.DisplayName(), o.Namespace()}
		if w.services[g] == nil {
			w.services[g] = members{}
		}
		w.services[g][w.zoneOf(o)] = o
	}
	if !in.Site.Global {
		site := in.Site
		w.eyes[site.Zone] = w.open(site, view.Of(in.Kinds, site, w.relevant()))
		return w
	}
	for _, z := range w.zones {
		site := resource.Site{Federated: true, Zone: z, Env: in.Site.Env}
		w.eyes[z] = w.open(site, view.Of(in.Kinds, site, w.seenFrom(z)))
	}
	return w
}

// zoneOf is the zone of which a resource is, empty for those of a global.
func (w *world) zoneOf(o *resource.Object) string {
	if o.Zone() == "" && !w.Site.Global && w.Site.LocallyOriginated(o.Labels) {
		return w.Site.Zone
	}
	return o.Zone()
}

// relevant yields the resources that traffic depends on.
func (w *world) relevant() iter.Seq[*resource.Object] {
	return func(yield func(*resource.Object) bool) {
		for k := range w.Kinds.All() {
			if k.Policy == nil && !slices.Contains(seen, k.Type) {
				continue
			}
			for o := range w.Source.List(k.Type, "") {
				if !yield(o) {
					return
				}
			}
		}
	}
}

// seen are the kinds that are no policies and matter to traffic.
var seen = []resource.Type{
	kind.Mesh, kind.Dataplane, kind.MeshService, kind.MeshMultiZoneService, kind.MeshExternalService,
	kind.MeshZoneAddress, kind.MeshIdentity, kind.MeshTrust, kind.HostnameGenerator,
	kind.ZoneLink, kind.ZoneTraffic,
}

// seenFrom yields what sync brings of a global's resources into a zone, and what
// the zone brought to the global itself.
func (w *world) seenFrom(zone string) iter.Seq[*resource.Object] {
	return func(yield func(*resource.Object) bool) {
		for o := range w.relevant() {
			if local := w.asSeen(o, zone); local != nil && !yield(local) {
				return
			}
		}
	}
}

// asSeen is a resource in the control plane of a zone, or nil if it is not there.
func (w *world) asSeen(o *resource.Object, zone string) *resource.Object {
	of := ""
	if o.Labels[resource.LabelOrigin] == resource.OriginZone || w.Files {
		of = o.Zone()
	}
	c := *o // with other names; what it says is the same
	switch {
	case of == zone && of != "":
		c.Labels = withOrigin(o.Labels, resource.OriginZone)
		if c.Type == kind.Dataplane && c.Namespace() == "" {
			c.Name = c.DisplayName()
		}
	case o.Labels[resource.LabelKDSSync] == "disabled":
		return nil
	case of == "":
		if !o.Kind.Flows.Has(resource.GlobalToZone) {
			return nil
		}
		c.Labels = withOrigin(o.Labels, resource.OriginGlobal)
	default:
		producer := o.Labels[resource.LabelPolicyRole] == policy.RoleProducer
		if !o.Kind.Flows.Has(resource.AcrossZones) || w.disabled[of] || o.Kind.Policy != nil && !producer {
			return nil
		}
		c.Labels = withOrigin(o.Labels, resource.OriginGlobal)
		if w.Files && c.Type == kind.MeshService {
			spec := *resource.SpecOf[kind.MeshServiceSpec](o)
			if spec.State = kind.ServiceUnavailable; w.served(o) {
				spec.State = kind.ServiceAvailable
			}
			c.Spec = &spec
		}
	}
	return &c
}

// served tells whether files have a proxy of a service, or leave all proxies of
// its zone to others.
func (w *world) served(svc *resource.Object) bool {
	sel := resource.SpecOf[kind.MeshServiceSpec](svc).Selector
	any := false
	for dp := range w.Source.List(kind.Dataplane, svc.Mesh) {
		if dp.Zone() != svc.Zone() {
			continue
		}
		any = true
		if sel.DataplaneRef != nil && sel.DataplaneRef.Name == dp.DisplayName() ||
			sel.DataplaneLabels != nil && resource.MatchLabels(sel.DataplaneLabels.MatchLabels, dp.Labels) {
			return true
		}
	}
	return !any
}

func withOrigin(labels map[string]string, origin string) map[string]string {
	if labels[resource.LabelOrigin] == origin {
		return labels
	}
	l := maps.Clone(labels)
	if l == nil {
		l = map[string]string{}
	}
	l[resource.LabelOrigin] = origin
	return l
}

// open has a zone look at a snapshot, and finds its clients.
func (w *world) open(site resource.Site, s *view.Snapshot) *eye {
	e := &eye{
		zone: site.Zone, site: site, snap: s, lost: map[lossKey]*view.Snapshot{},
	}
	e.forget()
	e.clients = w.clientsOf(s)
	return e
}

// forget has everything found again that follows from what e sees.
func (e *eye) forget() {
	e.balances, e.spiffe, e.guards, e.stands = map[balanceKey]*compile.Balance{}, map[string][]string{}, map[resource.ID]*guarded{}, nil
}

// clientsOf finds one proxy of each lot that chooses alike.
func (w *world) clientsOf(s *view.Snapshot) map[string][]*resource.Object {
	clients := map[string][]*resource.Object{}
	indexes := map[string]*policy.Index{}
	type lot struct {
		mesh   string
		digest policy.Digest
	}
	alike := map[lot]bool{}
	for dp := range s.List(kind.Dataplane, "") {
		n := kind.NetworkingOf(dp)
		if len(n.GetListeners()) > 0 && len(n.GetInbound()) == 0 && n.GetGateway() == nil {
			continue // a zone proxy is nobody's client
		}
		ix := indexes[dp.Mesh]
		if ix == nil {
			ix = policy.NewIndex(w.Policies, func(t resource.Type) iter.Seq[*resource.Object] { return s.List(t, dp.Mesh) })
			indexes[dp.Mesh] = ix
		}
		l := lot{dp.Mesh, ix.Match(policy.ProxyOf(dp), policy.Options{}).OutboundDigest()}
		if !alike[l] {
			alike[l] = true
			clients[dp.Mesh] = append(clients[dp.Mesh], dp)
		}
	}
	return clients
}

func (w *world) compileInputs(e *eye) compile.Inputs {
	return compile.Inputs{Policies: w.Policies, Site: e.site}
}

// without is what a zone sees once another one, or the workloads of one mesh in
// itself, are gone.
func (e *eye) without(k lossKey) *view.Snapshot {
	if s := e.lost[k]; s != nil {
		return s
	}
	var gone []resource.ID
	for _, t := range []resource.Type{kind.Dataplane, kind.MeshService, kind.MeshZoneAddress} {
		for o := range e.snap.List(t, k.mesh) {
			if e.takes(k, o) {
				gone = append(gone, o.ID)
			}
		}
	}
	e.lost[k] = e.snap.Without(gone)
	return e.lost[k]
}

// takes tells whether a loss takes a Dataplane, MeshService or MeshZoneAddress
// away.
func (e *eye) takes(k lossKey, o *resource.Object) bool {
	if k.mesh != "" && (o.Mesh != k.mesh || o.Type != kind.Dataplane) {
		return false
	}
	return o.Zone() == k.zone || o.Zone() == "" && k.zone == e.zone && e.site.LocallyOriginated(o.Labels)
}

// loss is what a loss is to the clients of e: those of the zone itself have lost
// its workloads.
func (e *eye) loss(zone, mesh string) lossKey {
	if zone == e.zone {
		return lossKey{zone, mesh}
	}
	return lossKey{zone: zone}
}

// balance is where a client's requests go after a loss.
func (w *world) balance(e *eye, k lossKey, client *resource.Object) *compile.Balance {
	key := balanceKey{k, client.ID}
	b := e.balances[key]
	if b == nil {
		b = compile.NewBalance(w.compileInputs(e), e.without(k), client)
		e.balances[key] = b
	}
	return b
}

// ingresses counts the ready zone proxies of a zone for a mesh. ok is false when
// they are not known here.
func (w *world) ingresses(zone, mesh string) (n int, ok bool) {
	e := w.eyes[zone]
	if e == nil {
		return 0, false
	}
	for dp := range e.snap.List(kind.Dataplane, mesh) {
		ok = true
		for _, l := range kind.NetworkingOf(dp).GetListeners() {
			if l.GetType() == mesh_proto.Dataplane_Networking_Listener_ZoneIngress &&
				l.GetState() == mesh_proto.Dataplane_Networking_Listener_Ready && dp.Labels[resource.LabelDraining] != "true" {
				n++
				break
			}
		}
	}
	return n, ok || !w.Files
}

// ready counts the endpoints of a service in its zone: those of its best port.
// Where they are not known it is 1 if there are any, and known is false.
func (w *world) ready(zone string, svc *resource.Object) (n int, known bool) {
	if e := w.eyes[zone]; e != nil {
		if d := e.snap.Topology().Destination(svc.ID); d != nil {
			for _, p := range d.Ports {
				n = max(n, len(endpointsOf(e.snap, svc.ID, p.Section)))
			}
		}
		if n > 0 || !w.Files || w.hasProxies(zone, svc.Mesh) {
			return n, true
		}
		return 1, false // the files leave its proxies to others
	}
	if st := resource.StatusOf[kind.MeshServiceStatus](svc); st != nil && st.DataplaneProxies.Healthy > 0 {
		return st.DataplaneProxies.Healthy, true
	}
	if resource.SpecOf[kind.MeshServiceSpec](svc).State == kind.ServiceAvailable {
		return 1, false
	}
	return 0, true
}

// hasProxies tells whether anything is known of the proxies of a zone.
func (w *world) hasProxies(zone, mesh string) bool {
	return w.eyes[zone].snap.Count(kind.Dataplane, mesh) > 0
}
