package compile

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/atoll-mesh/atoll/pkg/ir"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/policy"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/view"
)

// Zones learn whether others can be reached from proxies that ask the ingresses
// of others, through their own Envoy, with the identity that traffic has too.
const (
	// probeSNI is the server name by which an ingress answers for itself.
	probeSNI = "probe.zone.atoll.mesh"
	// probeName is the listener, in the agent's folder, through which an agent
	// asks, and begins the names of what belongs to it.
	probeName = "system_zone_probes"
	// probeTimeout bounds a probe, from connecting to the answer.
	probeTimeout = time.Second
	// ProbeTargets is the path under which an agent finds whom to ask.
	ProbeTargets = "/targets"
)

// FeatureZoneProbes: the agent asks other zones whether they are there.
const FeatureZoneProbes = "atoll-zone-probes"

// ProbeSocket is where Envoy takes the agent's probes.
func ProbeSocket(workdir string) string { return policy.SocketPath(workdir, "atoll-zone-probes") }

// ProbeTarget is one address that an agent shall ask.
type ProbeTarget struct {
	Zone    string `json:"zone"`
	Address string `json:"address"`
	Port    uint32 `json:"port"`
	// Path is what a request to the socket must have to get there. What answers
	// it is ProbeAnswer of the zone.
	Path string `json:"path"`
}

// ProbeAnswer is the body by which the ingress of a zone answers.
func ProbeAnswer(zone string) string { return "zone " + zone + "\n" }

// probing is whom a proxy shall ask; nil: nobody.
type probing struct {
	targets []ProbeTarget
	params  ir.TLSParams
}

func (p *probing) equal(q *probing) bool {
	if p == nil || q == nil {
		return p == q
	}
	return slices.Equal(p.targets, q.targets) && p.params.MinVersion == q.params.MinVersion &&
		p.params.MaxVersion == q.params.MaxVersion && slices.Equal(p.params.Ciphers, q.params.Ciphers)
}

// as is how it is done by a proxy with these policies.
func (p *probing) as(m *policy.Matched) *probing {
	if p == nil {
		return nil
	}
	return &probing{targets: p.targets, params: m.ClientTLS()}
}

// probingOf says whom a proxy shall ask: every address of all other zones, if it
// is a zone proxy or was elected.
func probingOf(r *view.Reader, site resource.Site, info *ProxyInfo, dp *resource.Object) *probing {
	if !info.has(FeatureZoneProbes) || info.Workdir == "" || site.Zone == "" {
		return nil
	}
	if len(kind.NetworkingOf(dp).GetListeners()) == 0 {
		row := r.Get(resource.ID{Type: kind.ZoneProbe, Mesh: dp.Mesh, Name: dp.Name})
		if row == nil || !resource.SpecOf[kind.ZoneProbeSpec](row).Elected {
			return nil
		}
	}
	p := &probing{}
	for o := range r.List(kind.MeshZoneAddress, dp.Mesh) {
		spec := resource.SpecOf[kind.MeshZoneAddressSpec](o)
		zone := o.Zone()
		addr, err := netip.ParseAddr(spec.Address)
		if err != nil || spec.Port < 1 || spec.Port > 65535 || zone == "" || zone == site.Zone {
			continue
		}
		t := ProbeTarget{Zone: zone, Address: addr.String(), Port: uint32(spec.Port)}
		t.Path = "/" + t.Zone + "/" + net.JoinHostPort(t.Address, strconv.Itoa(int(t.Port)))
		p.targets = append(p.targets, t)
	}
	if len(p.targets) == 0 {
		return nil
	}
	slices.SortFunc(p.targets, func(a, b ProbeTarget) int { return strings.Compare(a.Path, b.Path) })
	p.targets = slices.Compact(p.targets)
	return p
}

// probes adds what an agent asks other zones through: a listener that answers
// whom to ask, and leads to each of them. Every probe is a connection of its own,
// as long as which it lives.
func (o *own) probes(c *ir.Config) {
	if o.probing == nil || o.secured == nil {
		return
	}
	body, err := json.Marshal(o.probing.targets)
	if err != nil {
		panic("targets of probes cannot be encoded: " + err.Error())
	}
	routes := &ir.RouteConfig{Name: probeName, VirtualHost: probeName, MaxBody: uint32(max(4096, len(body))), Routes: []*ir.Route{{
		Match: ir.RouteMatch{Path: ProbeTargets}, Direct: &ir.Direct{Status: http.StatusOK, Body: string(body)},
	}}}
	for _, t := range o.probing.targets {
		name := fmt.Sprintf("%s_%s_%s_%d", probeName, t.Zone, t.Address, t.Port)
		c.Clusters = append(c.Clusters, &ir.Cluster{
			Name: name, Type: ir.Static, Protocol: ir.HTTP1, ConnectTimeout: new(probeTimeout),
			HTTP:      ir.ClusterHTTP{MaxRequests: 1},
			Endpoints: []ir.Endpoint{{Address: t.Address, Port: t.Port}},
			TLS: &ir.UpstreamTLS{
				ServerName: probeSNI, Certificate: o.secured.Certificate, Trust: o.secured.Trust, Params: o.probing.params,
			},
		})
		routes.Routes = append(routes.Routes, &ir.Route{
			Match:   ir.RouteMatch{Path: t.Path},
			Forward: &ir.Forward{Clusters: []ir.WeightedRef{{Cluster: name, Weight: 1}}, Timeout: new(probeTimeout)},
		})
	}
	c.Routes = append(c.Routes, routes)
	c.Listeners = append(c.Listeners, &ir.Listener{
		Name: probeName, Socket: ProbeSocket(o.info.Workdir),
		Chains: []*ir.Chain{{HTTP: &ir.HTTP{StatPrefix: probeName, RouteConfig: probeName, InternalCIDRs: []string{"127.0.0.1/32"}}}},
	})
}

// answerProbes has an ingress answer for its zone. No policy is for it, so that
// nothing is logged, limited or refused by them.
func (g *gate) answerProbes(l *ir.Listener, served *ir.DownstreamTLS) *ir.RouteConfig {
	name := "system_zone_probe_" + g.Section
	l.Chains = append(l.Chains, &ir.Chain{
		Name: probeSNI, TLS: served,
		Match: ir.ChainMatch{TransportProtocol: "tls", ServerNames: []string{probeSNI}},
		HTTP:  &ir.HTTP{StatPrefix: name, RouteConfig: name, InternalCIDRs: []string{"127.0.0.1/32"}},
	})
	return &ir.RouteConfig{Name: name, VirtualHost: name, Routes: []*ir.Route{{
		Match: ir.RouteMatch{Prefix: "/"}, Direct: &ir.Direct{Status: http.StatusOK, Body: ProbeAnswer(g.Zone)},
	}}}
}
