// Package topology derives, from the resources of a snapshot, what traffic needs
// to know: the destinations that can be called and the endpoints behind them.
// Everything is a pure function of its input.
package topology

import (
	"iter"
	"time"

	"github.com/atoll-mesh/atoll/pkg/resource"
)

// Source is the snapshot that rows are derived from.
type Source interface {
	Get(id resource.ID) *resource.Object
	List(t resource.Type, mesh string) iter.Seq[*resource.Object]
}

// Destination is something that can be called. It holds only what matters to
// traffic, so that counters in a status wake nobody.
type Destination struct {
	ID         resource.ID
	KRI        resource.KRI // without section
	Labels     map[string]string
	Created    time.Time
	Local      bool   // its workloads are in this zone
	Zone       string // of its workloads; empty: this one, or several
	VIPs       []string
	Hostnames  []string
	Ports      []Port
	TLSReady   bool
	Identities []string
	Available  bool
}

// Port is one port of a destination.
type Port struct {
	Section  string // name, or the number when unnamed
	Name     string
	Number   uint32
	Protocol string // never empty: tcp when none was given
}

// EndpointsKey names the endpoints of one port.
type EndpointsKey struct {
	Destination resource.ID
	Section     string
}

// ID is the key as an ID: the name is <destination>#<section>.
func (k EndpointsKey) ID() resource.ID {
	id := k.Destination
	id.Name += "#" + k.Section
	return id
}

// Endpoints is who serves a port, sorted by address.
type Endpoints struct {
	Key  EndpointsKey
	List []Endpoint
}

// Endpoint is one address that serves a port.
type Endpoint struct {
	Address string
	Port    uint32
	Zone    string
	Weight  uint32
	Labels  map[string]string
	Proxy   resource.ID
}

// Changed names a derived row that was added, changed or removed.
type Changed struct {
	ID        resource.ID // of the destination, or EndpointsKey.ID
	Endpoints bool        // the row is of endpoints, not of destinations
}

// State is all derived rows of one snapshot. It is immutable.
type State struct{ site resource.Site }

// Empty is the state of no resources.
func Empty(site resource.Site) *State { return &State{site: site} }

// FromScratch derives everything from src.
func FromScratch(site resource.Site, src Source) *State { return Empty(site) }

// Derive returns the state of src, which differs from that of prev in the
// resources touched, and the rows that changed.
func Derive(prev *State, src Source, touched []resource.ID) (*State, []Changed) { return prev, nil }

// Destination returns a row, or nil.
func (s *State) Destination(id resource.ID) *Destination { return nil }

// Destinations yields the destinations of a mesh, in order of type and name.
func (s *State) Destinations(mesh string) iter.Seq[*Destination] {
	return func(func(*Destination) bool) {}
}

// DestinationsByLabels returns the destinations of a type and mesh that have all
// the labels, best first: local ones, then the oldest, then by name.
func (s *State) DestinationsByLabels(mesh string, t resource.Type, labels map[string]string) []*Destination {
	return nil
}

// Endpoints returns the endpoints of a port, or nil.
func (s *State) Endpoints(k EndpointsKey) *Endpoints { return nil }
