package rest

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/atoll-mesh/atoll/pkg/auth"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/store"
)

// bindings is every role, with every combination of limits, each for the user
// that is named after it. The user nobody has none.
func bindings() []auth.Binding {
	var out []auth.Binding
	for _, role := range auth.Roles {
		for _, limit := range []string{"", " mesh", " zone", " mesh zone"} {
			b := auth.Binding{Role: role, Rule: auth.Rule{Users: []string{string(role) + limit}}}
			if strings.Contains(limit, "mesh") {
				b.Meshes = []string{"own"}
			}
			if strings.Contains(limit, "zone") {
				b.Zones = []string{"own"}
			}
			out = append(out, b)
		}
	}
	return out
}

// as makes a request with the verified client certificate of somebody.
func (w *world) as(user string, r request) answer {
	w.t.Helper()
	if r.method == "" {
		r.method = "GET"
	}
	req := httptest.NewRequest(r.method, "http://localhost:5681"+r.path, strings.NewReader(r.body))
	req.RemoteAddr = "192.0.2.7:50000"
	if r.body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	cert := &x509.Certificate{Subject: pkix.Name{CommonName: user}}
	req.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert}, VerifiedChains: [][]*x509.Certificate{{cert}}}
	rec := httptest.NewRecorder()
	w.handler.ServeHTTP(rec, req)
	return answer{rec.Code, rec.Header(), rec.Body.String()}
}

// spot is a place in the columns of the table of roles.
type spot struct{ mesh, zone string }

var spots = []spot{{"own", "own"}, {"own", "other"}, {"own", ""}, {"other", "own"}, {"other", "other"}, {"other", ""}}

// placed is a resource of a kind at a spot. Its name tells where.
func (w *world) placed(k *resource.Kind, at spot) *resource.Object {
	w.t.Helper()
	where := at.zone
	if where == "" {
		where = "none"
	}
	m := resource.Meta{ID: resource.ID{Type: k.Type, Name: "x-in-" + where}, Labels: map[string]string{}}
	if at.zone != "" {
		m.Labels[resource.LabelZone] = at.zone
	}
	if k.Scope == resource.ScopeMesh {
		m.Mesh = at.mesh
	}
	switch k.Type {
	case kind.Mesh:
		m.Name, m.Labels = at.mesh, nil
	case kind.Zone, kind.ZoneInsight, kind.ZoneTraffic:
		m.Name, m.Labels = where, nil
	}
	o, err := k.New(m, k.NewSpec(), nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return o
}

// everywhere is a world with a resource of every kind at every spot.
func everywhere(t *testing.T) (*world, []*resource.Object) {
	return everywhereAt(t, resource.Site{Zone: "own", Env: resource.EnvUniversal})
}

func everywhereAt(t *testing.T, site resource.Site) (*world, []*resource.Object) {
	w := newWorld(t, site, func(c *Config) {
		c.Auth.ClientCertificates = true
		c.Access.Roles = bindings()
		c.UnsafeDelete = true
		// Validation is not what is asked about here.
		var list []*resource.Kind
		for k := range c.Kinds.All() {
			plain := *k
			plain.Validate, plain.Admit = nil, nil
			list = append(list, &plain)
		}
		c.Kinds = resource.NewKinds(list...)
	})
	var all []*resource.Object
	seen := map[resource.ID]bool{}
	for k := range w.kinds.All() {
		for _, at := range spots {
			if o := w.placed(k, at); k.Type != kind.MeshInsight && !k.Internal && !seen[o.ID] {
				seen[o.ID] = true
				all = append(all, o)
			}
		}
	}
	w.write(all...)
	return w, all
}

func pathOf(o *resource.Object) string {
	if o.Mesh != "" {
		return "/meshes/" + o.Mesh + "/" + o.Kind.Plural + "/" + o.Name
	}
	return "/" + o.Kind.Plural + "/" + o.Name
}

// users are those of the bindings and nobody.
func users() []string {
	out := []string{"nobody"}
	for _, b := range bindings() {
		out = append(out, b.Users[0])
	}
	return out
}

// What each role gets of each resource over HTTP is what the table of roles says
// (which the tests of auth have in full). A path that says enough to refuse is
// refused (403) whatever is there; what else is hidden is not there (404).
func TestRolesOverHTTP(t *testing.T) {
	t.Parallel()
	w, all := everywhere(t)
	cases := 0
	for _, user := range users() {
		u := auth.User{Name: user, Groups: []string{auth.GroupAuthenticated}}
		for _, o := range all {
			path := pathOf(o)
			named := auth.TargetNamed(o.Kind, o.Mesh, o.Name)
			may := func(v auth.Verb, t auth.Target) bool { return w.api.Access.Object(u, v, t) == nil }
			this := auth.TargetOf(o.Kind, &o.Meta)
			check := func(method, path, body string, want int) answer {
				a := w.as(user, request{method: method, path: path, body: body})
				cases++
				switch {
				case want == 0 && (a.Status == 403 || a.Status == 404), want != 0 && a.Status != want:
					t.Errorf("%s: %s %s: %d, want %d: %s", user, method, path, a.Status, want, a.Body)
				case want == 403 && o.Zone() == "other" && strings.Contains(a.Body, `of zone`):
					t.Errorf("%s: %s %s tells whose it is: %s", user, method, path, a.Body)
				}
				return a
			}
			read := 200
			switch {
			case !may(auth.Read, named):
				read = 403
			case !may(auth.Read, this):
				read = 404
			}
			got := check("GET", path, "", read)
			if o.Type == kind.Dataplane || o.Type == kind.Zone {
				check("GET", path+"/_overview", "", read)
			}
			if read != 200 && o.Type != kind.Mesh && o.Type != kind.Zone && o.Type != kind.ZoneInsight {
				// Nothing tells it from what does not exist.
				missing := check("GET", path+"-gone", "", read)
				if strings.ReplaceAll(got.Body, o.Name, "") != strings.ReplaceAll(missing.Body, o.Name+"-gone", "") {
					t.Errorf("%s: GET %s is told from what is missing:\n%s%s", user, path, got.Body, missing.Body)
				}
			}
			remove, put := 0, 0
			switch {
			case w.api.writable(o.Kind) != nil:
				remove, put = 405, 405
			case !may(auth.Write, named):
				remove, put = 403, 403
			case !may(auth.Read, this):
				remove, put = 404, 403
			case !may(auth.Write, this):
				remove, put = 403, 403
			}
			check("DELETE", path+"?dryRun=true", "", remove)
			if remove == 404 {
				check("DELETE", path+"-gone?dryRun=true", "", 404)
			}
			if put == 403 {
				check("PUT", path, putBody(o), 403)
			} else if put == 0 && o.Zone() != "other" {
				check("PUT", path+"?dryRun=true", putBody(o), 0)
			}
		}
	}
	t.Logf("%d cases", cases)
	if cases < len(users())*len(all)*3 {
		t.Errorf("only %d cases", cases)
	}
}

// putBody is a document that is accepted for a resource as far as its form goes.
func putBody(o *resource.Object) string {
	head := map[string]any{"type": o.Type, "name": o.Name}
	if o.Mesh != "" {
		head["mesh"] = o.Mesh
	}
	switch o.Type {
	case kind.Dataplane:
		head["networking"] = map[string]any{"address": "192.0.2.1"}
	case kind.Secret, kind.GlobalSecret:
		head["data"] = "aGk="
	}
	if !o.Kind.Proto {
		head["spec"] = specs[o.Type]
		if specs[o.Type] == nil {
			head["spec"] = json.RawMessage(`{}`)
		}
	}
	b, err := json.Marshal(head)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// specs is what some kinds need at least.
var specs = map[resource.Type]json.RawMessage{
	kind.MeshExternalService:  json.RawMessage(`{"match":{"type":"HostnameGenerator","port":80,"protocol":"http"}}`),
	kind.MeshMultiZoneService: json.RawMessage(`{"selector":{"meshService":{"matchLabels":{"a":"b"}}},"ports":[{"port":80}]}`),
	kind.MeshZoneAddress:      json.RawMessage(`{"address":"192.0.2.1","port":10001}`),
	kind.HostnameGenerator:    json.RawMessage(`{"selector":{"meshService":{"matchLabels":{"a":"b"}}},"template":"a.mesh"}`),
	kind.MeshTrust:            json.RawMessage(`{"caBundles":[{"type":"Pem","pem":{"value":"x"}}],"trustDomain":"a.b"}`),
	kind.Webhook:              json.RawMessage(`{"url":"https://example.com"}`),
	"MeshProxyPatch":          json.RawMessage(`{"default":{"appendModifications":[]}}`),
}

// Lists, of one mesh and of all, overviews, insights and the history have just
// what the caller may get one by one.
func TestRolesInLists(t *testing.T) {
	t.Parallel()
	w, all := everywhere(t)
	for _, user := range users() {
		u := auth.User{Name: user, Groups: []string{auth.GroupAuthenticated}}
		visible := func(o *resource.Object) bool {
			return w.api.Access.Object(u, auth.Read, auth.TargetOf(o.Kind, &o.Meta)) == nil
		}
		for k := range w.kinds.All() {
			if k.Internal {
				continue
			}
			lists := map[string]string{"/" + k.Plural: ""} // and the mesh
			if k.Scope == resource.ScopeMesh {
				lists["/meshes/own/"+k.Plural], lists["/meshes/other/"+k.Plural], lists["/meshes/gone/"+k.Plural] = "own", "other", "gone"
			}
			if k.Type == kind.Dataplane {
				lists["/dataplanes/_overview"], lists["/meshes/other/dataplanes/_overview"] = "", "other"
			}
			if k.Type == kind.Zone {
				lists["/zones/_overview"] = ""
			}
			for path, mesh := range lists {
				a := w.as(user, request{path: path + "?size=1000"})
				if err := w.api.Access.Object(u, auth.Read, auth.TargetIn(k, mesh)); err != nil {
					if a.Status != 403 {
						t.Errorf("%s: GET %s: %d", user, path, a.Status)
					}
					continue
				}
				if mesh == "gone" {
					w.wantStatus(a, 404)
					continue
				}
				var want []string
				for _, o := range all {
					if o.Type == k.Type && (mesh == "" || o.Mesh == mesh) && visible(o) {
						want = append(want, o.Mesh+"/"+o.Name)
					}
				}
				got, total := namesIn(t, a)
				got = slices.DeleteFunc(got, func(n string) bool { return n == "/default" }) // the mesh that is always there
				slices.Sort(want)
				if k.Type == kind.Mesh || k.Type == kind.MeshInsight {
					if hidden := slices.Contains(got, "/other"); hidden && !visible(w.placed(w.kinds.ByType(kind.Mesh), spot{"other", ""})) {
						t.Errorf("%s: GET %s: %v", user, path, got)
					}
					continue
				}
				if !slices.Equal(got, want) || total != len(want) {
					t.Errorf("%s: GET %s: %d %v, want %v", user, path, total, got, want)
				}
			}
		}
		for path, want := range map[string]int{
			"/meshes/gone": 404, "/mesh-insights/gone": 404, "/_kri/kri_mt_other___gone_": 404,
			"/mesh-insights/other": 200, "/_kri/kri_mt_other___x-in-none_": 200,
		} {
			if user == "nobody" || strings.Contains(user, " mesh") {
				want = 403
			}
			if a := w.as(user, request{path: path}); a.Status != want {
				t.Errorf("%s: GET %s: %d, want %d: %s", user, path, a.Status, want, a.Body)
			}
		}
	}
}

func namesIn(t *testing.T, a answer) (names []string, total int) {
	t.Helper()
	var body struct {
		Total int
		Items []struct{ Mesh, Name string }
	}
	if err := json.Unmarshal([]byte(a.Body), &body); err != nil || a.Status != 200 {
		t.Fatalf("%d %s", a.Status, a.Body)
	}
	for _, i := range body.Items {
		names = append(names, i.Mesh+"/"+i.Name)
	}
	slices.Sort(names)
	return names, body.Total
}

// The history shows each caller the changes of what they may read, also of what
// is deleted by now, and of other revisions not even that they are there.
func TestRolesInHistory(t *testing.T) {
	t.Parallel()
	w, all := everywhere(t)
	first := w.revision()
	for _, o := range all { // each in a revision of its own, kinds with zones only
		if o.Type == "MeshTimeout" || o.Type == kind.Dataplane || o.Type == kind.Zone {
			w.wantStatus(w.del(pathOf(o)), 200)
		}
	}
	head := w.revision()
	var deleted []*resource.Object
	for _, o := range all {
		if o.Type == "MeshTimeout" || o.Type == kind.Dataplane || o.Type == kind.Zone {
			deleted = append(deleted, o)
		}
	}
	if int(head-first) != len(deleted) {
		t.Fatalf("%d revisions, want %d", head-first, len(deleted))
	}
	for _, user := range users() {
		u := auth.User{Name: user, Groups: []string{auth.GroupAuthenticated}}
		visible := func(o *resource.Object) bool {
			return w.api.Access.Object(u, auth.Read, auth.TargetOf(o.Kind, &o.Meta)) == nil
		}
		a := w.as(user, request{path: "/history?size=1000"})
		w.wantStatus(a, 200)
		var h struct{ Items []changeBody }
		if err := json.Unmarshal([]byte(a.Body), &h); err != nil {
			t.Fatal(err)
		}
		got := map[string]bool{}
		for _, i := range h.Items {
			got[fmt.Sprint(i.Operation, i.Type, i.Mesh, i.Name)] = true
		}
		for _, o := range all {
			if shown := got[fmt.Sprint(opCreate, o.Type, o.Mesh, o.Name)]; shown != visible(o) {
				t.Errorf("%s: the history shows %s: %v", user, o.ID, shown)
			}
		}
		for i, o := range deleted {
			want := 404
			if visible(o) {
				want = 200
			}
			if shown := got[fmt.Sprint(opDelete, o.Type, o.Mesh, o.Name)]; shown != (want == 200) {
				t.Errorf("%s: the history shows the deletion of %s: %v", user, o.ID, shown)
			}
			path := fmt.Sprintf("/history/%d", first+1+store.Revision(i))
			if a := w.as(user, request{path: path}); a.Status != want {
				t.Errorf("%s: GET %s: %d, want %d", user, path, a.Status, want)
			}
			if a := w.as(user, request{method: "POST", path: path + "/revert?dryRun=true"}); want == 404 && a.Status != 404 {
				t.Errorf("%s: revert of %s: %d %s", user, o.ID, a.Status, a.Body)
			}
		}
	}
}
