package kind

import (
	"fmt"
	"strconv"
	"time"

	"github.com/atoll-mesh/atoll/pkg/resource"
)

// Notice is one thing that happened that operators and automation want to know:
// traffic moved, a gap opened, a configuration was rejected. The control plane
// where it was noticed writes it; only the newest are kept, and those that last.
const Notice resource.Type = "Notice"

// Events of notices.
const (
	EventZoneWithdrawn   = "ZoneWithdrawn"   // a zone keeps its requests away from another
	EventZoneLost        = "ZoneLost"        // so do several, or its control plane is away too
	EventZoneBack        = "ZoneBack"        // either is over
	EventDrainRefused    = "DrainRefused"    // something would break
	EventZoneDraining    = "ZoneDraining"    // the share of a zone, or of a service in it, goes down
	EventZoneDrained     = "ZoneDrained"     // and is gone
	EventZoneUndraining  = "ZoneUndraining"  // it goes up
	EventZoneUndrained   = "ZoneUndrained"   // and is whole
	EventGapOpened       = "GapOpened"       // requests would fail, or suffer, without a zone
	EventGapClosed       = "GapClosed"       // not any more
	EventConfigRejected  = "ConfigRejected"  // a proxy or a zone refuses configuration
	EventConfigRecovered = "ConfigRecovered" // not any more
)

// Events are all of them.
var Events = []string{
	EventZoneWithdrawn, EventZoneLost, EventZoneBack, EventDrainRefused, EventZoneDraining, EventZoneDrained,
	EventZoneUndraining, EventZoneUndrained, EventGapOpened, EventGapClosed, EventConfigRejected, EventConfigRecovered,
}

// NoticeSpec is a Notice's content.
type NoticeSpec struct {
	Event string `json:"event"`
	// Key is the same in all notices about one thing. The newest says how it is.
	Key     string    `json:"key"`
	Lasts   bool      `json:"lasts,omitempty"` // until a later notice with the key
	Time    time.Time `json:"time"`
	Mesh    string    `json:"mesh,omitempty"`
	Zone    string    `json:"zone,omitempty"`
	Service string    `json:"service,omitempty"`
	Message string    `json:"message"`
	// Details depend on the event.
	Details map[string]string `json:"details,omitempty"`
}

// NoticeName is the name of the n-th notice: names sort as numbers do.
func NoticeName(n uint64) string { return fmt.Sprintf("%016d", n) }

// NoticeNumber undoes NoticeName; 0 for other names.
func NoticeNumber(name string) uint64 {
	n, err := strconv.ParseUint(name, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

func noticeKind() *resource.Kind {
	return resource.Define[NoticeSpec, resource.NoStatus](resource.Kind{
		Names: resource.Names{
			Type: Notice, Plural: "notices", Single: "notice",
			Display: "Notice", Displays: "Notices",
		},
		Scope:    resource.ScopeGlobal,
		ReadOnly: true,
		Native:   true,
	})
}
