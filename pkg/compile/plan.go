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
// built: which outbounds and which clusters, each with the key of its inputs. With
// a part it is only what differs from what the audience has.
type plan struct {
	x     *resolver
	zone  string
	rules *policy.OutboundRules
	match *policy.Matched
	shape *shape
	// served is what the proxies of the audience present to clients, and whom they
	// trust; nil: they have no identity.
	served *ir.DownstreamTLS
	client *mutual // the same for calling others
	warn   warnings

	outbounds []*outbound
	keys      []outboundKey // of outbounds
	units     []*outboundUnit
	looked    [][]policy.Lookup // for outbounds

	clusters     []policy.Dest
	clusterKeys  []clusterKey
	clusterUnits []*clusterUnit
	rows         []rowKey // of clusters
	placements   []*ir.Placement
	exits        map[backend]*exit
	tls          map[int]*ir.UpstreamTLS // of clusters
	backends     []backend               // of clusters

	roster *roster // nil: outbounds is a list of its own
	part   *part   // nil: it is a whole plan
	refs   map[backend]int
	// odd: something was left out, or depends on the order of everything, so that
	// the next plan must be a whole one.
	odd bool
}

// outboundUnit is an outbound that was built, for all audiences that have it.
type outboundUnit struct {
	listener *delta.Resource
	routes   []*delta.Resource // of HTTP
	backends []backend
	warnings []Warning // set: it could not be built
	patching
}

// patching is what patches by hand did to a unit.
type patching struct {
	removed bool      // it is not served
	notes   []Warning // patches that were left out
}

func (x *patching) left(name string, problems []string) {
	for _, p := range problems {
		x.notes = append(x.notes, Warning{Source: name, Text: p})
	}
}

// backend names a cluster that an outbound sends to. It is looked up anew by
// each audience, since its policies may differ.
type backend struct {
	id      resource.ID
	section string
	side    side
}

type clusterUnit struct {
	cluster  *delta.Resource
	warnings []Warning
	patching
}

// rowKey names the endpoints of one cluster, and how they are arranged.
type rowKey struct {
	cluster string
	topology.EndpointsKey
	placed digest
	side   side // asEgress has none: its endpoints are part of the cluster
}

func newPlan(r *view.Reader, mesh string, site resource.Site, s *shape, m *policy.Matched, settings *Settings, client *mutual) *plan {
	p := emptyPlan(r, mesh, site, s, m, client)
	p.outbounds = s.outbounds(p.x, settings, &p.warn)
	for _, o := range s.gateOutbounds(p.x, settings, p.served, &p.warn) {
		p.outbounds = append(p.outbounds, o)
		for _, pass := range o.passages {
			p.exits[pass.backend] = pass.exit
		}
	}
	p.findKeys()
	return p
}

func emptyPlan(r *view.Reader, mesh string, site resource.Site, s *shape, m *policy.Matched, client *mutual) *plan {
	x := newResolver(r, mesh, site)
	return &plan{
		x: x, zone: site.Zone, rules: policy.BuildOutbound(m, x), match: m, shape: s,
		exits: map[backend]*exit{}, client: client, served: client.served(),
		tls: map[int]*ir.UpstreamTLS{}, refs: map[backend]int{},
	}
}

// findKeys computes the keys of outbounds. Those of policies that cannot be
// computed would be those of nothing: such outbounds are left out, and returned.
func (p *plan) findKeys() (failed []*outbound) {
	kept := p.outbounds[:0]
	for _, o := range p.outbounds {
		var key outboundKey
		var looked []policy.Lookup
		if !p.warn.guard(o.name(), func() { key, looked = o.keyIn(p) }) {
			failed = append(failed, o)
			continue
		}
		kept = append(kept, o)
		p.keys, p.looked = append(p.keys, key), append(p.looked, looked)
	}
	p.outbounds = kept
	p.odd = p.odd || len(failed) > 0
	p.units = make([]*outboundUnit, len(p.outbounds))
	return failed
}

// build makes the i-th outbound. It may run concurrently with others.
func (p *plan) build(i int) *outboundUnit {
	u, _, _ := p.buildIR(i)
	return u
}

func (p *plan) buildIR(i int) (*outboundUnit, *ir.Listener, []*ir.RouteConfig) {
	o, u := p.outbounds[i], &outboundUnit{}
	var w warnings
	var l *ir.Listener
	var routes []*ir.RouteConfig
	if !w.guard(o.name(), func() {
		l, routes, u.backends = o.buildIn(p)
		u.listener = envoy.Listener(l)
		u.removed = l.Removed
		u.left(l.Name, envoy.ListenerProblems(l))
		for _, rc := range routes {
			u.left(rc.Name, envoy.RouteProblems(rc))
			u.routes = append(u.routes, envoy.Route(rc))
		}
	}) {
		return &outboundUnit{warnings: w.list}, nil, nil
	}
	return u, l, routes
}

// name is that of the listener.
func (o *outbound) name() string {
	switch {
	case o.called != "":
		return o.called
	case o.gate != nil:
		return o.gate.Name
	}
	return o.dest.Name()
}

func (o *outbound) keyIn(p *plan) (outboundKey, []policy.Lookup) {
	if o.gate != nil {
		return o.gateKey(p.match), nil
	}
	return o.key(p.rules)
}

func (o *outbound) buildIn(p *plan) (*ir.Listener, []*ir.RouteConfig, []backend) {
	if o.gate != nil {
		return o.buildGate(p.match)
	}
	l, rc, dests := o.build(p.rules)
	var backends []backend
	for _, d := range dests {
		backends = append(backends, backend{id: d.ID, section: d.Port.Section})
	}
	if rc == nil {
		rc = lingering(o.dest, l)
	}
	if rc == nil {
		return l, nil, backends
	}
	return l, []*ir.RouteConfig{rc}, backends
}

// collectClusters lists the clusters of all outbounds, once p.units are set.
func (p *plan) collectClusters() {
	if p.part != nil {
		p.collectPart()
		return
	}
	seen, names := map[backend]bool{}, map[string]bool{}
	for _, u := range p.units {
		for _, b := range u.backends {
			if p.roster != nil {
				p.refs[b]++
			}
			if seen[b] {
				continue
			}
			seen[b] = true
			d, ok := p.x.byID(b.id, b.section)
			if !ok {
				p.odd = true
				continue // its outbound would have another key
			}
			if b.side != asClient {
				p.warn.guard(d.Name(), func() { p.collectGateCluster(b, d) })
				continue
			}
			if names[d.Name()] {
				p.odd = true
				continue // identified as another one is, which has the name
			}
			names[d.Name()] = true
			p.collectCluster(b, d, nil)
		}
	}
	p.clusterUnits = make([]*clusterUnit, len(p.clusters))
}

// collectCluster adds the cluster of a backend, unless it is what is there already.
// It reports whether there is one.
func (p *plan) collectCluster(b backend, d policy.Dest, has *heldCluster) (ok bool) {
	ok = p.warn.guard(d.Name(), func() {
		key, placement := keyOfCluster(d, p.rules), p.rules.Place(d, p.zone)
		tls := p.client.toward(p.x.row(b.id), b.section)
		if tls != nil {
			key.tls = digestOf(tls)
		}
		row := rowKey{key.name, topology.EndpointsKey{Destination: b.id, Section: b.section}, placementDigest(placement), asClient}
		if has != nil && has.key == key && has.row == row {
			return
		}
		if tls != nil {
			p.tls[len(p.clusters)] = tls
		}
		p.clusterKeys = append(p.clusterKeys, key)
		p.clusters = append(p.clusters, d)
		p.placements = append(p.placements, placement)
		p.rows = append(p.rows, row)
		p.backends = append(p.backends, b)
	})
	p.odd = p.odd || !ok
	return ok
}

// buildCluster makes the i-th cluster. It may run concurrently with others.
func (p *plan) buildCluster(i int) (*clusterUnit, *ir.Cluster) {
	var w warnings
	u := &clusterUnit{}
	var c *ir.Cluster
	if !w.guard(p.clusters[i].Name(), func() {
		if p.rows[i].side != asClient {
			c = p.buildGateCluster(i)
		} else {
			c = buildCluster(p.clusters[i], p.rules, p.tls[i])
		}
		u.cluster = envoy.Cluster(c)
		u.removed = c.Removed
		u.left(c.Name, envoy.ClusterProblems(c))
	}) {
		return &clusterUnit{warnings: w.list}, nil
	}
	return u, c
}
