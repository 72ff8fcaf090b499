package rest

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// kumactl calls the API as that program does.
type kumactl struct{ *world }

func (k kumactl) call(method, path, body string, status int) map[string]any {
	k.t.Helper()
	a := k.do(request{method: method, path: path, body: body, header: map[string]string{
		"User-Agent": "kumactl/3.0.0 (linux; amd64; Kuma/abc)", "Accept": "application/json",
	}})
	if a.Status != status {
		k.t.Errorf("%s %s: %d, want %d: %.300s", method, path, a.Status, status, a.Body)
	}
	var v map[string]any
	if err := json.Unmarshal([]byte(a.Body), &v); err != nil && !strings.HasPrefix(path, "/tokens/") && a.Header.Get("Content-Type") == "application/json" {
		k.t.Errorf("%s %s: %v", method, path, err)
	}
	if a.Status >= 400 && v["title"] == "" {
		k.t.Errorf("%s %s: an error without title: %s", method, path, a.Body)
	}
	return v
}

// apply is "kumactl apply": it looks whether the resource exists, and puts it
// with times of zero.
func (k kumactl) apply(path, body string, exists bool) {
	k.t.Helper()
	k.call("GET", "/", "", 200)
	before, after := 404, 201
	if exists {
		before, after = 200, 200
	}
	k.call("GET", path, "", before)
	zero := `{"creationTime":"0001-01-01T00:00:00Z","modificationTime":"0001-01-01T00:00:00Z","kri":"kri_x_____",`
	k.call("PUT", path, zero+strings.TrimPrefix(body, "{"), after)
	doc := k.call("GET", path, "", 200)
	for _, member := range []string{"type", "name", "creationTime", "modificationTime"} {
		if doc[member] == nil {
			k.t.Errorf("%s has no %s", path, member)
		}
	}
	if doc["creationTime"] == "0001-01-01T00:00:00Z" {
		k.t.Errorf("%s: the time of the request was taken", path)
	}
}

// TestKumactl makes the calls of every command of kumactl to a global and to a
// zone of its own.
func TestKumactl(t *testing.T) {
	for name, site := range map[string]resource.Site{"global": global, "zone": standalone} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, site, inspecting(site))
			w.withKeys()
			w.write(
				w.object(kind.Dataplane, "default", "web-1", dataplaneBody("web-1", map[string]string{"kuma.io/zone": "default"})),
				w.object(kind.DataplaneInsight, "default", "web-1", `{"subscriptions":[{"connectTime":"2026-01-02T03:04:05Z"}]}`),
				w.object(kind.Zone, "", "east", `{"enabled":true}`),
				w.object(kind.ZoneInsight, "", "east", `{"subscriptions":[{"connectTime":"2026-01-02T03:04:05Z","config":"{\"store\":{\"type\":\"memory\"}}"}]}`),
			)
			k := kumactl{w}

			// config control-planes add
			if product := k.call("GET", "/", "", 200)["product"]; product != "Kuma" {
				t.Errorf("product %q would be refused", product)
			}

			// apply, delete
			k.apply("/meshes/shop", `{"type":"Mesh","name":"shop"}`, false)
			timeout := `{"type":"MeshTimeout","mesh":"default","name":"mine","spec":{"to":[{"targetRef":{"kind":"Mesh"},"default":{"idleTimeout":"1m"}}]}}`
			k.apply("/meshes/default/meshtimeouts/mine", timeout, false)
			k.apply("/meshes/default/meshtimeouts/mine", timeout, true)
			k.call("PUT", "/meshes/default/meshtimeouts/mine", `{"type":"MeshTimeout","mesh":"default","name":"mine","spec":{}}`, 400)
			k.call("DELETE", "/meshes/shop", "", 200)
			k.call("DELETE", "/meshes/shop", "", 404)

			// get of every kind, and export, which lists kinds first
			types := k.call("GET", "/_resources", "", 200)["resources"].([]any)
			for _, m := range k.call("GET", "/meshes", "", 200)["items"].([]any) {
				for _, r := range types {
					kind := r.(map[string]any)
					path := "/" + fmt.Sprint(kind["path"])
					if kind["scope"] == "Mesh" {
						path = "/meshes/" + fmt.Sprint(m.(map[string]any)["name"]) + path
					}
					list := k.call("GET", path+"?size=1", "", 200)
					for _, member := range []string{"total", "items", "next"} {
						if _, ok := list[member]; !ok {
							t.Errorf("%s has no %s", path, member)
						}
					}
					for _, item := range list["items"].([]any) {
						doc := item.(map[string]any)
						one := path + "/" + fmt.Sprint(doc["name"])
						k.call("GET", one, "", 200)
						k.call("GET", one+"?format=k8s", "", 200)
						if doc["type"] != kind["name"] {
							t.Errorf("%s is a %s, not a %s", one, doc["type"], kind["name"])
						}
					}
					k.call("GET", path+"/no-such", "", 404)
				}
			}

			// inspect
			if mesh := k.call("GET", "/mesh-insights", "", 200)["items"].([]any); len(mesh) == 0 || mesh[0].(map[string]any)["dataplanes"] == nil {
				t.Errorf("inspect meshes crashes kumactl: %v", mesh)
			}
			zones := k.call("GET", "/zones/_overview", "", 200)
			if at(zones, "items", 0, "zoneInsight", "subscriptions", 0, "config") == nil {
				t.Errorf("inspect zones: %v", zones)
			}
			k.call("GET", "/meshes/default/dataplanes/_overview?tag=a:b&gateway=true&ingress=true", "", 200)
			proxy := "/meshes/default/dataplanes/web-1/"
			for _, path := range []string{"_policies", "policies", "xds?include_eds=true", "stats", "clusters", "_rules", "_layout"} {
				k.call("GET", proxy+path, "", 200)
			}
			config := 200
			if site.Global {
				config = 405
			}
			k.call("GET", proxy+"_config?shadow=true&include=diff", "", config)
			k.call("GET", "/meshes/default/meshtimeouts/mine/dataplanes", "", 200)
			k.call("GET", "/meshes/default/meshtimeouts/mine/-resources/dataplanes?offset=0", "", 200)

			// generate
			for path, body := range map[string]string{
				"/tokens/dataplane": `{"name":"web-1","mesh":"default","tags":{"a":["b"]},"type":"","workload":"","validFor":"1h0m0s"}`,
				"/tokens/zone":      `{"zone":"east","scope":["cp"],"validFor":"1h0m0s"}`,
				"/tokens/user":      `{"name":"joe","groups":["ops"],"validFor":"1h0m0s"}`,
			} {
				a := w.do(request{method: "POST", path: path, body: body})
				w.wantStatus(a, 200)
				if !strings.HasPrefix(a.Header.Get("Content-Type"), "text/plain") || strings.Count(strings.TrimSpace(a.Body), ".") != 2 {
					t.Errorf("%s: %s %q is no token", path, a.Header.Get("Content-Type"), a.Body)
				}
			}
		})
	}
}
