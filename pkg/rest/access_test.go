package rest

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	systemv1 "github.com/atoll-mesh/atoll/api/kuma/system/v1alpha1"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/atoll-mesh/atoll/pkg/auth"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// withKeys stores signing keys: those given, or for tokens of users, zones and
// the mesh default.
func (w *world) withKeys(families ...auth.Keys) {
	w.t.Helper()
	if families == nil {
		families = []auth.Keys{auth.UserKeys(), auth.ZoneKeys(), auth.DataplaneKeys("default")}
	}
	key, err := auth.GenerateKey()
	if err != nil {
		w.t.Fatal(err)
	}
	var objects []*resource.Object
	for _, keys := range families {
		id := keys.First()
		o, err := w.kinds.ByType(id.Type).New(resource.Meta{ID: id}, &systemv1.Secret{Data: wrapperspb.Bytes(key)}, nil)
		if err != nil {
			w.t.Fatal(err)
		}
		objects = append(objects, o)
	}
	w.write(objects...)
}

func (w *world) userToken(name string, groups ...string) map[string]string {
	w.t.Helper()
	token, err := w.api.Tokens.IssueUser(auth.UserClaims{Name: name, Groups: groups}, time.Hour)
	if err != nil {
		w.t.Fatal(err)
	}
	return map[string]string{"Authorization": "Bearer " + token}
}

// Callers from elsewhere who do not say who they are get the entry page.
func TestAnonymousFromElsewhere(t *testing.T) {
	w := newWorld(t, standalone, func(c *Config) {
		c.GUI = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Write([]byte("gui " + r.URL.Path)) })
	})
	before := w.revision()
	for path, status := range map[string]int{
		"/": 200, "/gui": 200, "/gui/assets/x.js": 200,
		"/meshes": 403, "/meshes/default": 403, "/_resources": 403, "/policies": 403, "/config": 403, "/who-am-i": 403,
		"/global-insight": 403, "/nothing": 403, "/guix": 403, "/_kri/kri_m____default_": 403,
	} {
		a := w.do(request{path: path, remote: true})
		w.wantStatus(a, status)
		if status == 403 {
			if p := problemOf(t, a); p.Title != "Access Denied" || !strings.Contains(p.Detail, "mesh-system:anonymous") {
				t.Errorf("%s: %s", path, a.Body)
			}
		}
	}
	for _, r := range []request{
		{method: "PUT", path: "/meshes/m2", body: `{"type":"Mesh","name":"m2"}`}, {method: "DELETE", path: "/meshes/default"},
		{method: "POST", path: "/tokens/user", body: `{"name":"x","validFor":"1h"}`}, {method: "PUT", path: "/", body: "{}"},
	} {
		r.remote = true
		w.wantStatus(w.do(r), 403)
	}
	if w.revision() != before {
		t.Error("something was written")
	}
	// What a proxy forwards is not a call from here.
	w.wantStatus(w.do(request{path: "/meshes", header: map[string]string{"X-Forwarded-For": "192.0.2.9"}}), 403)
}

func TestAnonymousMayBeLetIn(t *testing.T) {
	w := newWorld(t, standalone, func(c *Config) { c.Access.AnonymousRead, c.Access.AnonymousWrite = true, true })
	w.wantStatus(w.do(request{path: "/meshes", remote: true}), 200)
	w.wantStatus(w.do(request{method: "PUT", path: "/meshes/m2", body: `{"type":"Mesh","name":"m2"}`, remote: true}), 201)
	w.wantStatus(w.do(request{path: "/globalsecrets", remote: true}), 403)
	w.wantStatus(w.do(request{method: "POST", path: "/tokens/user", body: `{"name":"x","validFor":"1h"}`, remote: true}), 403)
}

func TestLocalhostIsAdminCanBeTurnedOff(t *testing.T) {
	w := newWorld(t, standalone, func(c *Config) { c.Auth.LocalhostIsAdmin = false })
	w.wantStatus(w.get("/meshes"), 403)
	w.wantStatus(w.get("/"), 200)
}

func TestTokensOfUsers(t *testing.T) {
	w := newWorld(t, standalone)
	w.withKeys()
	joe, admin := w.userToken("joe", "ops"), w.userToken("root", "mesh-system:admin")
	for _, tc := range []struct {
		method, path, body string
		joe, admin         int
	}{
		{"GET", "/meshes", "", 200, 200},
		{"PUT", "/meshes/m2", `{"type":"Mesh","name":"m2"}`, 201, 200},
		{"GET", "/config", "", 200, 200},
		{"GET", "/globalsecrets", "", 403, 200},
		{"GET", "/global-secrets/user-token-signing-key-1", "", 403, 200},
		{"GET", "/meshes/default/secrets", "", 403, 200},
		{"GET", "/secrets", "", 403, 200},
		{"PUT", "/meshes/default/secrets/s", `{"type":"Secret","mesh":"default","name":"s","data":"aGk="}`, 403, 201},
		{"DELETE", "/meshes/default/secrets/nope", "", 403, 404},
		{"POST", "/tokens/user", `{"name":"x","validFor":"1h"}`, 403, 200},
		{"POST", "/tokens/zone", `{"zone":"x"}`, 403, 200},
		{"POST", "/tokens/dataplane", `{"mesh":"default"}`, 403, 200},
	} {
		w.wantStatus(w.do(request{method: tc.method, path: tc.path, body: tc.body, remote: true, header: joe}), tc.joe)
		w.wantStatus(w.do(request{method: tc.method, path: tc.path, body: tc.body, remote: true, header: admin}), tc.admin)
	}
	if a := w.do(request{path: "/who-am-i", remote: true, header: joe}); !strings.Contains(a.Body, `"joe"`) || !strings.Contains(a.Body, "mesh-system:authenticated") {
		t.Error(a.Body)
	}
	bad := map[string]string{"Authorization": "Bearer nonsense"}
	a := w.do(request{path: "/meshes", remote: true, header: bad})
	w.wantStatus(a, 401)
	if p := problemOf(t, a); p.Title != "Invalid authentication data" || p.Detail != "Unauthenticated" || a.Header.Get("WWW-Authenticate") == "" {
		t.Error(a.Body)
	}
	w.wantStatus(w.do(request{path: "/", remote: true, header: bad}), 200)
}

func TestTokenEndpoints(t *testing.T) {
	w := newWorld(t, standalone)
	for _, path := range []string{"dataplane", "zone", "user"} {
		a := w.do(request{method: "POST", path: "/tokens/" + path, body: `{"name":"x","mesh":"default","zone":"east","validFor":"1h"}`})
		w.wantStatus(a, 404)
		if p := problemOf(t, a); p.Title != "Signing Key not found" {
			t.Errorf("%s", a.Body)
		}
	}
	w.withKeys()
	post := func(path, body string) answer {
		return w.do(request{method: "POST", path: "/tokens/" + path, body: body})
	}
	a := post("dataplane", `{"mesh":"default","name":"x","workload":"w","tags":{"app":["web"]}}`)
	w.wantStatus(a, 200)
	if a.Header.Get("Content-Type") != "text/plain" {
		t.Errorf("%v", a.Header)
	}
	if claims, err := w.api.Tokens.Dataplane(a.Body, "default"); err != nil || claims.Name != "x" || claims.Workload != "w" || claims.Tags["app"][0] != "web" {
		t.Errorf("%+v %v", claims, err)
	}
	a = post("zone", `{"zone":"east","scope":["cp"],"validFor":"1h"}`)
	if claims, err := w.api.Tokens.Zone(a.Body); err != nil || claims.Zone != "east" || !slices.Equal(claims.Scope, []string{"cp"}) {
		t.Errorf("%+v %v", claims, err)
	}
	a = post("user", `{"name":"joe","groups":["ops"],"validFor":"1h"}`)
	if u, err := w.api.Tokens.User(a.Body); err != nil || u.Name != "joe" {
		t.Errorf("%+v %v", u, err)
	}
	for _, tc := range []struct {
		path, body string
		want       []string
	}{
		{"dataplane", `{}`, []string{"mesh"}},
		{"dataplane", `{"type":"ingress","validFor":"x"}`, []string{"mesh", "type", "validFor"}},
		{"user", `{}`, []string{"name", "validFor"}},
		{"user", `{"name":"x","validFor":"-1h"}`, []string{"validFor"}},
		{"zone", `{"validFor":"1h"}`, []string{"zone"}},
		{"zone", `{"zone":1}`, []string{"zone"}},
	} {
		a := post(tc.path, tc.body)
		w.wantStatus(a, 400)
		if got := fieldsOf(problemOf(t, a)); !slices.Equal(got, tc.want) {
			t.Errorf("%s %s: %v", tc.path, tc.body, got)
		}
	}
	w.wantStatus(post("user", `{`), 400)
	w.wantStatus(w.do(request{method: "POST", path: "/tokens/dataplane", body: `{"mesh":"nope"}`}), 404)
	if w.do(request{method: "POST", path: "/tokens/user", body: "name: joe\nvalidFor: 1h\n", header: map[string]string{"Content-Type": "application/yaml", "Accept": "text/plain"}}).Status != 200 {
		t.Error("YAML was refused")
	}
}

func TestAuthorsAreRecorded(t *testing.T) {
	w := newWorld(t, standalone)
	w.withKeys()
	after := w.revision()
	w.wantStatus(w.do(request{method: "PUT", path: "/meshes/m2", body: `{"type":"Mesh","name":"m2"}`, remote: true, header: w.userToken("joe")}), 201)
	b, err := w.store.Read(t.Context(), after, 1)
	if err != nil || b.Commits[0].Changes[0].Author != "joe" {
		t.Errorf("%+v %v", b, err)
	}
}

func TestCORS(t *testing.T) {
	w := newWorld(t, standalone, func(c *Config) { c.CORSAllowedDomains = []string{"https://gui.example", "other.example"} })
	for origin, allowed := range map[string]bool{"https://gui.example": true, "http://other.example:8080": true, "https://evil.example": false} {
		a := w.do(request{method: "OPTIONS", path: "/meshes", remote: true, header: map[string]string{"Origin": origin, "Access-Control-Request-Method": "PUT"}})
		if got := a.Header.Get("Access-Control-Allow-Origin") == origin; got != allowed {
			t.Errorf("%s: %v", origin, a.Header)
		}
	}
	plain := newWorld(t, standalone)
	if a := plain.do(request{path: "/meshes", header: map[string]string{"Origin": "http://localhost:5681"}}); a.Header.Get("Access-Control-Allow-Origin") != "" {
		t.Error("CORS without being asked for")
	}
}

func TestABugIsAProblemToo(t *testing.T) {
	w := newWorld(t, standalone, func(c *Config) {
		c.MeshDefaults = func(*resource.Object) ([]*resource.Object, error) { panic("bug") }
	})
	a := w.put("/meshes/m2", `{"type":"Mesh","name":"m2"}`)
	w.wantStatus(a, 500)
	if p := problemOf(t, a); strings.Contains(p.Detail, "bug") {
		t.Error("the cause was shown")
	}
	w.wantStatus(w.get("/meshes/m2"), 404)
}

func TestSettingsAreNotForEverybody(t *testing.T) {
	w := newWorld(t, standalone, func(c *Config) { c.Access.ControlPlaneMetadata = auth.Rule{Groups: []string{"ops"}} })
	w.withKeys()
	w.wantStatus(w.do(request{path: "/config", remote: true, header: w.userToken("joe")}), 403)
	w.wantStatus(w.do(request{path: "/config", remote: true, header: w.userToken("joe", "ops")}), 200)
}
