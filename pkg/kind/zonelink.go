package kind

import (
	"time"

	"github.com/atoll-mesh/atoll/pkg/resource"
)

// ZoneLink is what one zone knows of another: whether its entrances answer, and
// whether traffic is kept away from them. The observing zone writes it.
const ZoneLink resource.Type = "ZoneLink"

// ZoneLinkState is what an observer says of a zone, or of one of its addresses.
type ZoneLinkState string

// The states. A link of which nothing is known yet has no state of its own: it
// is Unknown.
const (
	LinkUp       ZoneLinkState = "Up"
	LinkDegraded ZoneLinkState = "Degraded" // some addresses are away, or many probes are lost
	LinkDown     ZoneLinkState = "Down"
	LinkUnknown  ZoneLinkState = "Unknown"
)

// ZoneLinkSpec is a ZoneLink's content. It is written when something changes
// hands, and rarely for its measurements.
//
// A link whose observer is the observed is what a zone says of itself: Down when
// none of its entrances is ready.
type ZoneLinkSpec struct {
	Observer string        `json:"observer"`
	Observed string        `json:"observed"`
	State    ZoneLinkState `json:"state" schema:"enum=Up|Degraded|Down|Unknown"`
	// Withdrawn: the observer sends no traffic to any address of the zone.
	Withdrawn bool `json:"withdrawn"`
	// Since is when State or Withdrawn last changed.
	Since time.Time `json:"since"`
	// Reason says why, for people; empty when the link is Up.
	Reason string `json:"reason,omitempty"`
	// RTTMillis is the median of recent probes, connection and TLS included;
	// 0 when none was answered.
	RTTMillis float64 `json:"rttMillis,omitempty"`
	// Loss is the share of recent probes that got no answer: 0 to 1.
	Loss float64 `json:"loss,omitempty" schema:"min=0,max=1"`
	// Flaps counts how often the zone went away within the time that damping
	// remembers; each makes the next return later.
	Flaps int32 `json:"flaps,omitempty"`
	// Probers is how many proxies of the observer probe.
	Probers   int32             `json:"probers,omitempty"`
	Addresses []ZoneLinkAddress `json:"addresses,omitempty"`
}

// ZoneLinkAddress is one address of the observed zone: what a MeshZoneAddress has.
type ZoneLinkAddress struct {
	Mesh      string        `json:"mesh"`
	Address   string        `json:"address"`
	Port      int32         `json:"port" schema:"min=1,max=65535"`
	State     ZoneLinkState `json:"state" schema:"enum=Up|Degraded|Down|Unknown"`
	Withdrawn bool          `json:"withdrawn"`
	Since     time.Time     `json:"since"`
	Reason    string        `json:"reason,omitempty"`
	RTTMillis float64       `json:"rttMillis,omitempty"`
	Loss      float64       `json:"loss,omitempty" schema:"min=0,max=1"`
	Flaps     int32         `json:"flaps,omitempty"`
	// Share is the percentage of its requests that an address gets that is on its
	// way back; 0: all.
	Share int32 `json:"share,omitempty" schema:"min=0,max=99"`
}

// ZoneLinkName is how an observer names its link to a zone.
func ZoneLinkName(observer, observed string) string { return observer + "-to-" + observed }

func zoneLinkKind() *resource.Kind {
	return resource.Define[ZoneLinkSpec, resource.NoStatus](resource.Kind{
		Names: resource.Names{
			Type: ZoneLink, Plural: "zonelinks", Single: "zonelink",
			Display: "Zone Link", Displays: "Zone Links",
		},
		Scope: resource.ScopeGlobal,
		// Of what zones say, only what they say of themselves goes on to others.
		Flows:    resource.ZoneToGlobal | resource.AcrossZones,
		ReadOnly: true,
		Native:   true,
	})
}
