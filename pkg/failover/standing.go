package failover

import (
	"net"
	"net/netip"
	"strconv"

	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/topology"
)

// What is known against a target before anything is lost. It serves only what
// nobody else can.
const (
	Drained    = "drained"     // its zone, or its service there, gives its traffic away
	OutOfReach = "unreachable" // proxies in the client's zone do not reach it now
)

// standings is what is known against the zones that clients of one zone call.
type standings struct {
	away      map[string]bool // zones that are out of reach
	addresses map[string]bool // entrances that are, by mesh and address
	drained   map[string]bool // zones
	services  map[draining]bool
}

// draining is a destination, of which the part in a zone is drained.
type draining struct {
	zone string
	to   resource.ID
}

// standing reads it, once.
func (e *eye) standing() *standings {
	if e.stands != nil {
		return e.stands
	}
	s := &standings{away: map[string]bool{}, addresses: map[string]bool{}, drained: map[string]bool{}, services: map[draining]bool{}}
	for o := range e.snap.List(kind.ZoneLink, "") {
		l := resource.SpecOf[kind.ZoneLinkSpec](o)
		if l.Observer != e.zone {
			continue
		}
		s.away[l.Observed] = gone(l)
		for _, a := range l.Addresses {
			if a.Withdrawn {
				s.addresses[a.Mesh+" "+hostPort(a.Address, a.Port)] = true
			}
		}
	}
	for o := range e.snap.List(kind.ZoneTraffic, "") {
		t := resource.SpecOf[kind.ZoneTrafficSpec](o)
		s.drained[o.Name] = t.Share == 0
		for _, x := range t.Services {
			if x.Share > 0 {
				continue
			}
			for svc := range e.snap.List(kind.MeshService, x.Mesh) {
				if svc.Zone() != o.Name || svc.DisplayName() != x.Name || svc.Namespace() != x.Namespace {
					continue
				}
				for _, id := range append(e.snap.Topology().Joining(svc.ID), svc.ID) {
					s.services[draining{o.Name, id}] = true
				}
			}
		}
	}
	e.stands = s
	return s
}

// gone tells whether a link leads to a zone that is not reached now.
func gone(l *kind.ZoneLinkSpec) bool { return l.Withdrawn || l.State == kind.LinkDown }

func hostPort(host string, port int32) string {
	if a, err := netip.ParseAddr(host); err == nil {
		host = a.String()
	}
	return net.JoinHostPort(host, strconv.Itoa(int(port)))
}

// mark notes what is known against the targets of a destination.
func (s *standings) mark(d *topology.Destination, list []Target) []Target {
	for i := range list {
		t := &list[i]
		switch {
		case s.away[t.Zone] || s.addresses[d.ID.Mesh+" "+t.Address]:
			t.Standing = OutOfReach
		case s.drained[t.Zone] || s.services[draining{t.Zone, d.ID}]:
			t.Standing = Drained
		}
	}
	return list
}
