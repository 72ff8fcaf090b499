package compile

import (
	"github.com/atoll-mesh/atoll/pkg/delta"
	"github.com/atoll-mesh/atoll/pkg/envoy"
	"github.com/atoll-mesh/atoll/pkg/ir"
	"github.com/atoll-mesh/atoll/pkg/policy"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/topology"
	"github.com/atoll-mesh/atoll/pkg/view"
)

// plan is what an audience needs, against one snapshot, before anything is
// built: which outbounds and which clusters, each with the key of its inputs.
type plan struct {
	x     *resolver
	zone  string
	rules *policy.OutboundRules
	warn  warnings

	outbounds []*outbound
	keys      []outboundKey // of outbounds
	units     []*outboundUnit

	clusters     []policy.Dest
	clusterKeys  []clusterKey
	clusterUnits []*clusterUnit
	rows         []rowKey // of clusters
	placements   []*ir.Placement
}

// outboundUnit is an outbound that was built, for all audiences that have it.
type outboundUnit struct {
	listener *delta.Resource
	routes   *delta.Resource // nil unless HTTP
	backends []backend
	warnings []Warning // set: it could not be built
}

// backend names a cluster that an outbound sends to. It is looked up anew by
// each audience, since its policies may differ.
type backend struct {
	id      resource.ID
	section string
}

type clusterUnit struct {
	cluster  *delta.Resource
	warnings []Warning
}

// rowKey names the endpoints of one cluster, and how they are arranged.
type rowKey struct {
	cluster string
	topology.EndpointsKey
	placed digest
}

func newPlan(r *view.Reader, mesh, zone string, s *shape, m *policy.Matched, settings *Settings) *plan {
	x := newResolver(r, mesh)
	p := &plan{x: x, zone: zone, rules: policy.BuildOutbound(m, x)}
	p.outbounds = s.outbounds(x, settings, &p.warn)
	kept := p.outbounds[:0]
	for _, o := range p.outbounds {
		// Keys of policies that cannot be computed would be those of nothing.
		if p.warn.guard(o.dest.Name(), func() { p.keys = append(p.keys, o.key(p.rules)) }) {
			kept = append(kept, o)
		}
	}
	p.outbounds = kept
	p.units = make([]*outboundUnit, len(p.outbounds))
	return p
}

// build makes the i-th outbound. It may run concurrently with others.
func (p *plan) build(i int) *outboundUnit {
	u, _, _ := p.buildIR(i)
	return u
}

func (p *plan) buildIR(i int) (*outboundUnit, *ir.Listener, *ir.RouteConfig) {
	o, u := p.outbounds[i], &outboundUnit{}
	var w warnings
	var l *ir.Listener
	var rc *ir.RouteConfig
	if !w.guard(o.dest.Name(), func() {
		var backends []policy.Dest
		l, rc, backends = o.build(p.rules)
		for _, b := range backends {
			u.backends = append(u.backends, backend{id: p.x.id(b), section: b.Port.Section})
		}
		u.listener = envoy.Listener(l)
		if rc != nil {
			u.routes = envoy.Route(rc)
		}
	}) {
		return &outboundUnit{warnings: w.list}, nil, nil
	}
	return u, l, rc
}

// collectClusters lists the clusters of all outbounds, once p.units are set.
func (p *plan) collectClusters() {
	seen, names := map[backend]bool{}, map[string]bool{}
	for _, u := range p.units {
		for _, b := range u.backends {
			if seen[b] {
				continue
			}
			seen[b] = true
			d, ok := p.x.byID(b.id, b.section)
			if !ok {
				continue // its outbound would have another key
			}
			if names[d.Name()] {
				continue // identified as another one is, which has the name
			}
			names[d.Name()] = true
			p.warn.guard(d.Name(), func() {
				key, placement := keyOfCluster(d, p.rules), p.rules.Place(d, p.zone)
				p.clusterKeys = append(p.clusterKeys, key)
				p.clusters = append(p.clusters, d)
				p.placements = append(p.placements, placement)
				p.rows = append(p.rows, rowKey{d.Name(), topology.EndpointsKey{Destination: b.id, Section: b.section}, placementDigest(placement)})
			})
		}
	}
	p.clusterUnits = make([]*clusterUnit, len(p.clusters))
}

// buildCluster makes the i-th cluster. It may run concurrently with others.
func (p *plan) buildCluster(i int) (*clusterUnit, *ir.Cluster) {
	var w warnings
	u := &clusterUnit{}
	var c *ir.Cluster
	if !w.guard(p.clusters[i].Name(), func() {
		c = buildCluster(p.clusters[i], p.rules)
		u.cluster = envoy.Cluster(c)
	}) {
		return &clusterUnit{warnings: w.list}, nil
	}
	return u, c
}
