package compile

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"

	"github.com/zeebo/xxh3"

	"github.com/atoll-mesh/atoll/pkg/ir"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/policy"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/topology"
)

// outbound is one destination port that an audience calls, and where.
type outbound struct {
	dest      policy.Dest
	source    string // what of the Dataplane asks for it, for warnings
	addresses []ir.Address
	noBind    bool
	cidrs     []string
	gate      *gate // instead of all that: a listener of a zone proxy
	passages  []passage
	facts     *policy.Facts
	served    *ir.DownstreamTLS // of an egress

	called string // its name, once it is settled
	where  digest // of addresses and CIDRs, likewise
}

// outbounds lists what an audience calls. What cannot be called is left out with
// a warning; all else stays.
func (s *shape) outbounds(x *resolver, settings *Settings, warn *warnings) []*outbound {
	c := &collector{
		shape: s, x: x, warn: warn,
		cidrs:  internalCIDRs(settings.InternalCIDRs, s.IPv6),
		byName: map[string]*outbound{},
		taken:  map[ir.Address]string{},
	}
	switch {
	case !s.Virtual:
		c.explicit()
	case s.All:
		for _, d := range x.all() {
			c.virtual(d, nil)
		}
	default:
		c.reachable()
	}
	return c.list
}

type collector struct {
	shape  *shape
	x      *resolver
	warn   *warnings
	cidrs  []string
	list   []*outbound
	byName map[string]*outbound
	taken  map[ir.Address]string // address to the name of its listener
}

func (c *collector) explicit() {
	for i := range c.shape.Explicit {
		e := &c.shape.Explicit[i]
		source := fmt.Sprintf("networking.outbound[%d]", i)
		ref := policy.BackendRef{TargetRef: policy.TargetRef{Kind: e.Backend.Kind, Labels: e.Backend.selector()}}
		if e.Backend.Port != 0 {
			ref.Port = &e.Backend.Port
		}
		d, ok := policy.ResolveBackend(c.x, ref, nil)
		if !ok {
			c.warn.add(source+".backendRef", "%s", c.unresolved(&e.Backend))
			continue
		}
		if !isIP(e.Address) {
			c.warn.add(source+".address", "%q is not an IP address", e.Address)
			continue
		}
		c.add(source, d, ir.Address{Address: e.Address, Port: e.Port})
	}
}

func (c *collector) unresolved(r *reference) string {
	what := fmt.Sprintf("%s %q", r.Kind, r.Name)
	if r.Name == "" {
		what = fmt.Sprintf("%s with labels %v", r.Kind, r.Labels)
	}
	switch found := c.x.selected(r.Kind, r.selector()); {
	case len(found) == 0:
		return fmt.Sprintf("there is no %s in mesh %s", what, c.x.mesh)
	case r.Port == 0:
		return what + " has more than one port; set the port"
	}
	return fmt.Sprintf("%s has no port %d", what, r.Port)
}

func (c *collector) reachable() {
	refs := map[resource.ID][]int{}
	var order []*topology.Destination
	for i := range c.shape.Refs {
		r := &c.shape.Refs[i]
		found := c.x.selected(r.Kind, r.selector())
		if len(found) == 0 {
			c.warn.add(fmt.Sprintf("networking.transparentProxying.reachableBackends.refs[%d]", i), "nothing in mesh %s is meant by it", c.x.mesh)
		}
		for _, d := range found {
			if refs[d.ID] == nil {
				order = append(order, d)
			}
			refs[d.ID] = append(refs[d.ID], i)
		}
	}
	for _, d := range order {
		c.virtual(d, refs[d.ID])
	}
}

// virtual adds the ports of a destination at its virtual addresses.
func (c *collector) virtual(d *topology.Destination, refs []int) {
	for _, p := range d.Ports {
		if !c.shape.wants(refs, p.Number) {
			continue
		}
		dest, ok := c.x.dest(d, p.Section)
		if !ok {
			continue
		}
		if len(d.VIPs) == 0 {
			c.warn.add(dest.Name(), "has no virtual address yet")
		}
		for _, vip := range d.VIPs {
			if a, err := netip.ParseAddr(vip); err == nil {
				c.add(dest.Name(), dest, ir.Address{Address: a.String(), Port: p.Number})
			}
		}
	}
}

// add files an address under its destination. The listener of a destination is
// named after it, so there is one, which may have several addresses; of two
// destinations at one address the first keeps it, as Envoy would have it.
func (c *collector) add(source string, d policy.Dest, a ir.Address) {
	name := d.Name()
	if by, taken := c.taken[a]; taken {
		if by != name {
			c.warn.add(source, "%s is taken by %s", net.JoinHostPort(a.Address, strconv.Itoa(int(a.Port))), by)
		}
		return
	}
	o := c.byName[name]
	switch {
	case o == nil:
		o = &outbound{dest: d, source: source, noBind: c.shape.NoBind, cidrs: c.cidrs}
		c.byName[name] = o
		c.list = append(c.list, o)
	case o.dest.ID != d.ID:
		c.warn.add(source, "another destination is also identified as %s", name)
		return
	}
	c.taken[a] = name
	o.addresses = append(o.addresses, a)
}

// settle remembers what follows from the outbound itself, for all who share it.
func (o *outbound) settle() { o.called, o.where = o.name(), o.place() }

// place identifies where the outbound listens, and for whom.
func (o *outbound) place() digest {
	if o.called != "" {
		return o.where
	}
	h := xxh3.New()
	for _, a := range o.addresses {
		_, _ = fmt.Fprintf(h, "%s %d,", a.Address, a.Port)
	}
	for _, s := range o.cidrs {
		_, _ = h.WriteString(s + ";")
	}
	return h.Sum128().Bytes()
}

// key identifies all inputs of build, and tells what was looked up for it.
func (o *outbound) key(rules *policy.OutboundRules) (outboundKey, []policy.Lookup) {
	digest, looked := rules.Inputs(o.dest)
	return outboundKey{name: o.name(), noBind: o.noBind, where: o.place(), rules: digest}, looked
}

type outboundKey struct {
	name         string
	noBind       bool
	where, rules digest
}

// build makes the listener and the routes, and names what they send to.
func (o *outbound) build(rules *policy.OutboundRules) (l *ir.Listener, rc *ir.RouteConfig, backends []policy.Dest) {
	name := o.dest.Name()
	l = &ir.Listener{
		Name: name, Direction: ir.Outbound,
		Address: o.addresses[0].Address, Port: o.addresses[0].Port, Also: o.addresses[1:],
		NoBind: o.noBind, Tags: unified(name),
	}
	po := &policy.Outbound{Dest: o.dest, Listener: l}
	rules.Outbound(po)
	onePriority(po)
	for _, c := range l.Chains {
		if c.HTTP != nil {
			c.HTTP.InternalCIDRs = o.cidrs
		}
	}
	return l, po.Routes, po.Backends
}

// clusterKey identifies all inputs of buildCluster.
type clusterKey struct {
	name     string
	protocol string
	crosses  bool
	rules    digest
	tls      digest
}

// upstreamProtocol is what is spoken to the endpoints: HTTP/2 between proxies,
// whatever the workload speaks (bytes of TCP are passed as they are), and the
// workload's own protocol where there is no proxy on the other side.
func upstreamProtocol(d policy.Dest) string {
	if d.Kind == kind.MeshExternalService {
		return d.Port.Protocol
	}
	return ir.HTTP2
}

func keyOfCluster(d policy.Dest, rules *policy.OutboundRules) clusterKey {
	return clusterKey{name: d.Name(), protocol: upstreamProtocol(d), crosses: crosses(d), rules: rules.ClusterDigest(d)}
}

func buildCluster(d policy.Dest, rules *policy.OutboundRules, tls *ir.UpstreamTLS) *ir.Cluster {
	c := &ir.Cluster{
		Name: d.Name(), Type: ir.EDS, Protocol: upstreamProtocol(d),
		ConnectTimeout: new(connectTimeout), TLS: tls,
	}
	attentive(d, c)
	rules.Cluster(d, c)
	return c
}
