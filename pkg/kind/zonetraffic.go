package kind

import (
	"time"

	"github.com/atoll-mesh/atoll/pkg/resource"
)

// ZoneTraffic is how much of its traffic a zone shall get. It has the zone's
// name. The global writes it, from what the Zone says, and every zone obeys it.
const ZoneTraffic resource.Type = "ZoneTraffic"

// ZoneTrafficSpec is a ZoneTraffic's content.
type ZoneTrafficSpec struct {
	// Share is the percentage of the requests that the zone gets of those that it
	// would get by itself. At 0 it gets none that others can serve.
	Share int32 `json:"share" schema:"min=0,max=100"`
	// Closed counts how often connections that remained at the end of a drain were
	// closed, so that their applications connect elsewhere: each time that it grows
	// they are.
	Closed int64 `json:"closed,omitempty"`
	// Services have a share of their own; the smaller one counts.
	Services []ServiceTraffic `json:"services,omitempty"`
}

// ServiceTraffic is the share of one service of the zone.
type ServiceTraffic struct {
	Mesh string `json:"mesh"`
	Name string `json:"name"` // its display name in the zone
	// Namespace is empty for a service that is in none.
	Namespace string `json:"namespace,omitempty"`
	Share     int32  `json:"share" schema:"min=0,max=100"`
	Closed    int64  `json:"closed,omitempty"`
}

// DrainPhase is how far a drain is.
type DrainPhase string

// The phases of a drain, in their order.
const (
	// DrainRefused: something would break. Nothing moved.
	DrainRefused DrainPhase = "Refused"
	// DrainRamping: the share goes down step by step.
	DrainRamping DrainPhase = "Draining"
	// DrainWaiting: the share is 0, and connections may remain.
	DrainWaiting DrainPhase = "Waiting"
	// Drained: nothing remains that others can serve.
	Drained DrainPhase = "Drained"
	// DrainReturning: the share goes up step by step.
	DrainReturning DrainPhase = "Undraining"
)

// ZoneTrafficStatus is the progress of drains. It stays at the global.
type ZoneTrafficStatus struct {
	Drains []DrainStatus `json:"drains,omitempty"`
}

// DrainStatus is the progress of the drain of a zone, or of one service in it.
type DrainStatus struct {
	// Mesh and Service name the service; empty: the whole zone.
	Mesh      string `json:"mesh,omitempty"`
	Service   string `json:"service,omitempty"`
	Namespace string `json:"namespace,omitempty"`

	Phase   DrainPhase `json:"phase"`
	Share   int32      `json:"share"`
	Since   time.Time  `json:"since"`            // of the phase
	Next    *time.Time `json:"next,omitempty"`   // when the share, or the phase, changes by itself
	Ramp    string     `json:"ramp"`             // how long the share takes from all to none
	Timeout string     `json:"timeout"`          // how long connections are waited for
	Forced  bool       `json:"forced,omitempty"` // in spite of what would break
	// Reasons say why it was refused, or what was accepted when it was forced.
	Reasons []string `json:"reasons,omitempty"`
	// Behind are the zones that do not obey the present share yet.
	Behind []string `json:"behind,omitempty"`
	// Proxies tells how many proxies follow; nil before the share is 0, and when
	// no zone says so.
	Proxies *DrainProxies `json:"proxies,omitempty"`
	// Connections that the zone's proxies still serve; nil when it is not known.
	Connections *int64 `json:"connections,omitempty"`
}

func zoneTrafficKind() *resource.Kind {
	return resource.Define[ZoneTrafficSpec, ZoneTrafficStatus](resource.Kind{
		Names: resource.Names{
			Type: ZoneTraffic, Plural: "zonetraffics", Single: "zonetraffic",
			Display: "Zone Traffic", Displays: "Zone Traffics",
		},
		Scope:       resource.ScopeGlobal,
		Flows:       resource.GlobalToZone,
		LocalStatus: true,
		KeepName:    true,
		ReadOnly:    true,
		Native:      true,
	})
}
