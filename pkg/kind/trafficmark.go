package kind

import (
	"encoding/hex"
	"encoding/json"
	"strings"

	"github.com/zeebo/xxh3"

	"github.com/atoll-mesh/atoll/pkg/resource"
)

// TrafficMark names what a ZoneTraffic says: a zone that has one with the same
// mark was told the same. A nil object has a mark too.
func TrafficMark(o *resource.Object) string {
	text := []byte("none")
	if o != nil {
		b, err := json.Marshal(resource.SpecOf[ZoneTrafficSpec](o))
		if err != nil {
			panic("a ZoneTraffic cannot be encoded: " + err.Error()) // it has numbers and texts only
		}
		text = b
	}
	sum := xxh3.Hash128(text).Bytes()
	return hex.EncodeToString(sum[:])
}

// TrafficQuestion is what a global calls a ZoneTraffic when it asks a zone how
// many of its proxies follow it; ZoneOfQuestion takes it apart.
func TrafficQuestion(zone string, o *resource.Object) string { return zone + "@" + TrafficMark(o) }

// ZoneOfQuestion returns the zone and the mark of a TrafficQuestion.
func ZoneOfQuestion(name string) (zone, mark string, ok bool) { return strings.Cut(name, "@") }

// DrainProxies counts the proxies that follow a drain: those that acknowledged
// all that came of it.
type DrainProxies struct {
	// Connected are those of the zones that say so.
	Connected int `json:"connected"`
	// Behind are those of them that may still use what is drained.
	Behind int `json:"behind"`
	// Zones are where some are behind.
	Zones []string `json:"zones,omitempty"`
}
