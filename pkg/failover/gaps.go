package failover

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	system_proto "github.com/atoll-mesh/atoll/api/kuma/system/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// ErrNoZone is of questions about a zone that is not known.
var ErrNoZone = errors.New("there is no such zone")

// Check finds the gaps.
func Check(in Inputs, q Query) (*Report, error) {
	w := newWorld(in)
	if q.Zone != "" && !slices.Contains(w.zones, q.Zone) {
		return nil, fmt.Errorf("%q: %w; known are %s", q.Zone, ErrNoZone, strings.Join(w.zones, ", "))
	}
	r := &Report{Gaps: []Gap{}, Losses: []Loss{}}
	for _, g := range slices.SortedFunc(maps.Keys(w.services), group.compare) {
		if q.Mesh == "" || g.mesh == q.Mesh {
			w.look(r, g, q.Zone)
		}
	}
	w.expiring(r, q.Mesh)
	w.certificates(r, q.Mesh)
	r.sort()
	return r, nil
}

// look looks what the loss of a zone, empty for any, means to a service.
func (w *world) look(r *Report, g group, zone string) {
	for _, z := range slices.Sorted(maps.Keys(w.services[g])) {
		if n, _ := w.ready(z, w.services[g][z]); z != "" && (zone == "" || zone == z) && n > 0 {
			(&losing{world: w, r: r, group: g, zone: z}).look()
		}
	}
}

func (g group) compare(h group) int {
	return cmp.Or(strings.Compare(g.mesh, h.mesh), strings.Compare(g.name, h.name), strings.Compare(g.namespace, h.namespace))
}

// losing is one look at what the loss of a zone means to a service.
type losing struct {
	*world
	r *Report
	group
	zone string // to be lost
}

// candidate is a zone that should serve.
type candidate struct {
	zone  string
	svc   *resource.Object
	ready int
	known bool          // ready is not a guess
	joins []resource.ID // MeshMultiZoneServices through which
}

func (l *losing) own() *resource.Object { return l.services[l.group][l.zone] }

func (l *losing) gap(code, severity, about, message, remedy string) Gap {
	return Gap{Code: code, Severity: severity, Mesh: l.mesh, Service: l.name, Zone: l.zone, Resource: about, Message: message, Remedy: remedy}
}

func (l *losing) look() {
	loss := Loss{Mesh: l.mesh, Service: l.name, Zone: l.zone, Serves: []Server{}, Gaps: []string{}}
	about := l.own().KRI().String()
	switch others := len(l.services[l.group]) - 1; {
	case others == 0:
		l.r.add(l.gap(OneZone, Error, about,
			"the service is in no other zone", "run it in another zone too, or accept that it is gone with this one"), "")
	default:
		list := l.candidates()
		if len(list) == 0 {
			l.r.add(l.gap(NotJoined, Error, about,
				"the service is in several zones, but no MeshMultiZoneService joins them: clients call that of one zone",
				"create a MeshMultiZoneService that selects kuma.io/display-name: "+l.name+", and have clients call it"), "")
			break
		}
		l.weigh(list, &loss)
	}
	l.r.Losses = append(l.r.Losses, loss)
}

// candidates are the zones that share a MeshMultiZoneService with the lost one.
func (l *losing) candidates() []candidate {
	e := l.eyes[l.zone]
	if e == nil {
		e = l.eyes[l.Site.Zone]
	}
	topo := e.snap.Topology()
	through := topo.Joining(l.own().ID)
	var out []candidate
	for _, z := range slices.Sorted(maps.Keys(l.services[l.group])) {
		svc := l.services[l.group][z]
		if z == l.zone {
			continue
		}
		c := candidate{zone: z, svc: svc}
		c.ready, c.known = l.ready(z, svc)
		for _, id := range topo.Joining(svc.ID) {
			if slices.Contains(through, id) {
				c.joins = append(c.joins, id)
			}
		}
		if l.disabled[z] && e.zone != z { // nobody else sees what it has
			c.joins = through
		}
		if len(c.joins) > 0 {
			out = append(out, c)
		}
	}
	return out
}

// weigh looks for everything that keeps the candidates from serving.
func (l *losing) weigh(list []candidate, loss *Loss) {
	var usable []candidate
	here, known := l.ready(l.zone, l.own())
	remaining := 0
	blocked := func(code, severity, about, message, remedy string) {
		l.r.add(l.gap(code, severity, about, message, remedy), "")
	}
	alone := func(others int) string {
		if others > 0 {
			return Warning
		}
		return Error
	}
	serving, whole := 0, 0
	for _, c := range list {
		if c.ready > 0 && !l.disabled[c.zone] {
			serving++
			if !l.drained(c.zone) {
				whole++
			}
		}
	}
	for _, c := range list {
		switch {
		case l.disabled[c.zone]:
			blocked(ZoneIsDisabled, alone(serving), c.svc.KRI().String(),
				"zone "+c.zone+" has the service, but is disabled: other zones do not see it", "enable it: set enabled: true on the Zone "+c.zone)
		case c.ready == 0:
			blocked(NotReady, alone(serving), c.svc.KRI().String(),
				"zone "+c.zone+" has the service, but no ready endpoint of it", "start its proxies there, or find out with 'atollctl inspect dataplanes' why they are not ready")
		default:
			usable = append(usable, c)
			l.stale(c)
			drained := l.drained(c.zone)
			if drained {
				blocked(IsDraining, Warning, c.svc.KRI().String(),
					"zone "+c.zone+" is drained: it serves only what nobody else can", "put it back with 'atollctl zone undrain "+c.zone+"'")
				if whole > 0 {
					continue // others serve
				}
			}
			remaining += c.ready
			known = known && c.known
			loss.Serves = append(loss.Serves, Server{Zone: c.zone, Through: l.kriOf(c.joins[0]), Endpoints: c.ready, Drained: drained})
		}
	}
	if l.drained(l.zone) && whole > 0 {
		here = 0 // others have its load already
	}
	if known && remaining > 0 && remaining < here {
		l.r.add(l.gap(TooFew, Warning, l.own().KRI().String(),
			fmt.Sprintf("of %d endpoints %d would remain: each would take more than twice its load", here+remaining, remaining),
			"run more of it in other zones"), "")
	}
	if len(usable) > 0 {
		l.crossing(usable)
		l.routed(usable)
		l.ports(usable)
	}
}

func (l *losing) kriOf(id resource.ID) string {
	for _, z := range slices.Sorted(maps.Keys(l.eyes)) {
		if d := l.eyes[z].snap.Topology().Destination(id); d != nil {
			return d.KRI.String()
		}
	}
	return id.String()
}

// crossing looks, for the clients of each zone without endpoints of its own, at
// the way to those of other zones.
func (l *losing) crossing(usable []candidate) {
	for _, z := range l.zones {
		e := l.eyes[z]
		local := slices.ContainsFunc(usable, func(c candidate) bool { return c.zone == z })
		if e == nil || local || len(e.clients[l.mesh]) == 0 {
			continue
		}
		if l.unsecured(e) {
			continue
		}
		var gaps []Gap
		reachable := 0
		for _, c := range usable {
			found := slices.Concat(l.entrance(e, c), l.reach(e, c), l.trust(e, c), l.permission(e, c))
			if !slices.ContainsFunc(found, func(g Gap) bool { return g.Code != OneZoneProxy }) {
				reachable++
			}
			gaps = append(gaps, found...)
		}
		for _, g := range gaps {
			if g.Severity = Warning; g.Code != OneZoneProxy && reachable == 0 {
				g.Severity = Error
			}
			l.r.add(g, z)
		}
		l.strategy(e, usable)
		l.attention(e, usable)
	}
}

// unsecured tells whether nobody of the mesh has an identity, without which no
// request can leave its zone.
func (l *losing) unsecured(e *eye) bool {
	if e.snap.Count(kind.MeshIdentity, l.mesh) > 0 {
		return false
	}
	l.r.add(l.gap(NoTrust, Error, l.meshKRI(e),
		"the mesh has no MeshIdentity: without identities no request crosses zones", "create a MeshIdentity that selects all proxies"), e.zone)
	return true
}

func (l *losing) meshKRI(e *eye) string {
	if o := e.snap.Get(resource.ID{Type: kind.Mesh, Name: l.mesh}); o != nil {
		return o.KRI().String()
	}
	return l.mesh
}

// entrance looks whether a zone can be entered.
func (l *losing) entrance(e *eye, c candidate) []Gap {
	var addresses []*resource.Object
	named := false
	for o := range e.snap.List(kind.MeshZoneAddress, l.mesh) {
		if o.Zone() != c.zone {
			continue
		}
		if isIP(resource.SpecOf[kind.MeshZoneAddressSpec](o).Address) {
			addresses = append(addresses, o)
		} else {
			named = true
		}
	}
	if len(addresses) == 0 {
		message := "zone " + c.zone + " has no MeshZoneAddress in the mesh: other zones cannot enter it"
		if named {
			message = "the MeshZoneAddress of zone " + c.zone + " is a name, which other zones do not resolve"
		}
		return []Gap{l.gap(NoEntrance, Error, c.svc.KRI().String(), message, "create a MeshZoneAddress in zone "+c.zone+" with the IP address and port of its zone proxies")}
	}
	n, known := l.ingresses(c.zone, l.mesh)
	switch {
	case !known || n > 1:
		return nil
	case n == 1:
		return []Gap{l.gap(OneZoneProxy, Warning, addresses[0].KRI().String(),
			"zone "+c.zone+" has a single zone proxy: when that is lost too, or restarts, nothing serves", "run a second zone proxy in zone "+c.zone)}
	}
	return []Gap{l.gap(NoEntrance, Error, addresses[0].KRI().String(),
		"zone "+c.zone+" has no ready zone proxy with an ingress", "start a zone proxy with a listener of type ZoneIngress in zone "+c.zone)}
}

// strategy looks whether clients leave out the zones that would serve.
func (l *losing) strategy(e *eye, usable []candidate) {
	loss := e.loss(l.zone, l.mesh)
	after := e.without(loss)
	for _, id := range l.joined(usable) {
		for _, p := range portsOf(e, id) {
			if len(endpointsOf(after, id, p)) == 0 {
				continue // for another reason
			}
			for _, client := range e.clients[l.mesh] {
				b := l.balance(e, loss, client)
				if len(targets(b.Load(id, p))) > 0 {
					continue
				}
				about := l.kriOf(id)
				if o := b.Strategy(id, p); o != nil {
					about = o.KRI().String()
				}
				l.r.add(l.gap(NoCrossing, Error, about,
					"the MeshLoadBalancingStrategy of clients such as "+client.DisplayName()+" sends nothing to the zones that would serve",
					"name them in localityAwareness.crossZone.failover, for instance to: {type: Any}"), e.zone)
			}
		}
	}
}

// joined are the MeshMultiZoneServices of the candidates, each once.
func (l *losing) joined(usable []candidate) []resource.ID {
	var ids []resource.ID
	for _, c := range usable {
		ids = append(ids, c.joins...)
	}
	slices.SortFunc(ids, resource.ID.Compare)
	return slices.Compact(ids)
}

func portsOf(e *eye, id resource.ID) []string {
	var out []string
	if d := e.snap.Topology().Destination(id); d != nil {
		for _, p := range d.Ports {
			out = append(out, p.Section)
		}
	}
	return out
}

// ports looks for ports of the MeshMultiZoneService that only the lost zone
// serves.
func (l *losing) ports(usable []candidate) {
	sections := func(o *resource.Object) []string {
		var out []string
		for _, p := range o.Kind.Ports(o) {
			out = append(out, p.Section)
		}
		return out
	}
	here := sections(l.own())
	for _, id := range l.joined(usable) {
		o := l.Source.Get(id)
		if o == nil {
			continue
		}
		for _, p := range sections(o) {
			elsewhere := slices.ContainsFunc(usable, func(c candidate) bool { return slices.Contains(sections(c.svc), p) })
			if slices.Contains(here, p) && !elsewhere {
				l.r.add(l.gap(PortMissing, Error, o.KRI().WithSection(p).String(),
					"port "+p+" of the service is not served in any other zone", "give a port of the MeshServices of other zones the name "+p), "")
			}
		}
	}
}

// stale warns of candidates whose control plane does not report.
func (l *losing) stale(c candidate) {
	if !l.Site.Global || l.Files {
		return
	}
	var insight *system_proto.ZoneInsight
	if o := l.Source.Get(resource.ID{Type: kind.ZoneInsight, Name: c.zone}); o != nil {
		insight = resource.SpecOf[system_proto.ZoneInsight](o)
	}
	if !kind.ZoneOnline(insight) {
		l.r.add(l.gap(Stale, Warning, c.svc.KRI().String(),
			"zone "+c.zone+" is not connected: what is known of its endpoints may be old", "connect its control plane; 'atollctl inspect zones' shows since when"), "")
	}
}
