package compile

import (
	"fmt"
	"net"
	"strconv"
	"time"

	mesh_proto "github.com/atoll-mesh/atoll/api/kuma/mesh/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/identity"
	"github.com/atoll-mesh/atoll/pkg/ir"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/policy"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

const ipv4Only = mesh_proto.Dataplane_Networking_TransparentProxying_IPv4

// Names of the resources that belong to no destination.
const (
	adminName       = "system_envoy_admin"
	readinessName   = "system_probe_readiness"
	passthroughName = "self_transparentproxy_passthrough_"
)

// Timeouts of inbounds and of connecting, before policies.
const (
	connectTimeout           = 5 * time.Second
	inboundConnectTimeout    = 10 * time.Second
	inboundIdleTimeout       = 2 * time.Hour
	inboundStreamIdleTimeout = time.Hour
)

// own makes the layer of one proxy: what only it has.
type own struct {
	settings *Settings
	info     *ProxyInfo
	dp       *resource.Object
	net      *kind.Networking
	redirect *TransparentProxy
	matched  *policy.Matched
	secured  *secured               // nil: the proxy has no identity
	trust    []identity.TrustDomain // of the mesh
	facts    *policy.Facts
	probing  *probing // nil: it asks no other zone
	closed   int64    // how often connections shall have been closed
	exports  []policy.Exported
	warn     warnings
}

func newOwn(settings *Settings, info *ProxyInfo, dp *resource.Object, m *policy.Matched) *own {
	n := kind.NetworkingOf(dp)
	o := &own{settings: settings, info: info, dp: dp, net: n, redirect: info.redirection(n), matched: m}
	o.facts = factsOf(info, dp, n, o.redirect)
	return o
}

func (o *own) build() *ir.Config {
	c := &ir.Config{}
	if !kind.IsDelegatedGateway(o.net) {
		seen := map[string]bool{}
		for i, in := range o.net.GetInbound() {
			if in.GetPort() == kind.ServicelessPort {
				continue
			}
			source := fmt.Sprintf("networking.inbound[%d]", i)
			name := "self_inbound_dp_" + kind.InboundSection(in)
			where := net.JoinHostPort(kind.InboundAddress(o.net, in), strconv.Itoa(int(in.GetPort())))
			if seen[name] {
				o.warn.add(source, "an inbound before it has the same name %q; each needs its own", kind.InboundSection(in))
				continue
			}
			if seen[where] {
				o.warn.add(source, "an inbound before it listens on %s too; each needs an address and port of its own", where)
				continue
			}
			seen[name], seen[where] = true, true
			o.warn.guard(source, func() { o.inbound(c, source, name, in) })
		}
	}
	o.passthrough(c)
	o.admin(c)
	o.secrets(c)
	o.probes(c)
	o.warn.guard("proxy", func() {
		x := &policy.Own{Config: c, Facts: o.facts}
		o.matched.Proxy(x)
		o.exports = x.ExportPlan()
	})
	o.patchProblems(c)
	return c
}

func (o *own) inbound(c *ir.Config, source, name string, in *kind.DataplaneInbound) {
	address := kind.InboundAddress(o.net, in)
	if !isIP(address) {
		o.warn.add(source, "the proxy cannot listen on %q, which is not an IP address; set networking.address or the inbound's address to one", address)
		return
	}
	tags := o.dp.Labels
	if len(tags) == 0 {
		tags = unified(name)
	}
	b := &policy.Inbound{
		Address: address, Port: in.GetPort(),
		Facts:    o.facts,
		TLS:      o.secured.inboundTLS(),
		Section:  kind.InboundSection(in),
		Protocol: kind.NormalProtocol(in.GetProtocol()),
		Listener: &ir.Listener{
			Name: name, Direction: ir.Inbound, Address: address, Port: in.GetPort(),
			NoBind:    o.redirect != nil && o.redirect.InboundPort != 0,
			ReusePort: o.info.has(FeatureReusePort),
			Tags:      tags,
		},
	}
	cluster := o.workload(name, b.Protocol, in)
	b.Clusters = []*ir.Cluster{cluster}
	chain := &ir.Chain{}
	b.Listener.Chains = []*ir.Chain{chain}
	target := []ir.WeightedRef{{Cluster: name, Weight: 1}}
	if ir.IsHTTP(b.Protocol) {
		chain.HTTP = &ir.HTTP{
			StatPrefix: name, RouteConfig: name,
			GRPCStats:         b.Protocol == ir.GRPC,
			ClientCertDetails: true,
			Limited:           true,
			Disturbed:         true,
			InternalCIDRs:     internalCIDRs(o.settings.InternalCIDRs, o.info.IPv6),
			IdleTimeout:       new(inboundIdleTimeout),
			StreamIdleTimeout: new(inboundStreamIdleTimeout),
		}
		cluster.HTTP.IdleTimeout = new(inboundIdleTimeout)
		b.Routes = []*ir.RouteConfig{{
			Name: name, VirtualHost: name,
			RemoveRequestHeaders: []string{"x-kuma-tags"},
			Routes: []*ir.Route{{
				Match:   ir.RouteMatch{Prefix: "/"},
				Forward: &ir.Forward{Clusters: target, Timeout: new(time.Duration(0))},
			}},
		}}
	} else {
		chain.TCP = &ir.TCPProxy{StatPrefix: name, Clusters: target, IdleTimeout: new(inboundIdleTimeout)}
	}
	o.matched.Inbound(b)
	for _, chain := range b.Listener.Chains {
		chain.Closed = o.closed
	}
	c.Listeners = append(c.Listeners, b.Listener)
	c.Clusters = append(c.Clusters, b.Clusters...)
	c.Routes = append(c.Routes, b.Routes...)
}

// workload is the cluster of the application behind an inbound.
func (o *own) workload(name, protocol string, in *kind.DataplaneInbound) *ir.Cluster {
	address := kind.ServiceAddress(o.net, in, o.redirect != nil)
	c := &ir.Cluster{
		Name: name, Type: ir.Static, Protocol: protocol,
		ConnectTimeout: new(inboundConnectTimeout),
		Endpoints:      []ir.Endpoint{{Address: address, Port: kind.ServicePort(in)}},
	}
	if !isIP(address) {
		c.Type = ir.StrictDNS
	}
	if o.redirect != nil && !isLoopback(address) {
		// The source by which redirection knows that it must let this one pass.
		c.BindSource = passthroughSource(isIPv6(address))
	}
	return c
}

func passthroughSource(ipv6 bool) string {
	if ipv6 {
		return "::6"
	}
	return "127.0.0.6"
}

// passthrough receives redirected connections and hands each to the listener of
// its destination, or forwards it there when no listener has that address.
func (o *own) passthrough(c *ir.Config) {
	if o.redirect == nil {
		return
	}
	add := func(direction ir.Direction, port uint32, ipv6 bool) {
		if port == 0 {
			return
		}
		name, address := passthroughName+string(direction)+"_ipv4", "0.0.0.0"
		if ipv6 {
			name, address = passthroughName+string(direction)+"_ipv6", "::"
		}
		cluster := &ir.Cluster{Name: name, Type: ir.OriginalDst, ConnectTimeout: new(connectTimeout)}
		if direction == ir.Inbound {
			cluster.BindSource = passthroughSource(ipv6)
		}
		c.Clusters = append(c.Clusters, cluster)
		c.Listeners = append(c.Listeners, &ir.Listener{
			Name: name, Direction: direction, Address: address, Port: port, OriginalDst: true,
			ReusePort: direction == ir.Inbound && o.info.has(FeatureReusePort),
			Chains: []*ir.Chain{{TCP: &ir.TCPProxy{
				StatPrefix: name, Clusters: []ir.WeightedRef{{Cluster: name, Weight: 1}},
			}}},
		})
	}
	for _, ipv6 := range []bool{false, true} {
		if ipv6 && (o.redirect.IPv4Only || !o.info.IPv6) {
			continue
		}
		add(ir.Outbound, o.redirect.OutboundPort, ipv6)
		add(ir.Inbound, o.redirect.InboundPort, ipv6)
	}
}

// admin serves the readiness of the agent where others can ask for it.
func (o *own) admin(c *ir.Config) {
	port := o.info.AdminPort
	if port == 0 {
		port = o.net.GetAdmin().GetPort()
	}
	address := o.net.GetAddress()
	taken := o.info.AdminSocket == "" && address == o.info.AdminAddress
	if port == 0 || o.info.ReadinessPort == 0 || taken || !isIP(address) {
		return
	}
	c.Clusters = append(c.Clusters, &ir.Cluster{
		Name: readinessName, Type: ir.Static, ConnectTimeout: new(connectTimeout),
		Endpoints: []ir.Endpoint{{Address: o.readinessAddress(address), Port: o.info.ReadinessPort}},
	})
	c.Listeners = append(c.Listeners, &ir.Listener{
		Name: adminName, Direction: ir.Inbound, Address: address, Port: port,
		ReusePort: o.info.has(FeatureReusePort),
		Chains:    []*ir.Chain{{HTTP: &ir.HTTP{StatPrefix: adminName, RouteConfig: adminName, InternalCIDRs: internalCIDRs(nil, o.info.IPv6)}}},
	})
	c.Routes = append(c.Routes, &ir.RouteConfig{
		Name: adminName, VirtualHost: adminName,
		Routes: []*ir.Route{{
			Match:   ir.RouteMatch{Path: "/ready"},
			Forward: &ir.Forward{Clusters: []ir.WeightedRef{{Cluster: readinessName, Weight: 1}}},
		}},
	})
}

// readinessAddress is where the agent answers: several agents on one machine
// have their Dataplanes on loopback addresses and answer there.
func (o *own) readinessAddress(dataplane string) string {
	switch beside := o.info.has(FeatureReadinessBesideDataplane); {
	case beside && isLoopback(dataplane):
		return dataplane
	case beside && isIPv6(dataplane):
		return "::1"
	}
	return "127.0.0.1"
}

// unified are the tags of a listener that has no others: its name.
func unified(name string) map[string]string {
	return map[string]string{"kuma.io/unified-name": name}
}
