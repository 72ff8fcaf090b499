package rest

import (
	"encoding/json"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/atoll-mesh/atoll/pkg/auth"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/policy/all"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/store"
	"github.com/atoll-mesh/atoll/pkg/store/memory"
	"github.com/atoll-mesh/atoll/pkg/view"
)

// world is an API on a store in memory.
type world struct {
	t       testing.TB
	api     *API
	handler http.Handler
	store   store.Store
	view    *view.View
	kinds   *resource.Kinds
}

var (
	standalone = resource.Site{Zone: "default", Env: resource.EnvUniversal}
	federated  = resource.Site{Zone: "east", Federated: true, Env: resource.EnvUniversal}
	global     = resource.Site{Global: true, Env: resource.EnvUniversal}
)

func allKinds() *resource.Kinds {
	list := kind.All()
	for _, d := range all.Policies() {
		list = append(list, d.Kind())
	}
	return resource.NewKinds(list...)
}

// newWorld starts an API in which the mesh default exists.
func newWorld(t testing.TB, site resource.Site, change ...func(*Config)) *world {
	t.Helper()
	kinds := allKinds()
	w := &world{t: t, store: memory.Open(), kinds: kinds, view: view.New(kinds, site, slog.New(slog.DiscardHandler))}
	t.Cleanup(func() { w.store.Close() })
	go view.Follow(t.Context(), w.store, w.view)
	tokens, err := auth.NewTokens(auth.Config{Snapshot: func() auth.Reader { return w.view.Snapshot() }})
	if err != nil {
		t.Fatal(err)
	}
	access := auth.DefaultAccess()
	cfg := Config{
		View: w.view, Store: w.store, Kinds: kinds, Site: site,
		Auth: &auth.Authenticator{Tokens: tokens, LocalhostIsAdmin: true}, Access: &access, Tokens: tokens,
		Hostname: "host", InstanceID: "host-1234", Settings: []byte(`{"mode":"zone"}`),
	}
	for _, c := range change {
		c(&cfg)
	}
	w.api = newAPI(cfg)
	w.handler = w.api.handler()
	w.write(w.object(kind.Mesh, "", "default", `{"type":"Mesh","name":"default"}`))
	return w
}

// object decodes a resource and gives it the labels of its document.
func (w *world) object(t resource.Type, mesh, name, body string) *resource.Object {
	w.t.Helper()
	k := w.kinds.ByType(t)
	o, err := k.DecodeJSON([]byte(body))
	if err != nil {
		w.t.Fatalf("%s: %v", name, err)
	}
	o, err = k.New(resource.Meta{ID: resource.ID{Type: t, Mesh: mesh, Name: name}, Labels: o.Labels}, o.Spec, o.Status)
	if err != nil {
		w.t.Fatal(err)
	}
	return o
}

// write stores objects behind the API's back and waits for the view.
func (w *world) write(objects ...*resource.Object) {
	w.t.Helper()
	var ops []store.Op
	for _, o := range objects {
		ops = append(ops, store.Put(o, store.Any, "test"))
	}
	rev, err := w.store.Write(w.t.Context(), ops...)
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.view.Wait(w.t.Context(), rev); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) revision() store.Revision { return w.view.Snapshot().Revision() }

// answer is what came back.
type answer struct {
	Status int
	Header http.Header
	Body   string
}

// request is a call; the zero values are a GET from localhost without body.
type request struct {
	method, path, body string
	header             map[string]string
	remote             bool // from another machine
}

func (w *world) do(r request) answer {
	w.t.Helper()
	if r.method == "" {
		r.method = "GET"
	}
	req := httptest.NewRequest(r.method, "http://localhost:5681"+r.path, strings.NewReader(r.body))
	req.RemoteAddr = "127.0.0.1:50000"
	if r.remote {
		req.RemoteAddr = "192.0.2.7:50000"
	}
	if r.body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for k, v := range r.header {
		if v == "" {
			req.Header.Del(k)
			continue
		}
		req.Header.Set(k, v)
	}
	rec := httptest.NewRecorder()
	w.handler.ServeHTTP(rec, req)
	body, _ := io.ReadAll(rec.Body)
	return answer{rec.Code, rec.Header(), string(body)}
}

func (w *world) get(path string) answer { w.t.Helper(); return w.do(request{path: path}) }

func (w *world) put(path, body string) answer {
	w.t.Helper()
	return w.do(request{method: "PUT", path: path, body: body})
}

func (w *world) del(path string) answer {
	w.t.Helper()
	return w.do(request{method: "DELETE", path: path})
}

// problemOf decodes an error and checks what all errors have in common.
func problemOf(t testing.TB, a answer) problemBody {
	t.Helper()
	var p problemBody
	if err := json.Unmarshal([]byte(a.Body), &p); err != nil {
		t.Fatalf("not a problem: %s", a.Body)
	}
	if p.Type != "/std-errors" || p.Status != a.Status || p.Title == "" || p.Detail != p.Details || len(p.Causes) != len(p.InvalidParameters) {
		t.Errorf("malformed problem: %s", a.Body)
	}
	if got := a.Header.Get("Content-Type"); got != "application/json" {
		t.Errorf("content type %q", got)
	}
	return p
}

func fieldsOf(p problemBody) []string {
	set := map[string]bool{}
	for _, f := range p.InvalidParameters {
		set[f.Field] = true
	}
	return slices.Sorted(maps.Keys(set))
}

func (w *world) wantStatus(a answer, status int) {
	w.t.Helper()
	if a.Status != status {
		w.t.Errorf("status %d, want %d: %s", a.Status, status, a.Body)
	}
}

type page1 struct {
	Total int
	Items []struct {
		Name, Mesh, Type string
		Labels           map[string]string
	}
	Next *string
}

func (w *world) list(path string) page1 {
	w.t.Helper()
	a := w.get(path)
	w.wantStatus(a, 200)
	var p page1
	if err := json.Unmarshal([]byte(a.Body), &p); err != nil {
		w.t.Fatalf("%v in %s", err, a.Body)
	}
	return p
}

func namesOf(p page1) string {
	var names []string
	for _, i := range p.Items {
		names = append(names, i.Name)
	}
	return strings.Join(names, " ")
}

const dataplane = `{"type":"Dataplane","mesh":"default","name":"NAME","labels":LABELS,"networking":{"address":"192.0.2.1","inbound":[{"port":8080}]}}`

func dataplaneBody(name string, labels map[string]string) string {
	b, _ := json.Marshal(labels)
	if labels == nil {
		b = []byte("{}")
	}
	return strings.NewReplacer("NAME", name, "LABELS", string(b)).Replace(dataplane)
}

func TestLifeOfAResource(t *testing.T) {
	w := newWorld(t, standalone)
	path := "/meshes/default/dataplanes/web-1"
	w.wantStatus(w.get(path), 404)
	created := w.put(path, dataplaneBody("web-1", map[string]string{"app": "web"}))
	w.wantStatus(created, 201)
	if strings.TrimSpace(created.Body) != "{}" || created.Header.Get(revisionHeader) == "" {
		t.Errorf("answer to create: %v %q", created.Header, created.Body)
	}
	got := w.get(path)
	w.wantStatus(got, 200)
	var doc map[string]any
	if err := json.Unmarshal([]byte(got.Body), &doc); err != nil {
		t.Fatal(err)
	}
	labels := doc["labels"].(map[string]any)
	for k, want := range map[string]string{
		"app": "web", "kuma.io/display-name": "web-1", "kuma.io/mesh": "default", "kuma.io/origin": "zone",
		"kuma.io/zone": "default", "kuma.io/env": "universal",
	} {
		if labels[k] != want {
			t.Errorf("label %s is %v", k, labels[k])
		}
	}
	if doc["kri"] != "kri_dp_default_default__web-1_" {
		t.Errorf("kri %v", doc["kri"])
	}
	before := w.revision()
	w.wantStatus(w.put(path, dataplaneBody("web-1", map[string]string{"app": "web"})), 200)
	if w.revision() != before {
		t.Error("writing the same again made a revision")
	}
	w.wantStatus(w.put(path, dataplaneBody("web-1", map[string]string{"app": "other"})), 200)
	if byKRI := w.get("/_kri/kri_dp_default_default__web-1_"); !strings.Contains(byKRI.Body, `"app": "other"`) {
		t.Error(byKRI.Body)
	}
	w.wantStatus(w.del(path), 200)
	w.wantStatus(w.del(path), 404)
	w.wantStatus(w.get(path), 404)
}

func TestReadYourWrites(t *testing.T) {
	w := newWorld(t, standalone)
	for i := range 200 {
		name := "web-" + string(rune('a'+i%26)) + string(rune('a'+i/26))
		w.wantStatus(w.put("/meshes/default/dataplanes/"+name, dataplaneBody(name, nil)), 201)
		w.wantStatus(w.get("/meshes/default/dataplanes/"+name), 200)
		if p := w.list("/meshes/default/dataplanes?size=1"); p.Total != i+1 {
			t.Fatalf("list has %d after %d writes", p.Total, i+1)
		}
	}
}

func TestWarningsReachTheCaller(t *testing.T) {
	w := newWorld(t, standalone)
	for k := range w.kinds.All() {
		if k.Type == kind.Dataplane {
			k.Warnings = func(o *resource.Object) []string { return []string{"mind " + o.Name} }
		}
	}
	a := w.put("/meshes/default/dataplanes/web", dataplaneBody("web", nil))
	if !strings.Contains(a.Body, `"mind web"`) {
		t.Error(a.Body)
	}
}

func TestStatusIsNotTakenFromTheBodyAndSurvives(t *testing.T) {
	w := newWorld(t, standalone)
	body := `{"type":"MeshService","mesh":"default","name":"web","spec":{"ports":[{"port":80}]},"status":{"vips":[{"ip":"10.0.0.1"}]}}`
	w.wantStatus(w.put("/meshes/default/meshservices/web", body), 201)
	if a := w.get("/meshes/default/meshservices/web"); strings.Contains(a.Body, "10.0.0.1") {
		t.Errorf("status of the body was stored: %s", a.Body)
	}
	o := w.view.Snapshot().Get(resource.ID{Type: kind.MeshService, Mesh: "default", Name: "web"})
	reported, err := o.Kind.New(o.Meta, o.Spec, &kind.MeshServiceStatus{VIPs: []kind.VIP{{IP: "241.0.0.7"}}})
	if err != nil {
		t.Fatal(err)
	}
	w.write(reported)
	w.wantStatus(w.put("/meshes/default/meshservices/web", strings.Replace(body, "80", "81", 1)), 200)
	if a := w.get("/meshes/default/meshservices/web"); !strings.Contains(a.Body, "241.0.0.7") || !strings.Contains(a.Body, "81") {
		t.Errorf("the status was lost: %s", a.Body)
	}
}

func TestMeshDefaultsAndCascade(t *testing.T) {
	w := newWorld(t, standalone, func(c *Config) {
		c.MeshDefaults = func(mesh *resource.Object) ([]*resource.Object, error) {
			k := allKinds().ByType(kind.Secret)
			o, err := k.New(resource.Meta{ID: resource.ID{Type: kind.Secret, Mesh: mesh.Name, Name: "key"}}, k.NewSpec(), nil)
			return []*resource.Object{o}, err
		}
	})
	before := w.revision()
	w.wantStatus(w.put("/meshes/demo", `{"type":"Mesh","name":"demo"}`), 201)
	if w.revision() != before+1 {
		t.Error("the mesh and its defaults are not one revision")
	}
	w.wantStatus(w.get("/meshes/demo/secrets/key"), 200)
	w.wantStatus(w.put("/meshes/demo/dataplanes/web", strings.ReplaceAll(dataplaneBody("web", nil), `"default"`, `"demo"`)), 201)

	refused := w.del("/meshes/demo")
	w.wantStatus(refused, 400)
	if got := fieldsOf(problemOf(t, refused)); !slices.Equal(got, []string{"mesh"}) {
		t.Errorf("fields %v", got)
	}
	w.write(w.object(kind.DataplaneInsight, "demo", "web", `{"type":"DataplaneInsight"}`))
	w.wantStatus(w.del("/meshes/demo/dataplanes/web"), 200)
	if n := w.view.Snapshot().Count(kind.DataplaneInsight, "demo"); n != 0 {
		t.Error("the insight of a deleted Dataplane stayed")
	}
	w.wantStatus(w.del("/meshes/demo"), 200)
	if n := w.view.Snapshot().Count(kind.Secret, "demo"); n != 0 {
		t.Error("resources of a deleted mesh stayed")
	}
	// A mesh that comes back is new.
	w.wantStatus(w.put("/meshes/demo", `{"type":"Mesh","name":"demo"}`), 201)
}

func TestUnsafeDelete(t *testing.T) {
	w := newWorld(t, standalone, func(c *Config) { c.UnsafeDelete = true })
	w.wantStatus(w.put("/meshes/default/dataplanes/web", dataplaneBody("web", nil)), 201)
	w.wantStatus(w.del("/meshes/default"), 200)
	if n := w.view.Snapshot().Count(kind.Dataplane, ""); n != 0 {
		t.Errorf("%d Dataplanes left", n)
	}
}

func TestZoneDelete(t *testing.T) {
	w := newWorld(t, global)
	w.wantStatus(w.put("/zones/west", `{"type":"Zone","name":"west"}`), 201)
	synced := w.object(kind.Dataplane, "default", "web-8h2", dataplaneBody("web-8h2", map[string]string{"kuma.io/zone": "west", "kuma.io/origin": "zone"}))
	online := w.object(kind.ZoneInsight, "", "west", `{"subscriptions":[{"connectTime":"2026-01-02T03:04:05Z"}]}`)
	w.write(synced, online)
	refused := w.del("/zones/west")
	w.wantStatus(refused, 400)
	if got := fieldsOf(problemOf(t, refused)); !slices.Equal(got, []string{"zone"}) {
		t.Errorf("fields %v", got)
	}
	w.write(w.object(kind.ZoneInsight, "", "west", `{"subscriptions":[{"connectTime":"2026-01-02T03:04:05Z","disconnectTime":"2026-01-02T03:05:05Z"}]}`))
	w.wantStatus(w.del("/zones/west"), 200)
	s := w.view.Snapshot()
	if s.Count(kind.Dataplane, "") != 0 || s.Count(kind.ZoneInsight, "") != 0 {
		t.Error("what came from the zone stayed")
	}
}

func TestPreconditions(t *testing.T) {
	w := newWorld(t, standalone)
	path, body := "/meshes/default/dataplanes/web", dataplaneBody("web", nil)
	w.wantStatus(w.do(request{method: "PUT", path: path, body: body, header: map[string]string{"If-Match": `"1"`}}), 412)
	w.wantStatus(w.do(request{method: "PUT", path: path, body: body, header: map[string]string{"If-None-Match": "*"}}), 201)
	w.wantStatus(w.do(request{method: "PUT", path: path, body: body, header: map[string]string{"If-None-Match": "*"}}), 412)
	etag := w.get(path).Header.Get("ETag")
	w.wantStatus(w.do(request{path: path, header: map[string]string{"If-None-Match": etag}}), 304)
	changed := dataplaneBody("web", map[string]string{"app": "x"})
	w.wantStatus(w.do(request{method: "PUT", path: path, body: changed, header: map[string]string{"If-Match": etag}}), 200)
	w.wantStatus(w.do(request{method: "PUT", path: path, body: body, header: map[string]string{"If-Match": etag}}), 412)
	w.wantStatus(w.do(request{method: "DELETE", path: path, header: map[string]string{"If-Match": etag}}), 412)
	w.wantStatus(w.do(request{method: "DELETE", path: path, header: map[string]string{"If-Match": w.get(path).Header.Get("ETag")}}), 200)
}

func TestMinRevision(t *testing.T) {
	w := newWorld(t, standalone)
	rev := w.put("/meshes/m2", `{"type":"Mesh","name":"m2"}`).Header.Get(revisionHeader)
	a := w.do(request{path: "/meshes", header: map[string]string{minRevisionHeader: rev}})
	w.wantStatus(a, 200)
	w.wantStatus(w.do(request{path: "/meshes", header: map[string]string{minRevisionHeader: "x"}}), 400)
}
