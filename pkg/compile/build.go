package compile

import (
	"errors"
	"iter"
	"slices"

	"github.com/atoll-mesh/atoll/pkg/delta"
	"github.com/atoll-mesh/atoll/pkg/envoy"
	"github.com/atoll-mesh/atoll/pkg/ir"
	"github.com/atoll-mesh/atoll/pkg/policy"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/view"
	"github.com/atoll-mesh/atoll/pkg/xds"
)

// ErrNoDataplane says that the snapshot does not hold the proxy's Dataplane.
var ErrNoDataplane = errors.New("no such Dataplane")

// Result is everything that one proxy is given.
type Result struct {
	Shared    *ir.Config // what its audience has
	Own       *ir.Config
	Resources xds.Changes // both, encoded
	Matched   *policy.Matched
	Warnings  []Warning
}

// put adds what is shared, behind what is the proxy's own.
func put(c xds.Changes, t xds.Type, r *delta.Resource) {
	if c[t][r.Name] == nil {
		c.Put(t, r)
	}
}

// Build compiles one proxy from scratch. It is a pure function of its arguments
// and what an Engine serves at the snapshot's revision. Without the Dataplane
// the error is ErrNoDataplane.
func Build(in Inputs, s *view.Snapshot, info ProxyInfo) (*Result, error) {
	x, err := newSingle(&in, s, &info, nil)
	if err != nil {
		return nil, err
	}
	own := x.own(x.matched)
	res := &Result{Shared: &ir.Config{}, Matched: x.matched, Own: own.build()}
	res.Resources = envoy.Resources(res.Own)
	p := x.plan(x.matched)
	for i := range p.outbounds {
		u, l, routes := p.buildIR(i)
		p.units[i] = u
		res.Warnings = slices.Concat(res.Warnings, u.warnings, u.notes)
		if l == nil || u.removed {
			continue
		}
		res.Shared.Listeners = append(res.Shared.Listeners, l)
		put(res.Resources, xds.Listeners, u.listener)
		res.Shared.Routes = append(res.Shared.Routes, routes...)
		for _, r := range u.routes {
			put(res.Resources, xds.Routes, r)
		}
	}
	p.collectClusters()
	for i, row := range p.rows {
		u, c := p.buildCluster(i)
		res.Warnings = slices.Concat(res.Warnings, u.warnings, u.notes)
		if c == nil || u.removed {
			continue
		}
		res.Shared.Clusters = append(res.Shared.Clusters, c)
		put(res.Resources, xds.Clusters, u.cluster)
		if row.side == asEgress {
			continue
		}
		l := buildLoad(row.cluster, in.Site.Zone, p.placements[i], row.read(x.r))
		res.Shared.Loads = append(res.Shared.Loads, l)
		put(res.Resources, xds.Endpoints, envoy.Load(l))
	}
	res.Warnings = slices.Concat(x.warn.list, own.warn.list, p.warn.list, res.Warnings)
	return res, nil
}

func newIndex(defs []*policy.Def, r *view.Reader, mesh string) *policy.Index {
	return policy.NewIndex(defs, func(t resource.Type) iter.Seq[*resource.Object] { return r.List(t, mesh) })
}
