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
	x      *resolver
	rules  *policy.OutboundRules
	zone   string
	digest policy.Digest
}

// NewBalance is that of a client, which need not be stored.
func NewBalance(in Inputs, s *view.Snapshot, client *resource.Object) *Balance {
	r := view.NewReader(s)
	m := newIndex(in.Policies, r, client.Mesh).Match(policy.ProxyOf(client), policy.Options{Shadow: in.Shadow})
	x := newResolver(r, client.Mesh, in.Site)
	return &Balance{x: x, rules: policy.BuildOutbound(m, x), zone: in.Site.Zone, digest: m.OutboundDigest()}
}

// Digest is equal for clients that choose alike.
func (b *Balance) Digest() policy.Digest { return b.digest }

// Load is the endpoints of a port as the client's Envoy gets them, or nil when
// there is no such port.
func (b *Balance) Load(destination resource.ID, section string) *ir.ClusterLoad {
	d, ok := b.x.byID(destination, section)
	if !ok {
		return nil
	}
	return buildLoad(d.Name(), b.zone, b.rules.Place(d, b.zone), b.x.r.Endpoints(topology.EndpointsKey{Destination: destination, Section: section}))
}
