package rest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/atoll-mesh/atoll/pkg/auth"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/store"
)

// partlyHidden is a global with a zone and a mesh that are own, and another zone
// and mesh; whatever belongs to those has a name with hid in it.
func partlyHidden(t *testing.T) *world {
	w := newWorld(t, global, inspecting(global), func(c *Config) {
		c.Auth.ClientCertificates = true
		c.Access.Roles = bindings()
	})
	write := func(t resource.Type, mesh, name, zone, more string) {
		labels := ""
		if zone != "" {
			labels = fmt.Sprintf(`"labels":{"kuma.io/origin":"zone","kuma.io/zone":%q,"kuma.io/policy-role":"producer","app":%q}`, zone, name)
		} else {
			labels = `"labels":{"kuma.io/origin":"global"}`
		}
		w.write(w.object(t, mesh, name, "{"+labels+more+"}"))
	}
	const (
		proxy   = `,"networking":{"address":"10.0.0.1","inbound":[{"port":8080,"name":"http"}]}`
		service = `,"spec":{"selector":{"dataplaneLabels":{"matchLabels":{"app":"x"}}},"ports":[{"port":80,"name":"http","targetPort":8080}]}`
		all     = `,"spec":{"to":[{"targetRef":{"kind":"Mesh"},"default":{"http":{"requestTimeout":"9s"}}}]}`
		multi   = `,"spec":{"selector":{"meshService":{"matchLabels":{"a":"b"}}},"ports":[{"port":80}]}`
		names   = `,"spec":{"selector":{"%s":{"matchLabels":{}}},"template":"%s"}`
	)
	for _, mesh := range []string{"own", "hid-mesh"} {
		write(kind.Mesh, "", mesh, "", "")
	}
	for _, zone := range []string{"own", "hid-zone"} {
		write(kind.Zone, "", zone, "", "")
	}
	write(kind.Dataplane, "own", "web", "own", proxy)
	write(kind.Dataplane, "own", "hid-web", "hid-zone", proxy)
	write(kind.MeshService, "own", "api", "own", service)
	write(kind.MeshService, "own", "hid-api", "hid-zone", service)
	write(kind.MeshMultiZoneService, "own", "everywhere", "", multi)
	write("MeshTimeout", "own", "all", "", all)
	write("MeshTimeout", "own", "hid-timeout", "hid-zone", strings.Replace(all, `"kind":"Mesh"`, `"kind":"MeshService","labels":{"kuma.io/display-name":"hid-api"}`, 1))
	write(kind.HostnameGenerator, "", "of-all", "", fmt.Sprintf(names, "meshMultiZoneService", "{{ .DisplayName }}.mesh"))
	write(kind.HostnameGenerator, "", "hid-generator", "hid-zone", fmt.Sprintf(names, "meshMultiZoneService", "hid-{{ .DisplayName }}.mesh"))
	return w
}

// Inspection and insights show nothing of a zone or mesh that the caller may not
// read, and all of it to others.
func TestRolesInInspection(t *testing.T) {
	t.Parallel()
	w := partlyHidden(t)
	for _, path := range []string{
		"/meshes/own/dataplanes/web/_layout", "/meshes/own/dataplanes/web/_rules",
		"/meshes/own/meshmultizoneservices/everywhere/_hostnames",
		"/meshes/own/meshtimeouts/all/_resources/dataplanes", "/meshes/own/meshtimeouts/all/dataplanes",
		"/meshes/own/dataplanes/_overview", "/zones/_overview",
	} {
		for _, user := range users() {
			a := w.as(user, request{path: path})
			limited := strings.HasSuffix(user, " zone")
			if user == "nobody" {
				w.wantStatus(a, 403)
				continue
			}
			w.wantStatus(a, 200)
			if shown := strings.Contains(a.Body, "hid-"); shown == limited {
				t.Errorf("%s: GET %s shows what is hidden %v: %s", user, path, shown, a.Body)
			}
			if !limited { // the answer is as without roles
				if b := w.as("admin", request{path: path}); a.Body != b.Body {
					t.Errorf("%s: GET %s: %s, want %s", user, path, a.Body, b.Body)
				}
			}
		}
	}
	// What names the hidden in its path is answered like what is missing.
	for _, path := range []string{
		"/meshes/own/dataplanes/%s/_layout", "/meshes/own/dataplanes/%s/_rules", "/meshes/own/meshservices/%s/_hostnames",
		"/meshes/own/meshservices/%s/_dataplanes", "/meshes/own/meshtimeouts/%s/_resources/dataplanes",
		"/meshes/own/dataplanes/%s/stats", "/meshes/own/dataplanes/%s/_config", "/meshes/own/dataplanes/%s/_policies",
		"/meshes/own/dataplanes/web/_outbounds/kri_msvc_own_hid-zone__%s_http/_policies",
	} {
		for _, name := range []string{"hid-web", "hid-api", "hid-timeout"} {
			hidden := w.as("viewer zone", request{path: fmt.Sprintf(path, name)})
			missing := w.as("viewer zone", request{path: fmt.Sprintf(path, "none")})
			if status := missing.Status; status != 404 && !(status == 405 && strings.HasSuffix(path, "/_config")) {
				t.Errorf("%s: %d %s", path, status, missing.Body)
			}
			w.wantStatus(hidden, missing.Status)
			if strings.ReplaceAll(hidden.Body, name, "none") != missing.Body {
				t.Errorf("%s is told from what is missing: %s", path, hidden.Body)
			}
		}
	}
}

// Insights count what the caller may read.
func TestRolesInInsights(t *testing.T) {
	t.Parallel()
	w := partlyHidden(t)
	for _, user := range users() {
		a := w.as(user, request{path: "/global-insight"})
		w.wantStatus(a, 200)
		var g globalInsight
		if err := json.Unmarshal([]byte(a.Body), &g); err != nil {
			t.Fatal(err)
		}
		meshes, zones, proxies := 3, 2, 2
		if strings.Contains(user, " mesh") {
			meshes = 1
		}
		if strings.HasSuffix(user, " zone") {
			zones, proxies = 1, 1
		}
		if user == "nobody" {
			meshes, zones, proxies = 0, 0, 0
		}
		if g.Meshes.Total != meshes || g.Zones.ControlPlanes.Total != zones || g.Dataplanes.Standard.Total != proxies {
			t.Errorf("%s: %s", user, a.Body)
		}
		a = w.as(user, request{path: "/mesh-insights/own"})
		if user == "nobody" {
			w.wantStatus(a, 403)
			continue
		}
		list := w.as(user, request{path: "/mesh-insights"})
		var m, l any
		if json.Unmarshal([]byte(a.Body), &m) != nil || json.Unmarshal([]byte(list.Body), &l) != nil {
			t.Fatal(a.Body, list.Body)
		}
		items := at(l, "items").([]any)
		if len(items) != meshes || strings.Contains(list.Body, "hid-") && strings.Contains(user, " mesh") {
			t.Errorf("%s: %s", user, list.Body)
		}
		inList := slices.IndexFunc(items, func(i any) bool { return at(i, "name") == "own" })
		for _, doc := range []any{m, items[inList]} {
			if at(doc, "dataplanes", "total") != float64(proxies) || at(doc, "resources", "MeshService", "total") != float64(proxies) {
				t.Errorf("%s: %v", user, doc)
			}
		}
	}
}

// Another global decides what a zone has, so that who has limits cannot choose one.
func TestAdoptNeedsAnUnlimitedAdmin(t *testing.T) {
	w := newWorld(t, federated, func(c *Config) {
		c.Auth.ClientCertificates = true
		c.Access.Roles = bindings()
		c.Adopt = func(context.Context) error { return nil }
	})
	for _, user := range users() {
		want := 403
		if user == "admin" {
			want = 200
		}
		w.wantStatus(w.as(user, request{method: "POST", path: "/zone/_adopt"}), want)
	}
}

// A stream of events has the changes of what the caller may read, deletions
// included, whether they are in the feed or read from the log.
func TestRolesInEvents(t *testing.T) {
	t.Parallel()
	w, all := everywhere(t)
	w.api.feed.join(w.view.Snapshot())
	defer w.api.feed.leave()
	var deleted []*resource.Object
	for _, o := range all {
		if o.Type == "MeshTimeout" || o.Type == kind.Dataplane || o.Type == kind.Zone {
			w.wantStatus(w.del(pathOf(o)), 200)
			deleted = append(deleted, o)
		}
	}
	for _, user := range users() {
		u := auth.User{Name: user, Groups: []string{auth.GroupAuthenticated}}
		visible := func(o *resource.Object) bool {
			return w.api.Access.Object(u, auth.Read, auth.TargetOf(o.Kind, &o.Meta)) == nil
		}
		for _, after := range []store.Revision{1, w.revision() - store.Revision(len(deleted))} {
			text := w.pumped(u, after)
			shows := func(operation string, o *resource.Object) bool {
				where := ""
				if o.Mesh != "" {
					where = fmt.Sprintf(`"mesh":%q,`, o.Mesh)
				}
				return strings.Contains(text, fmt.Sprintf(`"operation":%q,"type":%q,%s"name":%q}`, operation, o.Type, where, o.Name))
			}
			for _, o := range all {
				if after == 1 && shows(opCreate, o) != visible(o) {
					t.Errorf("%s: after %d, events show %s: %v", user, after, o.ID, !visible(o))
				}
			}
			for _, o := range deleted {
				if shows(opDelete, o) != visible(o) {
					t.Errorf("%s: after %d, events show the deletion of %s: %v", user, after, o.ID, !visible(o))
				}
			}
		}
	}
}

// pumped is all that a stream of a user has after a revision.
func (w *world) pumped(u auth.User, after store.Revision) string {
	w.t.Helper()
	rec := httptest.NewRecorder()
	r := httptest.NewRequest("GET", "/events", nil)
	r = r.WithContext(auth.WithUser(r.Context(), u))
	out := stream{w: rec, c: http.NewResponseController(rec), after: after}
	for {
		more, err := w.api.pump(r, &out, &changeFilter{})
		if err != nil {
			w.t.Fatal(err)
		}
		if !more {
			return rec.Body.String()
		}
	}
}
