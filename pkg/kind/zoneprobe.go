package kind

import (
	"time"

	"github.com/atoll-mesh/atoll/pkg/resource"
)

// ZoneProbe is what one proxy of this zone says of the entrances of others. It
// has the name and mesh of the Dataplane, and does not leave the zone.
const ZoneProbe resource.Type = "ZoneProbe"

// ZoneProbeSpec is a ZoneProbe's content. It is written when something changes,
// and rarely for its measurements.
type ZoneProbeSpec struct {
	// Elected: the control plane asked this proxy, which is no zone proxy, because
	// the zone has none. Without it a zone proxy probes by itself.
	Elected bool           `json:"elected,omitempty"`
	Targets []ProbedTarget `json:"targets,omitempty"`
}

// ProbedTarget is one address of another zone.
type ProbedTarget struct {
	Zone    string `json:"zone"`
	Address string `json:"address"`
	Port    int32  `json:"port"`
	// State is Up, Down, or Unknown when the address never answered this proxy,
	// which says nothing about an address that does not answer probes at all.
	State ZoneLinkState `json:"state"`
	// Since is when State became what it is.
	Since     time.Time `json:"since"`
	RTTMillis float64   `json:"rttMillis,omitempty"`
	Loss      float64   `json:"loss,omitempty"`
	Reason    string    `json:"reason,omitempty"` // of the last failure
}

func zoneProbeKind() *resource.Kind {
	return resource.Define[ZoneProbeSpec, resource.NoStatus](resource.Kind{
		Names: resource.Names{
			Type: ZoneProbe, Plural: "zoneprobes", Single: "zoneprobe",
			Display: "Zone Probe", Displays: "Zone Probes",
		},
		Scope:    resource.ScopeMesh,
		Internal: true,
		ReadOnly: true,
		Native:   true,
	})
}
