package rest

import (
	"testing"

	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// TestOwnZone: a zone without a global shows itself as online; one that has a
// global leaves that to it, and nobody is shown who is somewhere else.
func TestOwnZone(t *testing.T) {
	for name, c := range map[string]struct {
		site resource.Site
		want map[string]bool
	}{
		"standalone": {standalone, map[string]bool{"default": true, "other": false}},
		"federated":  {federated, map[string]bool{"east": false}},
		"global":     {global, map[string]bool{"east": false}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, c.site, inspecting(c.site))
			online := 0.0
			for zone, want := range c.want {
				w.write(w.object(kind.Zone, "", zone, `{"enabled":true}`))
				doc := w.decoded("/zones/" + zone + "/_overview")
				since := at(doc, "zoneInsight", "subscriptions", 0, "connectTime")
				if (since != nil) != want {
					t.Errorf("%s is connected since %v", zone, since)
				}
				if want {
					online++
				}
			}
			if got := at(w.decoded("/global-insight"), "zones", "controlPlanes", "online"); got != online {
				t.Errorf("%v online, want %v", got, online)
			}
		})
	}
}
