package topology

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// destinationOf makes the row of a MeshService.
func destinationOf(site resource.Site, o *resource.Object) *Destination {
	spec := resource.SpecOf[kind.MeshServiceSpec](o)
	d := &Destination{ID: o.ID, KRI: o.KRI(), Labels: o.Labels, Created: o.Created, Zone: o.Zone()}
	d.Local = !site.Global && site.LocallyOriginated(o.Labels) && (d.Zone == "" || d.Zone == site.Zone)
	d.Available = d.Local || spec.State == kind.ServiceAvailable
	for i := range spec.Ports {
		p := &spec.Ports[i]
		d.addPort(Port{Section: p.Section(), Name: p.Name, Number: uint32(p.Port), Protocol: p.Protocol()}, p.Port)
	}
	for _, id := range spec.Identities {
		d.Identities = append(d.Identities, id.Value)
	}
	slices.Sort(d.Identities)
	d.Identities = slices.Compact(d.Identities)
	if status := resource.StatusOf[kind.MeshServiceStatus](o); status != nil {
		d.address(status.VIPs, status.Addresses)
		d.TLSReady = status.TLS.Status == kind.TLSReady
	}
	return d
}

// addPort adds a port whose number is valid. The section is the port's identity;
// of two with the same the first counts.
func (d *Destination) addPort(p Port, number int32) {
	taken := slices.ContainsFunc(d.Ports, func(q Port) bool { return q.Section == p.Section })
	if number > 0 && number <= 65535 && !taken {
		d.Ports = append(d.Ports, p)
	}
}

func (d *Destination) address(vips []kind.VIP, hostnames []kind.HostnameAddress) {
	for _, v := range vips {
		d.VIPs = append(d.VIPs, v.IP)
	}
	for _, a := range hostnames {
		d.Hostnames = append(d.Hostnames, a.Hostname)
	}
}

func (d *Destination) equal(e *Destination) bool {
	return d.ID == e.ID && d.KRI == e.KRI && d.Created.Equal(e.Created) &&
		d.Local == e.Local && d.Zone == e.Zone && d.TLSReady == e.TLSReady && d.Available == e.Available &&
		maps.Equal(d.Labels, e.Labels) && slices.Equal(d.VIPs, e.VIPs) && slices.Equal(d.Hostnames, e.Hostnames) &&
		slices.Equal(d.Ports, e.Ports) && slices.Equal(d.Identities, e.Identities) &&
		slices.Equal(d.Exits, e.Exits)
}

// displayed is what a destination is found by: its labels, and its display name
// also when the label is missing.
func (d *Destination) displayed() map[string]string {
	if d.Labels[resource.LabelDisplayName] != "" {
		return d.Labels
	}
	l := maps.Clone(d.Labels)
	if l == nil {
		l = map[string]string{}
	}
	l[resource.LabelDisplayName] = d.ID.Name
	return l
}

// selects says how a service finds its Dataplanes.
type selects uint8

const (
	nothing selects = iota
	byName
	byLabels
	all
)

// service is what decides about the endpoints of a local MeshService.
type service struct {
	id      resource.ID
	selects selects
	ref     string
	labels  map[string]string
	ports   []target
	at      pair // where the index of selectors has it
}

// target says which inbounds serve a port.
type target struct {
	section string
	number  uint32
	name    string // set: compared instead of number
}

func serviceOf(d *Destination, o *resource.Object) *service {
	spec := resource.SpecOf[kind.MeshServiceSpec](o)
	s := &service{id: o.ID}
	switch sel := spec.Selector; {
	case sel.DataplaneRef != nil:
		if s.ref = sel.DataplaneRef.Name; s.ref != "" {
			s.selects = byName
		}
	case sel.DataplaneLabels != nil:
		s.labels, s.selects = sel.DataplaneLabels.MatchLabels, byLabels
		if len(s.labels) == 0 {
			s.selects = all
		}
	}
	for _, p := range d.Ports {
		i := slices.IndexFunc(spec.Ports, func(q kind.MeshServicePort) bool { return q.Section() == p.Section && uint32(q.Port) == p.Number })
		t := target{section: p.Section}
		if to := spec.Ports[i].TargetPort; to != nil {
			t.name = to.Str
			if to.Int > 0 {
				t.number = uint32(to.Int)
			}
		}
		s.ports = append(s.ports, t)
	}
	return s
}

func (s *service) equal(t *service) bool {
	return s.selects == t.selects && s.ref == t.ref && maps.Equal(s.labels, t.labels) && slices.Equal(s.ports, t.ports)
}

func (s *service) matches(p *proxy) bool {
	switch s.selects {
	case byName:
		return p.id.Name == s.ref
	case byLabels:
		return resource.MatchLabels(s.labels, p.labels)
	case all:
		return true
	}
	return false
}

// proxy is a Dataplane that services can select.
type proxy struct {
	id       resource.ID
	labels   map[string]string
	inbounds []inbound // ready ones
	leaving  bool      // its agent is about to stop, and others shall be called
}

// inbound is one address of a proxy at which it may be called.
type inbound struct {
	name string
	Endpoint
}

func (i *inbound) serves(t target) bool {
	if t.name != "" {
		return i.name == t.name
	}
	return t.number != 0 && i.Port == t.number
}

const labelProtocol = "kuma.io/protocol"

// proxyOf makes the row of a Dataplane; nil when services cannot select it.
func proxyOf(site resource.Site, o *resource.Object, starting bool) *proxy {
	n := kind.NetworkingOf(o)
	if !kind.ServesInbounds(n) {
		return nil
	}
	p := &proxy{id: o.ID, labels: o.Labels, leaving: o.Labels[resource.LabelDraining] == "true"}
	zone := o.Zone()
	if zone == "" {
		zone = site.Zone
	}
	byProtocol := map[string]map[string]string{}
	for _, in := range n.GetInbound() {
		// Envoy takes no names for endpoints, and refuses all of a response for one.
		addr, err := netip.ParseAddr(kind.InboundAddress(n, in))
		if err != nil || starting || !kind.InboundReady(in) || in.GetPort() == kind.ServicelessPort {
			continue
		}
		protocol := kind.NormalProtocol(in.GetProtocol())
		labels := byProtocol[protocol]
		if labels == nil {
			labels = make(map[string]string, len(o.Labels)+1)
			maps.Copy(labels, o.Labels)
			delete(labels, resource.LabelService)
			labels[labelProtocol] = protocol
			byProtocol[protocol] = labels
		}
		p.inbounds = append(p.inbounds, inbound{
			name: in.GetName(),
			Endpoint: Endpoint{
				Address: addr.String(), Port: in.GetPort(), Zone: zone, Weight: 1, Labels: labels, Proxy: o.ID,
			},
		})
	}
	return p
}

func (p *proxy) equal(q *proxy) bool {
	return p.leaving == q.leaving && maps.Equal(p.labels, q.labels) && slices.EqualFunc(p.inbounds, q.inbounds, func(a, b inbound) bool {
		return a.name == b.name && a.equal(&b.Endpoint)
	})
}

func (e *Endpoint) equal(f *Endpoint) bool {
	return e.Address == f.Address && e.Port == f.Port && e.Zone == f.Zone && e.Weight == f.Weight &&
		e.Away == f.Away && e.Proxy == f.Proxy && maps.Equal(e.Labels, f.Labels)
}

// members are endpoints of a port of a service. Those of proxies that are about to
// stop are apart: until then they answer, and may be all there is while others
// start.
type members struct{ list, out []Endpoint }

// add appends the addresses of p that serve t.
func (m *members) add(p *proxy, t target) {
	to := &m.list
	if p.leaving {
		to = &m.out
	}
	for i := range p.inbounds {
		if p.inbounds[i].serves(t) {
			*to = append(*to, p.inbounds[i].Endpoint)
		}
	}
}
