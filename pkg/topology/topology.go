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
	ID        resource.ID
	KRI       resource.KRI // without section
	Labels    map[string]string
	Created   time.Time
	Local     bool   // its workloads are in this zone; of other kinds than MeshService: it was created here
	Zone      string // of its workloads; empty: this one, or several
	VIPs      []string
	Hostnames []string
	Ports     []Port
	TLSReady  bool // a MeshService of this zone says so of itself; true of every MeshMultiZoneService
	// Identities are those that its workloads may present: of a
	// MeshMultiZoneService those of all its members, whatever their state.
	Identities []string
	// Exits are the Dataplanes of this zone with an egress, ready or not, through
	// which a MeshExternalService is called.
	Exits []resource.ID
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

// Endpoints is who serves a port, sorted by address, port and proxy: workloads
// of this zone, the entrances of others, and for what is outside the mesh the
// egresses of this zone. Every port of every destination has a row in the zone's
// control planes, if an empty one; a global has none.
type Endpoints struct {
	Key  EndpointsKey
	List []Endpoint
	// Out are those that get no requests while List has others: their proxy is about
	// to stop, or their zone, or their entrance, is withdrawn or drained. They still
	// answer those who come.
	Out []Endpoint
}

// Endpoint is one address that serves a port.
type Endpoint struct {
	Address string // an IP
	Port    uint32
	Zone    string // empty: of an egress, which is no place to prefer
	Weight  uint32
	// Away is the percentage of its requests that shall go to other zones instead.
	Away uint32
	// Labels are what routes select subsets by: those of the Dataplane without
	// kuma.io/service, and kuma.io/protocol of the inbound.
	Labels map[string]string
	Proxy  resource.ID // none: the entrance of another zone
}

// Changed names a derived row that was added, changed or removed.
type Changed struct {
	ID        resource.ID // of the destination, or EndpointsKey.ID
	Endpoints bool        // the row is of endpoints, not of destinations
}
