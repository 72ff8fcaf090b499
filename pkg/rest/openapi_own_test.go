package rest

import (
	"fmt"
	"testing"
)

// TestOwnAnswersAreAsDescribed holds answers that the reference does not give
// against the description: of the past, of dry runs, of proxies.
func TestOwnAnswersAreAsDescribed(t *testing.T) {
	w := inspectable(t)
	w.withKeys()
	d := describedBy(t, w)
	doc := func(seconds int) string {
		return fmt.Sprintf(`{"type":"MeshTimeout","mesh":"default","name":"mine","spec":{"rules":[{"default":{"idleTimeout":"%ds"}}]}}`, seconds)
	}
	created := w.put("/meshes/default/meshtimeouts/mine", doc(1))
	changed := w.put("/meshes/default/meshtimeouts/mine", doc(2))
	w.wantStatus(created, 201)
	w.wantStatus(changed, 200)
	rev := changed.Header.Get(revisionHeader)
	for _, c := range []request{
		{path: "/"},
		{path: "/meshes/default/meshtimeouts/mine?at=" + created.Header.Get(revisionHeader)},
		{path: "/history"},
		{path: "/history?size=1&kind=MeshTimeout&name=mine"},
		{path: "/history/" + rev},
		{path: "/history/999"},
		{path: "/meshes/default/_explain?from=web-1&to=api"},
		{path: webProxy + "_rules?include=fields"},
		{path: webProxy + "_layout"},
		{path: webProxy + "_config?shadow=true&include=diff"},
		{path: webProxy + "policies"},
		{path: webProxy + "stats?format=json"},
		{path: "/meshes/default/meshtimeouts/all/_resources/dataplanes?size=1"},
		{path: "/meshes/default/meshservices/api/_dataplanes"},
		{path: "/failover/gaps"},
		{path: "/zones/_links"},
		{path: "/meshes/default/nothing/at/_all"},
		{method: "PUT", path: "/meshes/default/meshtimeouts/mine?dryRun=true", body: doc(3)},
		{method: "PUT", path: "/meshes/default/meshtimeouts/mine", body: `{"type":"MeshTimeout"}`},
		{method: "DELETE", path: "/meshes/default/meshtimeouts/mine?dryRun=true"},
		{method: "POST", path: "/history/" + rev + "/revert?dryRun=true"},
		{method: "POST", path: "/history/" + rev + "/revert"},
		{method: "POST", path: "/tokens/user", body: `{"name":"a","validFor":"1h"}`},
		{method: "POST", path: "/tokens/user", body: `{"name":"a","validFor":"-1h"}`},
		{method: "DELETE", path: "/meshes/default/meshtimeouts/mine"},
	} {
		if c.method == "" {
			c.method = "GET"
		}
		a := w.do(c)
		if op := d.operation(c.method, c.path); op == nil {
			if a.Status != 404 {
				t.Errorf("%s %s: %d, and is not described", c.method, c.path, a.Status)
			}
			continue
		}
		for _, v := range d.check(c.method, c.path, a) {
			t.Errorf("%s %s: %d: %s", c.method, c.path, a.Status, v)
		}
		if a.Status >= 500 {
			t.Errorf("%s %s: %d %s", c.method, c.path, a.Status, a.Body)
		}
	}
}
