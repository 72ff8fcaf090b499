package compile

import (
	"sync"

	"github.com/atoll-mesh/atoll/pkg/identity"
	"github.com/atoll-mesh/atoll/pkg/policy"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/topology"
	"github.com/atoll-mesh/atoll/pkg/view"
)

// resolver finds destinations of a mesh for one audience, and records that it
// did. It may be used concurrently.
type resolver struct {
	mesh string
	site resource.Site

	mu   sync.Mutex
	r    *view.Reader
	rows map[resource.ID]*policy.Destination
	// known, where it is set, is all destinations of the mesh, which the reader
	// has recorded. It is read only.
	known map[resource.ID]*listed

	identities *identity.Mesh // of the mesh; nil until asked for
}

func newResolver(r *view.Reader, mesh string, site resource.Site) *resolver {
	return &resolver{
		mesh: mesh, site: site, r: r,
		rows: map[resource.ID]*policy.Destination{},
	}
}

// Candidates implements policy.Resolver.
func (x *resolver) Candidates(kind resource.Type, selector map[string]string) []*policy.Destination {
	x.mu.Lock()
	defer x.mu.Unlock()
	var out []*policy.Destination
	for _, d := range x.r.DestinationsByLabels(x.mesh, kind, selector) {
		out = append(out, x.convert(d))
	}
	return out
}

// selected yields rows by labels, best first.
func (x *resolver) selected(kind resource.Type, selector map[string]string) []*topology.Destination {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.r.DestinationsByLabels(x.mesh, kind, selector)
}

// all returns every row of the mesh.
func (x *resolver) all() []*topology.Destination {
	x.mu.Lock()
	defer x.mu.Unlock()
	var out []*topology.Destination
	for d := range x.r.Destinations(x.mesh) {
		out = append(out, d)
	}
	return out
}

// dest is a port of a row as policies see it.
func (x *resolver) dest(d *topology.Destination, section string) (policy.Dest, bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	p := x.convert(d)
	for _, port := range p.Ports {
		if port.Section == section {
			return policy.Dest{Destination: p, Port: port}, true
		}
	}
	return policy.Dest{}, false
}

// byID is dest for a row that was found before.
func (x *resolver) byID(id resource.ID, section string) (policy.Dest, bool) {
	x.mu.Lock()
	d := x.get(id)
	x.mu.Unlock()
	if d == nil {
		return policy.Dest{}, false
	}
	return x.dest(d, section)
}

func (x *resolver) get(id resource.ID) *topology.Destination {
	if x.known == nil {
		return x.r.Destination(id)
	}
	if l := x.known[id]; l != nil {
		return l.row
	}
	return nil
}

// row is a row that was found before.
func (x *resolver) row(id resource.ID) *topology.Destination {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.withExits(x.get(id))
}

func (x *resolver) convert(d *topology.Destination) *policy.Destination {
	if p := x.rows[d.ID]; p != nil {
		return p
	}
	if l := x.known[d.ID]; l != nil && l.row == d {
		return l.dest
	}
	p := &policy.Destination{
		ID: d.ID, Kind: d.ID.Type, KRI: d.KRI, Labels: d.Labels, Created: d.Created, Local: d.Local,
		Ports: make([]resource.Port, len(d.Ports)),
	}
	for i, port := range d.Ports {
		p.Ports[i] = resource.Port{Section: port.Section, Number: port.Number, Protocol: port.Protocol}
	}
	x.rows[d.ID] = p
	return p
}
