package rest

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/atoll-mesh/atoll/pkg/auth"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/liveness"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// zoneLink is a link as the observer's zone sent it, or claims to be from there.
func (w *world) zoneLink(from, observer, observed string, state kind.ZoneLinkState, withdrawn bool) *resource.Object {
	spec, err := json.Marshal(&kind.ZoneLinkSpec{Observer: observer, Observed: observed, State: state, Withdrawn: withdrawn, RTTMillis: 2.5})
	if err != nil {
		w.t.Fatal(err)
	}
	return w.object(kind.ZoneLink, "", kind.ZoneLinkName(observer, observed)+"-x",
		`{"labels": {"kuma.io/origin": "zone", "kuma.io/zone": "`+from+`"}, "spec": `+string(spec)+`}`)
}

// The matrix has what every zone says of others, and makes of it who is lost.
func TestZoneLinks(t *testing.T) {
	w := newWorld(t, global)
	online := `{"subscriptions": [{"connectTime": "2026-11-22T10:00:00Z"}]}`
	w.write(
		w.zoneLink("west", "west", "east", kind.LinkDown, true), w.zoneLink("north", "north", "east", kind.LinkDown, true),
		w.zoneLink("west", "west", "north", kind.LinkUp, false), w.zoneLink("west", "west", "west", kind.LinkDown, false),
		w.zoneLink("north", "north", "west", kind.LinkDown, true), w.zoneLink("west", "east", "north", kind.LinkDown, true),
		w.object(kind.ZoneInsight, "", "west", online),
	)
	matrix := func(a answer) (m liveness.Matrix) {
		w.wantStatus(a, http.StatusOK)
		if err := json.Unmarshal([]byte(a.Body), &m); err != nil {
			t.Fatal(err)
		}
		return m
	}
	a := w.get("/zones/_links")
	for _, v := range describedBy(t, w).check(http.MethodGet, "/zones/_links", a) {
		t.Error(v)
	}
	m := matrix(a)
	var links []string
	for _, l := range m.Links {
		links = append(links, l.Observer+"→"+l.Observed)
	}
	if want := []string{"north→east", "north→west", "west→east", "west→north"}; !slices.Equal(links, want) {
		t.Errorf("links %v", links)
	}
	lost := map[string]bool{}
	for _, z := range m.Zones {
		lost[z.Name] = z.Lost
		if z.Name == "west" && (z.Open == nil || *z.Open || z.Connected == nil || !*z.Connected) {
			t.Errorf("west: %+v", z)
		}
	}
	if !lost["east"] || lost["west"] || lost["north"] || len(lost) != 3 {
		t.Errorf("lost %v", lost)
	}
	// One observer and a lost sync are as good as two.
	w.write(w.object(kind.ZoneInsight, "", "west", strings.Replace(online, "}]", `, "disconnectTime": "2026-11-22T11:00:00Z"}]`, 1)))
	if m := matrix(w.get("/zones/_links")); !m.Zones[2].Lost {
		t.Errorf("west is not lost: %+v", m.Zones[2])
	}
}

// Who may not see a zone does not see who reaches it.
func TestZoneLinksOfHiddenZones(t *testing.T) {
	t.Parallel()
	w := partlyHidden(t)
	w.write(w.zoneLink("hid-zone", "hid-zone", "own-zone", kind.LinkUp, false), w.zoneLink("own-zone", "own-zone", "hid-zone", kind.LinkUp, false))
	for _, user := range users() {
		a := w.as(user, request{path: "/zones/_links"})
		if err := w.api.Access.Object(auth.User{Name: user, Groups: []string{auth.GroupAuthenticated}}, auth.Read, auth.TargetIn(w.kinds.ByType(kind.ZoneLink), "")); err != nil {
			w.wantStatus(a, 403)
			continue
		}
		w.wantStatus(a, 200)
		if shown, limited := strings.Contains(a.Body, "hid-"), strings.HasSuffix(user, " zone"); shown == limited {
			t.Errorf("%s sees what is hidden %t: %s", user, shown, a.Body)
		}
	}
}
