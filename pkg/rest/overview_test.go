package rest

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	systemv1 "github.com/atoll-mesh/atoll/api/kuma/system/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/kind"
)

func TestOverviews(t *testing.T) {
	w := newWorld(t, global, func(c *Config) {
		c.ZoneSync = func(zone string) *systemv1.ZoneSync {
			if zone != "west" {
				return nil
			}
			return &systemv1.ZoneSync{GlobalToZone: &systemv1.SyncDirection{GlobalRevision: 7}}
		}
	})
	w.wantStatus(w.put("/zones/west", `{"type":"Zone","name":"west"}`), 201)
	w.wantStatus(w.put("/zones/east", `{"type":"Zone","name":"east","enabled":false}`), 201)
	w.write(
		w.object(kind.Dataplane, "default", "web-1", dataplaneBody("web-1", map[string]string{"app": "web"})),
		w.object(kind.Dataplane, "default", "web-2", dataplaneBody("web-2", nil)),
		w.object(kind.DataplaneInsight, "default", "web-1", `{"subscriptions":[{"id":"s1","connectTime":"2026-01-02T03:04:05Z"}]}`),
	)
	for _, path := range []string{"/meshes/default/dataplanes/_overview", "/dataplanes/_overview", "/meshes/default/dataplanes+insights", "/dataplanes+insights"} {
		a := w.get(path)
		w.wantStatus(a, 200)
		var list struct {
			Total int
			Items []struct {
				Type, Name, KRI  string
				Dataplane        map[string]any
				DataplaneInsight *struct{ Subscriptions []struct{ ID string } }
			}
		}
		if err := json.Unmarshal([]byte(a.Body), &list); err != nil {
			t.Fatal(err)
		}
		if list.Total != 2 || list.Items[0].Type != "DataplaneOverview" || list.Items[0].KRI == "" ||
			list.Items[0].Dataplane["networking"] == nil || list.Items[0].DataplaneInsight.Subscriptions[0].ID != "s1" ||
			list.Items[1].DataplaneInsight != nil {
			t.Errorf("%s: %s", path, a.Body)
		}
	}
	// A changed insight shows at once, although overviews are kept.
	w.write(w.object(kind.DataplaneInsight, "default", "web-1", `{"subscriptions":[{"id":"s2"}]}`))
	for _, path := range []string{"/meshes/default/dataplanes/web-1/_overview", "/meshes/default/dataplanes+insights/web-1"} {
		if a := w.get(path); a.Status != 200 || !strings.Contains(a.Body, `"s2"`) {
			t.Errorf("%s: %s", path, a.Body)
		}
	}
	if p := w.list("/dataplanes/_overview?filter[labels.app]=web"); namesOf(p) != "web-1" {
		t.Errorf("filtered: %v", namesOf(p))
	}
	w.wantStatus(w.get("/meshes/default/dataplanes/nope/_overview"), 404)
	if a := w.get("/zones/_overview"); !strings.Contains(a.Body, `"globalRevision":"7"`) || !strings.Contains(a.Body, `"zone":{"enabled":false}`) {
		t.Error(a.Body)
	}
	if a := w.get("/zones/west/_overview"); !strings.Contains(a.Body, `"ZoneOverview"`) || !strings.Contains(a.Body, `"sync"`) {
		t.Error(a.Body)
	}
	w.write(w.object(kind.ZoneInsight, "", "west", `{"subscriptions":[{"id":"z1"}]}`))
	for _, path := range []string{"/zone-insights", "/zone-insights/west", "/zones+insights/west"} {
		if a := w.get(path); a.Status != 200 || !strings.Contains(a.Body, `"sync"`) || !strings.Contains(a.Body, "z1") {
			t.Errorf("%s: %s", path, a.Body)
		}
	}
}

func TestMeta(t *testing.T) {
	w := newWorld(t, standalone)
	var index map[string]any
	if err := json.Unmarshal([]byte(w.get("/").Body), &index); err != nil {
		t.Fatal(err)
	}
	if index["product"] != "Atoll" || !strings.HasPrefix(index["version"].(string), "3.0.") || index["instanceId"] != "host-1234" {
		t.Errorf("%v", index)
	}
	if a := w.do(request{path: "/", header: map[string]string{"User-Agent": "kumactl/3.0.0 (linux; amd64; Kuma/1)"}}); !strings.Contains(a.Body, `"product": "Kuma"`) {
		t.Errorf("kumactl would refuse %s", a.Body)
	}
	if a := w.get("/config"); !strings.Contains(a.Body, `"mode": "zone"`) {
		t.Error(a.Body)
	}
	if a := w.get("/who-am-i"); !strings.Contains(a.Body, `"mesh-system:admin"`) {
		t.Error(a.Body)
	}
	var types struct{ Resources []resourceType }
	if err := json.Unmarshal([]byte(w.get("/_resources").Body), &types); err != nil {
		t.Fatal(err)
	}
	byName := map[string]resourceType{}
	for _, r := range types.Resources {
		byName[r.Name] = r
	}
	if _, ok := byName["Config"]; ok {
		t.Error("an internal kind is listed")
	}
	if m := byName["Mesh"]; m.Path != "meshes" || m.Scope != "Global" || m.ShortName != "m" || !m.IncludeInFederation || m.ReadOnly {
		t.Errorf("%+v", m)
	}
	if m := byName["ZoneInsight"]; !m.ReadOnly || m.IncludeInFederation {
		t.Errorf("%+v", m)
	}
	w.wantStatus(w.put("/meshes/default/dataplanes/web", dataplaneBody("web", nil)), 201)
	var insight globalInsight
	if err := json.Unmarshal([]byte(w.get("/global-insight").Body), &insight); err != nil {
		t.Fatal(err)
	}
	if insight.Meshes.Total != 1 || insight.Dataplanes.Standard != (statusTotal{Offline: 1, Total: 1}) || insight.Resources["Dataplane"].Total != 1 {
		t.Errorf("%+v", insight)
	}
	if a := w.get("/global-insights"); !strings.Contains(a.Body, `"GlobalInsights"`) {
		t.Error(a.Body)
	}
	for path, status := range map[string]int{
		"/_kri/kri_bad": 400, "/_kri/kri_zzz_default___x_": 400, "/_kri/kri_dp_default___nope_": 404,
	} {
		w.wantStatus(w.get(path), status)
	}
}

func TestKubernetesFormat(t *testing.T) {
	w := newWorld(t, standalone)
	w.wantStatus(w.put("/globalsecrets/s", `{"type":"GlobalSecret","name":"s","data":"aGk="}`), 201)
	w.wantStatus(w.put("/meshes/default/dataplanes/web", dataplaneBody("web", nil)), 201)
	for path, want := range map[string]string{
		"/global-secrets/s?format=k8s":                          `"value": "aGk="`,
		"/meshes/default?format=kubernetes":                     `"kind": "Mesh"`,
		"/meshes/default/dataplanes/web?format=k8s":             `"namespace": "kuma-system"`,
		"/meshes/default/dataplanes/web?format=k8s&namespace=n": `"namespace": "n"`,
	} {
		a := w.get(path)
		w.wantStatus(a, 200)
		if !strings.Contains(a.Body, want) {
			t.Errorf("%s lacks %s: %s", path, want, a.Body)
		}
	}
	bad := w.get("/meshes/default?format=xml")
	w.wantStatus(bad, 400)
	if got := fieldsOf(problemOf(t, bad)); !slices.Equal(got, []string{"format"}) {
		t.Errorf("%v", got)
	}
}
