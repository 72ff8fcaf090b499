package compile

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/zeebo/xxh3"

	mesh_proto "github.com/atoll-mesh/atoll/api/kuma/mesh/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/ir"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/policy"
	"github.com/atoll-mesh/atoll/pkg/topology"
	"github.com/atoll-mesh/atoll/pkg/view"
)

// gate is a listener of a zone proxy: through an ingress other zones enter this
// one, through an egress the mesh is left. What passes is told apart by the TLS
// server name, which is that of a destination.
type gate struct {
	Egress  bool   `json:"egress,omitempty"`
	Source  string `json:"source"` // of the Dataplane, for warnings
	Name    string `json:"name"`
	Section string `json:"section"`
	Address string `json:"address"`
	Port    uint32 `json:"port"`
	Zone    string `json:"zone,omitempty"` // for which an ingress answers probes
	// Reuse has one socket per worker.
	Reuse bool `json:"reuse,omitempty"`
	// Apart begins the names of the routes of a second egress, which may have
	// other policies than the first.
	Apart string `json:"apart,omitempty"`
}

func gatesOf(info *ProxyInfo, zone string, n *kind.Networking) []gate {
	var gates []gate
	egresses := 0
	for i, l := range n.GetListeners() {
		g := gate{
			Source: fmt.Sprintf("networking.listeners[%d]", i), Section: kind.ListenerSection(l),
			Address: l.GetAddress(), Port: l.GetPort(), Reuse: info.has(FeatureReusePort),
		}
		switch l.GetType() {
		case mesh_proto.Dataplane_Networking_Listener_ZoneIngress:
			g.Name, g.Zone = "self_zoneingress_dp_"+g.Section, zone
		case mesh_proto.Dataplane_Networking_Listener_ZoneEgress:
			g.Name, g.Egress = "self_zoneegress_dp_"+g.Section, true
			if egresses++; egresses > 1 {
				g.Apart = g.Name + "_"
			}
		default:
			continue
		}
		gates = append(gates, g)
	}
	return gates
}

// side tells from where a destination is called, which makes different clusters
// of it.
type side uint8

const (
	asClient  side = iota // by a workload
	asIngress             // by other zones: bytes go to the workloads of this zone
	asEgress              // by the mesh: what is outside it is called
)

// besideClient begins the names of a zone proxy's clusters where the proxy has
// outbounds too, whose clusters are named after the same destinations.
const besideClient = "zoneproxy_"

// Connecting to a workload of the own zone takes no longer, unless it is gone;
// then another one is tried while the client, which gives all of this two
// seconds or more, still waits.
const (
	ingressConnectTimeout  = 800 * time.Millisecond
	ingressConnectAttempts = 2
)

// passage is what a gate lets through: one port of a destination.
type passage struct {
	dest    policy.Dest
	backend backend
	sni     string
	cluster string
	routes  string // name of the routes of HTTP
	exit    *exit  // of an egress
}

// gateOutbounds lists the listeners of a zone proxy. An egress to which nothing
// leads is left out, and one without served, by which it proves to clients who it
// is and knows them: nobody else may leave the mesh through it. With served an
// ingress at least answers whether it is there.
func (s *shape) gateOutbounds(x *resolver, settings *Settings, served *ir.DownstreamTLS, warn *warnings) []*outbound {
	var list []*outbound
	seen := map[string]bool{}
	for i := range s.Gates {
		g := &s.Gates[i]
		switch {
		case !isIP(g.Address):
			warn.add(g.Source, "the proxy cannot listen on %q, which is not an IP address", g.Address)
			continue
		case seen[g.Name]:
			warn.add(g.Source, "a listener before it has the same name %q; each needs its own", g.Section)
			continue
		}
		if g.Egress && served == nil {
			warn.add(g.Source, "an egress needs an identity, and no MeshIdentity gives the proxy one")
			continue
		}
		seen[g.Name] = true
		if p := s.passages(g, x, warn); len(p) > 0 || g.Zone != "" && served != nil {
			o := &outbound{gate: g, facts: s.Facts, passages: p, cidrs: internalCIDRs(settings.InternalCIDRs, s.IPv6)}
			if g.Egress || g.Zone != "" {
				o.served = served // of an ingress: to probes
			}
			list = append(list, o)
		}
	}
	return list
}

// passages lists what a gate lets through: an ingress to the services of this
// zone and to those that join zones, an egress to what is outside the mesh.
func (s *shape) passages(g *gate, x *resolver, warn *warnings) []passage {
	var list []passage
	by := map[string]string{}
	for _, d := range x.all() {
		leads := d.ID.Type == kind.MeshService && d.Local || d.ID.Type == kind.MeshMultiZoneService
		if g.Egress {
			leads = d.ID.Type == kind.MeshExternalService
		}
		if !leads {
			continue
		}
		for _, p := range d.Ports {
			dest, ok := x.dest(d, p.Section)
			if !ok {
				continue
			}
			sni, ok := d.KRI.WithSection(p.Section).SNI()
			if !ok {
				warn.add(dest.Name(), "cannot be reached through %s: its parts are no DNS labels", g.Name)
				continue
			}
			if by[sni] != "" {
				warn.add(dest.Name(), "another destination is also identified as %s", by[sni])
				continue
			}
			pass := passage{
				dest: dest, sni: sni, cluster: s.gateCluster(dest.Name()), routes: g.Apart + s.gateCluster(dest.Name()),
				backend: backend{id: d.ID, section: p.Section, side: asIngress},
			}
			if g.Egress {
				pass.backend.side = asEgress
				e, err := x.exit(d, pass.cluster, s.SystemCA)
				if err != nil {
					warn.add(dest.Name(), "cannot be called: %v", err)
				}
				if e == nil {
					continue
				}
				pass.exit = e
			}
			by[sni] = dest.Name()
			list = append(list, pass)
		}
	}
	return list
}

// gateCluster is the name of a zone proxy's cluster for a destination.
func (s *shape) gateCluster(dest string) string {
	if s.All || len(s.Refs)+len(s.Explicit) > 0 {
		return besideClient + dest
	}
	return dest
}

// gateKey identifies all inputs of buildGate.
func (o *outbound) gateKey(m *policy.Matched) outboundKey {
	h := xxh3.New()
	b, err := json.Marshal([]any{o.gate, o.facts, o.served})
	if err != nil {
		panic("a listener of a zone proxy cannot be encoded: " + err.Error())
	}
	_, _ = h.Write(b)
	for _, p := range o.passages {
		_, _ = fmt.Fprintf(h, "\x00%s\x00%s\x00%s\x00%t", p.sni, p.cluster, p.dest.Port.Protocol, p.exit != nil && p.exit.byName)
	}
	for _, s := range o.cidrs {
		_, _ = h.WriteString("\x00" + s)
	}
	return outboundKey{name: o.gate.Name, where: h.Sum128().Bytes(), rules: m.InboundDigest()}
}

// buildGate makes the listener of a zone proxy, what HTTP chains of it route by,
// and names what it sends to.
func (o *outbound) buildGate(m *policy.Matched) (*ir.Listener, []*ir.RouteConfig, []backend) {
	g := o.gate
	var served *ir.DownstreamTLS // bytes that pass through an ingress are TLS between others
	if g.Egress {
		served = o.served
	}
	in := &policy.Inbound{
		Address: g.Address, Port: g.Port, Section: g.Section, Protocol: ir.TCP, ZoneProxy: true, TLS: served, Facts: o.facts,
		Listener: &ir.Listener{
			Name: g.Name, Direction: ir.Inbound, Address: g.Address, Port: g.Port,
			ReusePort: g.Reuse, Tags: unified(g.Name),
		},
	}
	var backends []backend
	for _, p := range o.passages {
		chain := &ir.Chain{
			Name: p.dest.Name(), TLS: served,
			Match: ir.ChainMatch{TransportProtocol: "tls", ServerNames: []string{p.sni}},
		}
		to := []ir.WeightedRef{{Cluster: p.cluster, Weight: 1}}
		switch name := p.dest.Name(); {
		case g.Egress && ir.IsHTTP(p.dest.Port.Protocol):
			chain.HTTP = &ir.HTTP{
				StatPrefix: name, RouteConfig: p.routes, InternalCIDRs: o.cidrs,
				GRPCStats: p.dest.Port.Protocol == ir.GRPC, ClientCertDetails: true,
			}
			in.Routes = append(in.Routes, &ir.RouteConfig{Name: p.routes, VirtualHost: name, Routes: []*ir.Route{{
				Match: ir.RouteMatch{Prefix: "/"},
				// Outside, the host is called what it is called there.
				Forward: &ir.Forward{Clusters: to, Timeout: new(time.Duration(0)), AutoHostRewrite: p.exit.byName},
			}}})
		case g.Egress:
			chain.TCP = &ir.TCPProxy{StatPrefix: name, Clusters: to}
		default:
			chain.TCP = &ir.TCPProxy{StatPrefix: name, Clusters: to, MaxConnectAttempts: ingressConnectAttempts}
		}
		in.Listener.Chains = append(in.Listener.Chains, chain)
		backends = append(backends, p.backend)
	}
	m.Inbound(in)
	if !g.Egress && o.served != nil {
		in.Routes = append(in.Routes, g.answerProbes(in.Listener, o.served))
	}
	return in.Listener, in.Routes, backends
}

// collectGateCluster lists the cluster of a zone proxy for a destination.
func (p *plan) collectGateCluster(b backend, d policy.Dest) {
	row := rowKey{cluster: p.shape.gateCluster(d.Name()), side: b.side}
	key := clusterKey{name: row.cluster}
	row.EndpointsKey = topology.EndpointsKey{Destination: b.id, Section: b.section}
	switch b.side {
	case asIngress:
		key.protocol = "ingress"
	case asEgress:
		e := p.exits[b]
		h := xxh3.New()
		js, err := json.Marshal(e.cluster)
		if err != nil {
			panic("a cluster cannot be encoded: " + err.Error())
		}
		_, _ = h.Write(js)
		if t := e.cluster.External; t != nil {
			_, _ = fmt.Fprintf(h, "\x00%s", string(t.Key)) // which is not encoded
		}
		rules := p.rules.ClusterDigest(d)
		_, _ = h.Write(rules[:])
		key.protocol, key.rules = "egress", h.Sum128().Bytes()
	}
	p.clusterKeys = append(p.clusterKeys, key)
	p.clusters = append(p.clusters, d)
	p.placements = append(p.placements, nil)
	p.rows = append(p.rows, row)
	p.backends = append(p.backends, b)
}

// buildGateCluster makes the i-th cluster, which is one of a zone proxy.
func (p *plan) buildGateCluster(i int) *ir.Cluster {
	row := p.rows[i]
	if row.side == asIngress {
		return ingressCluster(row.cluster)
	}
	c := *p.exits[backend{id: row.Destination, section: row.Section, side: asEgress}].cluster
	p.rules.Cluster(p.clusters[i], &c)
	return &c
}

// ingressCluster passes bytes, which are TLS between the client and the workload,
// to the workloads of this zone.
func ingressCluster(name string) *ir.Cluster {
	return &ir.Cluster{Name: name, Type: ir.EDS, Protocol: ir.TCP, ConnectTimeout: new(ingressConnectTimeout)}
}

// read returns the endpoints of a cluster: for an ingress only workloads, since
// what comes from another zone must not leave for yet another one. It serves who
// comes even where clients should not.
func (k rowKey) read(r *view.Reader) *topology.Endpoints {
	e := r.Endpoints(k.EndpointsKey)
	if e == nil || k.side != asIngress {
		return e
	}
	list := workloads(e.List)
	if len(list) == 0 {
		list = workloads(e.Out)
		for i := range list {
			list[i].Away = 0
		}
	}
	return &topology.Endpoints{Key: e.Key, List: list}
}

func workloads(list []topology.Endpoint) []topology.Endpoint {
	return slices.DeleteFunc(slices.Clone(list), func(p topology.Endpoint) bool { return p.Proxy.Name == "" })
}

// comparePriorities orders what is outside the mesh as it shall be tried.
func comparePriorities(a, b kind.ExternalEndpoint) int {
	return cmp.Or(cmp.Compare(priority(a), priority(b)), cmp.Compare(a.Address, b.Address), cmp.Compare(a.Port, b.Port))
}

func priority(e kind.ExternalEndpoint) int32 {
	if e.Priority == nil {
		return 0
	}
	return *e.Priority
}
