package view

import (
	"iter"

	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/topology"
)

// Table says what a Key is a key of.
type Table uint8

// Tables of a snapshot.
const (
	Objects Table = iota
	Destinations
	Endpoints
)

// Key names one row that somebody read or that a commit touched. Without name it
// stands for any row of that type and mesh, and without mesh as well for any row
// of the type.
type Key struct {
	Table Table
	resource.ID
}

// derivedKey is the key of a derived row that changed.
func derivedKey(c topology.Changed) Key {
	if c.Endpoints {
		return Key{Endpoints, c.ID}
	}
	return Key{Destinations, c.ID}
}

// Reader reads one snapshot and remembers every key it was asked for, also those
// that are absent, so that code which can reach data only through it cannot
// forget a dependency. It is for one goroutine.
type Reader struct {
	s    *Snapshot
	deps map[Key]struct{}
}

// NewReader returns a reader of s that has read nothing.
func NewReader(s *Snapshot) *Reader { return &Reader{s: s, deps: map[Key]struct{}{}} }

// Deps returns the keys read so far. The map belongs to the reader.
func (r *Reader) Deps() map[Key]struct{} { return r.deps }

// Get returns a resource, or nil when there is none.
func (r *Reader) Get(id resource.ID) *resource.Object {
	r.deps[Key{Objects, id}] = struct{}{}
	return r.s.Get(id)
}

// List yields the resources of a type in a mesh, or in all when mesh is empty.
func (r *Reader) List(t resource.Type, mesh string) iter.Seq[*resource.Object] {
	r.deps[Key{Objects, resource.ID{Type: t, Mesh: mesh}}] = struct{}{}
	return r.s.List(t, mesh)
}

// Destination returns what can be called under an ID, or nil.
func (r *Reader) Destination(id resource.ID) *topology.Destination {
	r.deps[Key{Destinations, id}] = struct{}{}
	return r.s.topo.Destination(id)
}

// Destinations yields all destinations of a mesh.
func (r *Reader) Destinations(mesh string) iter.Seq[*topology.Destination] {
	r.deps[Key{Destinations, resource.ID{Mesh: mesh}}] = struct{}{}
	return r.s.topo.Destinations(mesh)
}

// DestinationsByLabels returns the destinations of a type and mesh that have all
// the labels, best first: local ones, then the oldest.
func (r *Reader) DestinationsByLabels(mesh string, t resource.Type, labels map[string]string) []*topology.Destination {
	r.deps[Key{Destinations, resource.ID{Type: t, Mesh: mesh}}] = struct{}{}
	return r.s.topo.DestinationsByLabels(mesh, t, labels)
}

// Endpoints returns the endpoints of a destination's port, or nil.
func (r *Reader) Endpoints(k topology.EndpointsKey) *topology.Endpoints {
	r.deps[Key{Endpoints, k.ID()}] = struct{}{}
	return r.s.topo.Endpoints(k)
}

// Closed counts how often connections to a Dataplane of this zone shall have been
// closed because it, or its service, was drained.
func (r *Reader) Closed(dataplane resource.ID) int64 {
	r.deps[Key{Destinations, topology.ClosingsID}] = struct{}{}
	if r.s.topo.ServicesClosed() { // and which of them select it
		r.deps[Key{Objects, resource.ID{Type: kind.MeshService, Mesh: dataplane.Mesh}}] = struct{}{}
	}
	return r.s.topo.Closed(dataplane)
}

// Topology returns the derived rows without recording what is read of them.
func (r *Reader) Topology() *topology.State { return r.s.topo }
