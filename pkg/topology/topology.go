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
	// Available tells whether a remote zone says that anybody there can answer.
	// It is always true of a local destination: whether that can answer shows in
	// its endpoints, and must not change what a destination is.
	Available bool
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

// Endpoints is who serves a port, sorted by address, port and proxy. Every port
// of every destination has a row in the zone's control planes, if an empty one;
// a global has none.
type Endpoints struct {
	Key  EndpointsKey
	List []Endpoint
}

// Endpoint is one address that serves a port.
type Endpoint struct {
	Address string // an IP
	Port    uint32
	Zone    string
	Weight  uint32
	// Labels are what routes select subsets by: those of the Dataplane without
	// kuma.io/service, and kuma.io/protocol of the inbound.
	Labels map[string]string
	Proxy  resource.ID
}

// Changed names a derived row that was added, changed or removed.
type Changed struct {
	ID        resource.ID // of the destination, or EndpointsKey.ID
	Endpoints bool        // the row is of endpoints, not of destinations
}
