package compile

import (
	"fmt"

	"github.com/atoll-mesh/atoll/pkg/delta"
	"github.com/atoll-mesh/atoll/pkg/envoy"
	"github.com/atoll-mesh/atoll/pkg/identity"
	"github.com/atoll-mesh/atoll/pkg/ir"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/policy"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/view"
	"github.com/atoll-mesh/atoll/pkg/xds"
)

// single compiles one proxy against one snapshot, as far as somebody asks. It is
// for one goroutine.
type single struct {
	in      *Inputs
	r       *view.Reader
	info    *ProxyInfo
	dp      *resource.Object
	shape   *shape
	matched *policy.Matched
	ids     *identity.Mesh
	sec     *secured
	warn    warnings // of the identity
}

// newSingle finds the proxy and what selects it. index is of its mesh; nil: it is
// read now.
func newSingle(in *Inputs, s *view.Snapshot, info *ProxyInfo, index *policy.Index) (*single, error) {
	x := &single{in: in, r: view.NewReader(s), info: info}
	id := info.ID
	id.Type = kind.Dataplane
	if x.dp = x.r.Get(id); x.dp == nil {
		return nil, fmt.Errorf("%s: %w", id, ErrNoDataplane)
	}
	if index == nil {
		index = newIndex(in.Policies, x.r, id.Mesh)
	}
	x.matched = index.Match(proxyOf(info, x.dp), policy.Options{Shadow: in.Shadow})
	x.shape = shapeOf(info, x.dp)
	x.ids = identity.NewMesh(in.Site, x.r, id.Mesh)
	x.sec = secure(x.ids, x.dp, &x.warn)
	return x, nil
}

// own makes the layer of the proxy as if only those policies selected it.
func (x *single) own(m *policy.Matched) *own {
	o := newOwn(&x.in.Settings, x.info, x.dp, m)
	o.secured, o.trust = x.sec, x.ids.Trust
	o.probing = probingOf(x.r, x.in.Site, x.info, x.dp).as(m)
	o.closed = x.r.Closed(x.info.ID)
	return o
}

// plan makes that of its audience, likewise.
func (x *single) plan(m *policy.Matched) *plan {
	client, _ := x.sec.audienceTLS(m.ClientTLS(), len(x.shape.Gates) > 0, nil)
	return newPlan(x.r, x.info.ID.Mesh, x.in.Site, x.shape, m, &x.in.Settings, client)
}

// resource makes what the proxy would have under a name, nil for nothing, with as
// little else as possible. Endpoints are not made.
func (x *single) resource(m *policy.Matched, t xds.Type, name string) *delta.Resource {
	if r := envoy.Resources(x.own(m).build())[t][name]; r != nil {
		return r
	}
	p := x.plan(m)
	if t == xds.Clusters {
		return p.cluster(name)
	}
	for i, o := range p.outbounds {
		if !o.makes(t, name) {
			continue
		}
		u, _, _ := p.buildIR(i)
		if t == xds.Listeners && u.listener != nil && !u.removed {
			return u.listener
		}
		for _, r := range u.routes {
			if t == xds.Routes && r.Name == name && !u.removed {
				return r
			}
		}
	}
	return nil
}

// makes tells whether an outbound leads to a listener or route of that name.
func (o *outbound) makes(t xds.Type, name string) bool {
	if t == xds.Routes {
		for _, pass := range o.passages {
			if pass.routes == name {
				return true
			}
		}
		return o.gate == nil && o.name() == name
	}
	return t == xds.Listeners && o.name() == name
}

// cluster makes the one of that name. Which ones there are is known once all
// outbounds are built.
func (p *plan) cluster(name string) *delta.Resource {
	for i := range p.outbounds {
		p.units[i] = p.build(i)
	}
	p.collectClusters()
	for i, k := range p.clusterKeys {
		if k.name != name {
			continue
		}
		if u, _ := p.buildCluster(i); u.cluster != nil && !u.removed {
			return u.cluster
		}
	}
	return nil
}

// BuildOwn compiles what only this proxy has, as Build does.
func BuildOwn(in Inputs, s *view.Snapshot, info ProxyInfo) (*ir.Config, error) {
	x, err := newSingle(&in, s, &info, nil)
	if err != nil {
		return nil, err
	}
	return x.own(x.matched).build(), nil
}
