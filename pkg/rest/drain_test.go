package rest

import (
	"net/http"
	"strings"
	"testing"

	systemv1 "github.com/atoll-mesh/atoll/api/kuma/system/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/auth"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

func post(w *world, path, body string) answer {
	return w.do(request{method: "POST", path: path, body: body})
}

// wantedDrain is what the stored Zone wants.
func wantedDrain(w *world) *systemv1.ZoneDrain {
	o := w.view.Snapshot().Get(resource.ID{Type: kind.Zone, Name: "east"})
	return o.Spec.(*systemv1.Zone).GetDrain()
}

func TestDrain(t *testing.T) {
	w := newWorld(t, global)
	w.write(
		w.object(kind.Zone, "", "east", `{"enabled": false}`),
		w.object(kind.Dataplane, "default", "backend-1", `{"labels": {"kuma.io/origin": "zone", "kuma.io/zone": "east", "app": "backend"},
			"networking": {"address": "10.0.0.1", "inbound": [{"port": 8080}]}}`),
		w.object(kind.MeshService, "default", "backend-x", `{"labels": {"kuma.io/origin": "zone", "kuma.io/zone": "east", "kuma.io/display-name": "backend"},
			"spec": {"selector": {"dataplaneLabels": {"matchLabels": {"app": "backend"}}}, "ports": [{"port": 80, "targetPort": 8080}]}}`),
	)
	api := describedBy(t, w)
	a := post(w, "/zones/east/_drain", `{}`)
	w.wantStatus(a, http.StatusConflict)
	if !strings.Contains(a.Body, "ATL1001") || !strings.Contains(a.Body, "backend") || wantedDrain(w) != nil {
		t.Errorf("%s", a.Body)
	}
	// Another service of the zone breaks nothing.
	w.wantStatus(post(w, "/zones/east/_drain", `{"services": [{"mesh": "default", "name": "other"}]}`), http.StatusOK)
	a = post(w, "/zones/east/_drain", `{"force": true, "ramp": "4s", "timeout": "1m"}`)
	w.wantStatus(a, http.StatusOK)
	for _, v := range api.check(http.MethodPost, "/zones/east/_drain", a) {
		t.Error(v)
	}
	d := wantedDrain(w)
	if !d.GetEnabled() || !d.GetForce() || d.GetRamp().AsDuration().String() != "4s" || len(d.GetServices()) != 1 {
		t.Errorf("%v", d)
	}
	status := &kind.ZoneTrafficStatus{Drains: []kind.DrainStatus{{Phase: kind.DrainRamping, Share: 75, Ramp: "4s", Timeout: "1m"}}}
	traffic, err := w.kinds.ByType(kind.ZoneTraffic).New(resource.Meta{ID: resource.ID{Type: kind.ZoneTraffic, Name: "east"}}, &kind.ZoneTrafficSpec{Share: 75}, status)
	if err != nil {
		t.Fatal(err)
	}
	w.write(traffic)
	a = w.get("/zones/east/_drain")
	w.wantStatus(a, http.StatusOK)
	for _, v := range api.check(http.MethodGet, "/zones/east/_drain", a) {
		t.Error(v)
	}
	if !strings.Contains(a.Body, `"phase": "Draining"`) && !strings.Contains(a.Body, `"phase":"Draining"`) {
		t.Errorf("%s", a.Body)
	}
	w.wantStatus(post(w, "/zones/east/_undrain", `{"services": [{"mesh": "default", "name": "other"}]}`), http.StatusOK)
	w.wantStatus(post(w, "/zones/east/_undrain", `{}`), http.StatusOK)
	o := w.view.Snapshot().Get(resource.ID{Type: kind.Zone, Name: "east"})
	if z := o.Spec.(*systemv1.Zone); z.GetDrain() != nil || kind.ZoneEnabled(z) {
		t.Errorf("%v", z)
	}
	// What is wrong is told with its field.
	a = post(w, "/zones/east/_drain", `{"force": true, "ramp": "soon"}`)
	w.wantStatus(a, http.StatusBadRequest)
	if !strings.Contains(a.Body, `"ramp"`) {
		t.Errorf("%s", a.Body)
	}
	w.wantStatus(post(w, "/zones/east/_drain", `{"force": true, "timeout": "25h"}`), http.StatusBadRequest)
	w.wantStatus(post(w, "/zones/east/_drain", `{"services": [{"name": "x"}], "force": true}`), http.StatusBadRequest)
	w.wantStatus(post(w, "/zones/nowhere/_drain", `{"force": true}`), http.StatusNotFound)
	w.wantStatus(w.get("/zones/nowhere/_drain"), http.StatusNotFound)
	w.wantStatus(post(newWorld(t, federated), "/zones/east/_drain", `{}`), http.StatusMethodNotAllowed)
}

// Who may write a zone may drain it, and nobody else.
func TestDrainRoles(t *testing.T) {
	w := newWorld(t, global, func(c *Config) {
		c.Auth.ClientCertificates = true
		c.Access.Roles = bindings()
	})
	w.write(w.object(kind.Zone, "", "own", `{}`), w.object(kind.Zone, "", "other", `{}`))
	k := w.kinds.ByType(kind.Zone)
	allowed := 0
	for _, user := range users() {
		u := auth.User{Name: user, Groups: []string{auth.GroupAuthenticated}}
		for _, zone := range []string{"own", "other"} {
			m := &resource.Meta{ID: resource.ID{Type: kind.Zone, Name: zone}}
			may := func(v auth.Verb) bool { return w.api.Access.Object(u, v, auth.TargetOf(k, m)) == nil }
			a := w.as(user, request{path: "/zones/" + zone + "/_drain"})
			if (a.Status == 200) != may(auth.Read) {
				t.Errorf("%s reads the drain of %s: %d", user, zone, a.Status)
			}
			for _, verb := range []string{"_drain", "_undrain"} {
				a := w.as(user, request{method: "POST", path: "/zones/" + zone + "/" + verb, body: `{"force": true}`})
				if (a.Status == 200) != may(auth.Write) {
					t.Errorf("%s: %s of %s: %d %s", user, verb, zone, a.Status, a.Body)
				}
				if a.Status == 200 {
					allowed++
				}
			}
		}
	}
	if allowed == 0 {
		t.Error("nobody may")
	}
}
