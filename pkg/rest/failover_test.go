package rest

import (
	"encoding/json"
	"net/http"
	"testing"

	"github.com/atoll-mesh/atoll/pkg/failover"
	"github.com/atoll-mesh/atoll/pkg/kind"
)

// A global tells what the loss of a zone would do; who asks for one that there is
// not is told so.
func TestFailover(t *testing.T) {
	w := newWorld(t, global)
	w.write(
		w.object(kind.Zone, "", "east", `{}`),
		w.object(kind.Dataplane, "default", "backend-1", `{"labels": {"kuma.io/origin": "zone", "kuma.io/zone": "east", "app": "backend"},
			"networking": {"address": "10.0.0.1", "inbound": [{"port": 8080}]}}`),
		w.object(kind.MeshService, "default", "backend-x", `{"labels": {"kuma.io/origin": "zone", "kuma.io/zone": "east", "kuma.io/display-name": "backend"},
			"spec": {"selector": {"dataplaneLabels": {"matchLabels": {"app": "backend"}}}, "ports": [{"port": 80, "targetPort": 8080}]}}`),
	)
	api := describedBy(t, w)
	a := w.get("/failover/gaps?mesh=default&zone=east")
	w.wantStatus(a, http.StatusOK)
	for _, v := range api.check(http.MethodGet, "/failover/gaps", a) {
		t.Error(v)
	}
	var gaps gapsAnswer
	if err := json.Unmarshal([]byte(a.Body), &gaps); err != nil {
		t.Fatal(err)
	}
	if gaps.Total != 1 || gaps.Items[0].Code != failover.OneZone || gaps.Items[0].Service != "backend" || len(gaps.Losses) != 1 {
		t.Errorf("gaps %s", a.Body)
	}
	a = w.get("/failover/simulate?lose=east")
	w.wantStatus(a, http.StatusOK)
	for _, v := range api.check(http.MethodGet, "/failover/simulate", a) {
		t.Error(v)
	}
	w.wantStatus(w.get("/failover/simulate"), http.StatusBadRequest)
	w.wantStatus(w.get("/failover/simulate?lose=nowhere"), http.StatusNotFound)
	w.wantStatus(w.get("/failover/gaps?zone=nowhere"), http.StatusNotFound)
}
