package policytest

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/atoll-mesh/atoll/pkg/ir"
	"github.com/atoll-mesh/atoll/pkg/policy"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"sigs.k8s.io/yaml"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func destination(kind resource.Type, short, name, zone string, age time.Duration, ports ...resource.Port) *policy.Destination {
	labels := map[string]string{resource.LabelDisplayName: name, "app": name}
	if zone != "" {
		labels[resource.LabelZone] = zone
	}
	return &policy.Destination{
		Kind: kind, KRI: resource.KRI{Short: short, Mesh: "default", Zone: zone, Name: name},
		Labels: labels, Created: start.Add(-age), Local: zone == "east", Ports: ports,
	}
}

// World is the destinations of the scripts, seen from zone east: a service with
// three ports that west has too, and older; its next version; a database; the
// service over both zones; and an external one.
var World = Destinations{
	destination(policy.MeshService, "msvc", "backend", "east", time.Hour,
		resource.Port{Section: "http", Number: 80, Protocol: ir.HTTP1},
		resource.Port{Section: "grpc", Number: 9000, Protocol: ir.GRPC},
		resource.Port{Section: "5432", Number: 5432, Protocol: ir.TCP}),
	destination(policy.MeshService, "msvc", "backend", "west", 2*time.Hour,
		resource.Port{Section: "http", Number: 80, Protocol: ir.HTTP1}),
	destination(policy.MeshService, "msvc", "backend-next", "east", time.Hour,
		resource.Port{Section: "80", Number: 80, Protocol: ir.HTTP2}),
	destination(policy.MeshService, "msvc", "db", "east", time.Hour,
		resource.Port{Section: "5432", Number: 5432, Protocol: ir.TCP}),
	destination(policy.MeshMultiZoneService, "mzsvc", "backend", "", time.Hour,
		resource.Port{Section: "http", Number: 80, Protocol: ir.HTTP1}),
	destination(policy.MeshExternalService, "extsvc", "pay", "", time.Hour,
		resource.Port{Section: "443", Number: 443, Protocol: ir.HTTP1}),
}

// Destinations resolves references among its elements.
type Destinations []*policy.Destination

// Candidates implements policy.Resolver.
func (w Destinations) Candidates(kind resource.Type, selector map[string]string) []*policy.Destination {
	return slices.DeleteFunc(slices.Clone(w), func(d *policy.Destination) bool {
		return d.Kind != kind || !d.Matches(selector)
	})
}

// Find returns a port of a destination by kind/name, or name of a MeshService,
// with @zone behind it if it is not the one of zone east.
func (w Destinations) Find(name, section string) (policy.Dest, bool) {
	kind, rest, ok := strings.Cut(name, "/")
	if !ok {
		kind, rest = string(policy.MeshService), name
	}
	rest, zone, ok := strings.Cut(rest, "@")
	if !ok && kind == string(policy.MeshService) {
		zone = "east"
	}
	for _, d := range w {
		for _, p := range d.Ports {
			if string(d.Kind) == kind && d.KRI.Name == rest && d.KRI.Zone == zone && p.Section == section {
				return policy.Dest{Destination: d, Port: p}, true
			}
		}
	}
	return policy.Dest{}, false
}

func (s *script) outbound(name, section string) []byte {
	d, ok := World.Find(name, section)
	if !ok {
		s.Fatalf("no port %s of %s", section, name)
	}
	rules := policy.BuildOutbound(s.match(), World)
	o := &policy.Outbound{Dest: d, Listener: &ir.Listener{Name: d.Name(), Direction: ir.Outbound, Address: "240.0.0.1", Port: d.Port.Number}}
	rules.Outbound(o)
	placements := map[string]*ir.Placement{}
	var clusters []*ir.Cluster
	for _, b := range o.Backends {
		c := &ir.Cluster{Name: b.Name(), Type: ir.EDS, Protocol: ir.HTTP2}
		rules.Cluster(b, c)
		if p := rules.Place(b, "east"); p != nil {
			placements[b.Name()] = p
		}
		clusters = append(clusters, c)
	}
	out := map[string]any{"chains": o.Listener.Chains, "routes": o.Routes, "clusters": clusters}
	if len(placements) > 0 {
		out["placements"] = placements
	}
	return pretty(out)
}

// inbound is what the compiler generates before policies: one chain, one route,
// one cluster. Sections that are names speak HTTP, numbers TCP.
func (s *script) inbound(section string) []byte {
	in := s.served(section)
	return pretty(map[string]any{"chains": in.Listener.Chains, "routes": in.Routes, "clusters": in.Clusters})
}

func (s *script) tls(section string) []byte {
	return pretty(map[string]any{"server": s.served(section).Listener.Chains[0].TLS, "client": s.match().ClientTLS()})
}

func (s *script) served(section string) *policy.Inbound {
	at := slices.IndexFunc(s.client.Sections, func(x policy.Section) bool { return x.Name == section })
	if at < 0 {
		s.Fatalf("the proxy has no section %s", section)
	}
	name := "self_inbound_dp_" + section
	in := &policy.Inbound{
		Facts:   s.facts(),
		Section: section, Address: "127.0.0.1", Port: s.client.Sections[at].Port, Protocol: ir.HTTP1,
		Clusters: []*ir.Cluster{{Name: name, Type: ir.Static, Protocol: ir.HTTP1, ConnectTimeout: dur(10 * time.Second), HTTP: ir.ClusterHTTP{IdleTimeout: dur(2 * time.Hour)}}},
		Routes: []*ir.RouteConfig{{Name: name, VirtualHost: name, Routes: []*ir.Route{{
			Match: ir.RouteMatch{Prefix: "/"}, Forward: &ir.Forward{Clusters: []ir.WeightedRef{{Cluster: name, Weight: 1}}, Timeout: dur(0)},
		}}}},
		Listener: &ir.Listener{Name: name, Direction: ir.Inbound, Chains: []*ir.Chain{{HTTP: &ir.HTTP{
			StatPrefix: name, RouteConfig: name, IdleTimeout: dur(2 * time.Hour), StreamIdleTimeout: dur(time.Hour),
		}}}},
	}
	if section[0] >= '0' && section[0] <= '9' {
		in.Protocol, in.Routes = ir.TCP, nil
		in.Clusters[0].Protocol, in.Clusters[0].HTTP = ir.TCP, ir.ClusterHTTP{}
		in.Listener.Chains = []*ir.Chain{{TCP: &ir.TCPProxy{
			StatPrefix: name, Clusters: []ir.WeightedRef{{Cluster: name, Weight: 1}}, IdleTimeout: dur(2 * time.Hour),
		}}}
	}
	if s.identity {
		in.TLS = &ir.DownstreamTLS{Certificate: ir.SecretRef{Name: "identity"}, Trust: ir.SecretRef{Name: "trust"}, ClientPrefixes: []string{"spiffe://td/"}}
	}
	s.match().Inbound(in)
	return in
}

func dur(d time.Duration) *time.Duration { return &d }

// pretty writes YAML with durations as people read them.
func pretty(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	var tree any
	if err := json.Unmarshal(b, &tree); err != nil {
		panic(err)
	}
	b, err = yaml.Marshal(readable(tree))
	if err != nil {
		panic(err)
	}
	return b
}

func readable(v any) any {
	switch v := v.(type) {
	case []any:
		for i := range v {
			v[i] = readable(v[i])
		}
	case map[string]any:
		for name, x := range v {
			n, number := x.(float64)
			if lower := strings.ToLower(name); number && (strings.HasSuffix(lower, "timeout") || strings.HasSuffix(lower, "interval") || strings.HasSuffix(lower, "duration") || strings.HasSuffix(lower, "interval")) {
				v[name] = time.Duration(n).String()
			} else {
				v[name] = readable(x)
			}
		}
	}
	return v
}

// facts of the proxy of the script.
func (s *script) facts() *policy.Facts {
	labels := s.client.Meta.Labels
	f := &policy.Facts{
		Mesh: "default", Zone: labels[resource.LabelZone], Name: "client", Address: "192.0.2.1", Labels: labels,
		KRI:        resource.KRI{Short: "dp", Mesh: "default", Zone: labels[resource.LabelZone], Name: "client"},
		Redirected: true, LogPipe: "/run/log.sock", MetricsSocket: "/run/metrics.sock", MetricsCert: "/etc/metrics.crt", MetricsKey: "/etc/metrics.key", Role: policy.RoleSidecar, ConfigSocket: "/run/config.sock",
		NodeAddress: "192.0.2.100",
	}
	if s.client.Says[policy.SaysOTLP] != "" {
		f.OTLPFolder = "/run"
	}
	return f
}

// own is a layer with the listeners that redirected connections come to.
func (s *script) own() []byte {
	c := &ir.Config{}
	for _, family := range []string{"ipv4", "ipv6"} {
		name := "self_transparentproxy_passthrough_outbound_" + family
		c.Clusters = append(c.Clusters, &ir.Cluster{Name: name, Type: ir.OriginalDst})
		c.Listeners = append(c.Listeners, &ir.Listener{
			Name: name, Direction: ir.Outbound, Port: 15001, OriginalDst: true,
			Chains: []*ir.Chain{{TCP: &ir.TCPProxy{StatPrefix: name, Clusters: []ir.WeightedRef{{Cluster: name, Weight: 1}}}}},
		})
	}
	s.match().Proxy(&policy.Own{Config: c, Facts: s.facts()})
	return pretty(c)
}
