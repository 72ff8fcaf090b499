package compile

import (
	"github.com/atoll-mesh/atoll/pkg/ir"
	"github.com/atoll-mesh/atoll/pkg/policy"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/topology"
	"github.com/atoll-mesh/atoll/pkg/view"
)

// Balance says among which endpoints, and in which order, a proxy chooses: what
// Build says of the same clusters, without the rest.
type Balance struct {
	x     *resolver
	rules *policy.OutboundRules
	zone  string
	match *policy.Matched
}

// NewBalance is that of a client, which need not be stored.
func NewBalance(in Inputs, s *view.Snapshot, client *resource.Object) *Balance {
	r := view.NewReader(s)
	m := newIndex(in.Policies, r, client.Mesh).Match(policy.ProxyOf(client), policy.Options{Shadow: in.Shadow})
	x := newResolver(r, client.Mesh, in.Site)
	return &Balance{x: x, rules: policy.BuildOutbound(m, x), zone: in.Site.Zone, match: m}
}

// Load is the endpoints of a port as the client's Envoy gets them, or nil when
// there is no such port.
func (b *Balance) Load(destination resource.ID, section string) *ir.ClusterLoad {
	d, ok := b.x.byID(destination, section)
	if !ok {
		return nil
	}
	return buildLoad(d.Name(), b.zone, b.rules.Place(d, b.zone), b.x.r.Endpoints(topology.EndpointsKey{Destination: destination, Section: section}))
}

// Strategy is the MeshLoadBalancingStrategy of the highest precedence that
// arranges the endpoints of a port, or nil.
func (b *Balance) Strategy(destination resource.ID, section string) *resource.Object {
	return b.Policy("MeshLoadBalancingStrategy", destination, section)
}

// Calling is how a client calls a port of a destination.
type Calling struct {
	Protocol string          // that policies take it for
	Routes   *ir.RouteConfig // nil: connections are passed on as they are
	Cluster  *ir.Cluster     // of the destination itself, as far as policies make it
	// Backends is where requests for the destination go: itself, unless a route
	// says otherwise.
	Backends []Backend
}

// Backend is a port of a destination.
type Backend struct {
	ID      resource.ID
	Section string
}

// Calling is how the client calls a port, or nil when there is none.
func (b *Balance) Calling(destination resource.ID, section string) *Calling {
	d, ok := b.x.byID(destination, section)
	if !ok {
		return nil
	}
	o := &outbound{dest: d, addresses: []ir.Address{{}}}
	_, routes, backends := o.build(b.rules)
	c := &Calling{Protocol: d.Port.Protocol, Routes: routes, Cluster: buildCluster(d, b.rules, nil)}
	for _, to := range backends {
		c.Backends = append(c.Backends, Backend{to.ID, to.Port.Section})
	}
	return c
}

// Policy is the policy of a type that has the last word on how the client calls a
// port, or nil.
func (b *Balance) Policy(t resource.Type, destination resource.ID, section string) *resource.Object {
	d, ok := b.x.byID(destination, section)
	if !ok {
		return nil
	}
	for _, a := range b.match.OutboundPolicies(d) {
		if a.Type == t && len(a.Origins) > 0 {
			return a.Origins[len(a.Origins)-1].Policy
		}
	}
	return nil
}
