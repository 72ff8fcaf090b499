package control

import (
	"iter"

	mesh_proto "github.com/atoll-mesh/atoll/api/kuma/mesh/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// serviceStatus states of each local MeshService how many proxies it has, how
// many of them are connected and can answer, whether any can, and by which
// identities they are known.
type serviceStatus struct{ site resource.Site }

func (j *serviceStatus) plan(p *pass) {
	due := map[resource.ID]bool{}
	secure := newSecuring(p, j.site)
	for mesh := range secure.changed() {
		for o := range p.now.List(kind.MeshService, mesh) {
			due[o.ID] = true
		}
	}
	for id := range p.touched(kind.MeshService) {
		due[id] = true
	}
	selecting := func(dataplane resource.ID) {
		if p.old != nil {
			for _, id := range p.old.Topology().Selecting(dataplane) {
				due[id] = true
			}
		}
		for _, id := range p.now.Topology().Selecting(dataplane) {
			due[id] = true
		}
	}
	if !p.full { // otherwise all services are due already
		for id := range p.touched(kind.Dataplane) {
			selecting(id)
		}
		for id := range insightOwners(p) {
			selecting(id)
		}
	}
	for id := range due {
		// A service that was only just generated is in no snapshot and comes again.
		d := p.now.Topology().Destination(id)
		if cur := p.get(id); cur != nil && d != nil && d.Local {
			p.put(observe(p, secure, cur))
		}
	}
}

func observe(p *pass, secure *securing, svc *resource.Object) *resource.Object {
	spec := *resource.SpecOf[kind.MeshServiceSpec](svc)
	var status kind.MeshServiceStatus
	if s := resource.StatusOf[kind.MeshServiceStatus](svc); s != nil {
		status = *s
	}
	var n kind.ServiceProxies
	var members []*resource.Object
	for id := range p.now.Topology().Members(svc.ID) {
		dp := p.now.Get(id)
		members = append(members, dp)
		n.Total++
		if connected(p, id) {
			n.Connected++
		}
		if servesAll(kind.NetworkingOf(dp), spec.Ports) && !p.now.Topology().Starting(id) {
			n.Healthy++
		}
	}
	status.DataplaneProxies = n
	if status.TLS.Status == "" {
		status.TLS.Status = kind.TLSNotReady
	}
	secure.secure(svc.Mesh, members, &spec, &status)
	spec.State = kind.ServiceUnavailable
	if n.Healthy > 0 {
		spec.State = kind.ServiceAvailable
	}
	return changedObject(svc, svc.Labels, &spec, &status)
}

// servesAll tells whether a proxy has a ready inbound for each port.
func servesAll(n *kind.Networking, ports []kind.MeshServicePort) bool {
	for i := range ports {
		served := false
		for _, in := range n.GetInbound() {
			served = served || ports[i].ServedBy(in) && kind.InboundReady(in)
		}
		if !served {
			return false
		}
	}
	return true
}

// connected tells whether a control plane serves a Dataplane.
func connected(p *pass, dataplane resource.ID) bool {
	dataplane.Type = kind.DataplaneInsight
	o := p.get(dataplane)
	return o != nil && kind.DataplaneOnline(resource.SpecOf[mesh_proto.DataplaneInsight](o))
}

// insightOwners yields the Dataplanes whose connection may have changed.
func insightOwners(p *pass) iter.Seq[resource.ID] {
	return func(yield func(resource.ID) bool) {
		for id := range p.touched(kind.DataplaneInsight) {
			id.Type = kind.Dataplane
			if !yield(id) {
				return
			}
		}
	}
}
