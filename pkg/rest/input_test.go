package rest

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/atoll-mesh/atoll/pkg/config"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

const timeout = `{"type":"MeshTimeout","mesh":"default","name":"t","labels":LABELS,"spec":{"to":[{"targetRef":{"kind":"Mesh"},"default":{"connectionTimeout":"1s"}}]}}`

func timeoutBody(labels string) string { return strings.Replace(timeout, "LABELS", labels, 1) }

// Every rule for what a request may say about a resource, by the field that its
// violation names.
func TestRequestValidation(t *testing.T) {
	long := strings.Repeat("a", 64)
	origin, zone, mesh, role := `labels["kuma.io/origin"]`, `labels["kuma.io/zone"]`, `labels["kuma.io/mesh"]`, `labels["kuma.io/policy-role"]`
	for _, tc := range []struct {
		name string
		site resource.Site
		path string // empty: the timeout
		body string
		want []string // none: accepted
	}{
		{"plain", standalone, "", timeoutBody(`{}`), nil},
		{"other name", standalone, "/meshes/default/meshtimeouts/u", timeoutBody(`{}`), []string{"name"}},
		{"no name", standalone, "", strings.Replace(timeoutBody(`{}`), `"name":"t",`, "", 1), []string{""}},
		{"no RFC 1123 name", standalone, "/meshes/default/meshtimeouts/A_b", strings.Replace(timeoutBody(`{}`), `"t"`, `"A_b"`, 1), []string{"name"}},
		{"name too long", standalone, "/meshes/default/meshtimeouts/" + strings.Repeat("a", 254), strings.Replace(timeoutBody(`{}`), `"t"`, `"`+strings.Repeat("a", 254)+`"`, 1), []string{"name"}},
		{"name too long with zone", federated, "/meshes/default/meshtimeouts/" + strings.Repeat("a", 250), strings.Replace(timeoutBody(`{"kuma.io/origin":"zone"}`), `"t"`, `"`+strings.Repeat("a", 250)+`"`, 1), []string{"name"}},
		{"other mesh", standalone, "", strings.Replace(timeoutBody(`{}`), `"mesh":"default"`, `"mesh":"other"`, 1), []string{"mesh"}},
		{"mesh left out of a policy is the default one", standalone, "", strings.Replace(timeoutBody(`{}`), `"mesh":"default",`, "", 1), nil},
		{"mesh left out of a Dataplane", standalone, "/meshes/default/dataplanes/web", strings.Replace(dataplaneBody("web", nil), `"mesh":"default",`, "", 1), []string{"mesh"}},
		{"other type of policy", standalone, "", strings.Replace(timeoutBody(`{}`), "MeshTimeout", "MeshRetry", 1), []string{""}},
		{"other type of Dataplane", standalone, "/meshes/default/dataplanes/web", strings.Replace(dataplaneBody("web", nil), `"Dataplane"`, `"Mesh"`, 1), []string{"type"}},
		{"mesh of a global kind means nothing", standalone, "/globalsecrets/s", `{"type":"GlobalSecret","mesh":"default","name":"s","data":"aGk="}`, nil},
		{"spec first, then the rest", standalone, "", `{"type":"MeshTimeout","mesh":"other","name":"x","spec":{}}`, []string{"spec"}},

		{"unknown origin", standalone, "", timeoutBody(`{"kuma.io/origin":"moon"}`), []string{origin}},
		{"origin zone in a zone", standalone, "", timeoutBody(`{"kuma.io/origin":"zone"}`), nil},
		{"origin zone at the global", global, "", timeoutBody(`{"kuma.io/origin":"zone"}`), []string{origin}},
		{"origin global at the global", global, "", timeoutBody(`{"kuma.io/origin":"global"}`), nil},
		{"no origin in a federated zone", federated, "", timeoutBody(`{}`), []string{origin}},
		{"origin global in a federated zone", federated, "", timeoutBody(`{"kuma.io/origin":"global"}`), []string{origin}},
		{"origin zone in a federated zone", federated, "", timeoutBody(`{"kuma.io/origin":"zone"}`), nil},
		{"no origin of a Dataplane in a federated zone", federated, "/meshes/default/dataplanes/web", dataplaneBody("web", nil), nil},

		{"other zone", standalone, "", timeoutBody(`{"kuma.io/zone":"west"}`), []string{zone}},
		{"own zone", standalone, "", timeoutBody(`{"kuma.io/zone":"default"}`), nil},
		{"other zone with origin global", standalone, "", timeoutBody(`{"kuma.io/zone":"west","kuma.io/origin":"global"}`), nil},
		{"other mesh label", standalone, "", timeoutBody(`{"kuma.io/mesh":"other"}`), []string{mesh}},
		{"role consumer", standalone, "", timeoutBody(`{"kuma.io/policy-role":"consumer"}`), []string{role}},
		{"role system", standalone, "", timeoutBody(`{"kuma.io/policy-role":"system"}`), nil},
		{"label value", standalone, "", timeoutBody(`{"team":"not valid!!"}`), []string{`labels["team"]`}},
		{"label value too long", standalone, "", timeoutBody(`{"team":"` + long + `"}`), []string{`labels["team"]`}},
		{"label key", standalone, "", timeoutBody(`{"not a key":"x"}`), []string{`labels["not a key"]`}},
		{"label key prefix", standalone, "", timeoutBody(`{"Ex_ample/key":"x"}`), []string{`labels["Ex_ample/key"]`}},
		{"all at once", federated, "/meshes/default/meshtimeouts/u", timeoutBody(`{"kuma.io/zone":"west","team":"!"}`), []string{origin, zone, `labels["team"]`, "name"}},

		{"workload in a zone", standalone, "/meshes/default/dataplanes/web", dataplaneBody("web", map[string]string{"kuma.io/workload": "w-1"}), nil},
		{"workload that is no DNS label", standalone, "/meshes/default/dataplanes/web", dataplaneBody("web", map[string]string{"kuma.io/workload": "1w"}), []string{`labels["kuma.io/workload"]`}},

		{"field types", standalone, "", `{"type":1,"name":"t","labels":{"a":1},"spec":{"to":"x"}}`, []string{"", "spec.to"}},
		{"no type and no spec", standalone, "", `{"name":"t"}`, []string{""}},
		{"name of a Mesh", standalone, "/meshes/1.x", `{"type":"Mesh","name":"1.x"}`, []string{"name"}},
		{"Dataplane without networking", standalone, "/meshes/default/dataplanes/web", `{"type":"Dataplane","mesh":"default","name":"web"}`, []string{"networking"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t, tc.site)
			if tc.path == "" {
				tc.path = "/meshes/default/meshtimeouts/t"
			}
			before := w.revision()
			a := w.put(tc.path, tc.body)
			if tc.want == nil {
				w.wantStatus(a, 201)
				return
			}
			w.wantStatus(a, 400)
			p := problemOf(t, a)
			if got := fieldsOf(p); !slices.Equal(got, tc.want) {
				t.Errorf("fields %q, want %q: %s", got, tc.want, a.Body)
			}
			if p.Detail != "Resource is not valid" {
				t.Errorf("detail %q", p.Detail)
			}
			if w.revision() != before {
				t.Error("something was written")
			}
		})
	}
}

// Values that cannot be read make a body a bad request as a whole, as tools know
// it; the text says which and why.
func TestUndecodableValues(t *testing.T) {
	w := newWorld(t, standalone)
	for _, tc := range []struct{ path, body, field string }{
		{"meshtimeouts/t", `"type":"MeshTimeout","spec":{"to":[{"targetRef":{"kind":"Mesh"},"default":{"idleTimeout":"1 s"}}]}`, "spec.to[0].default.idleTimeout"},
		{"meshcircuitbreakers/t", `"type":"MeshCircuitBreaker","spec":{"to":[{"targetRef":{"kind":"Mesh"},"default":{"connectionLimits":{"maxRetries":-1}}}]}`, "spec.to[0].default.connectionLimits.maxRetries"},
		{"meshretries/t", `"type":"MeshRetry","spec":{"to":[{"targetRef":{"kind":"Mesh"},"default":{"http":{"numRetries":4294967296}}}]}`, "spec.to[0].default.http.numRetries"},
		{"meshservices/t", `"type":"MeshService","spec":{"ports":[{"port":2147483648}]}`, "spec.ports[0].port"},
		{"meshtraces/t", `"type":"MeshTrace","spec":{"default":{"backends":[],"sampling":{"overall":2147483648}}}`, "spec.default.sampling.overall"},
		{"dataplanes/t", `"type":"Dataplane","networking":{"address":"1.1.1.1","gateway":{"type":"OTHER"}}`, "networking.gateway.type"},
		{"dataplanes/t", `"type":"Dataplane","networking":{"address":"1.1.1.1","inbound":[{"port":-1}]}`, "networking.inbound[0].port"},
		{"dataplanes/t", `"type":"Dataplane","networking":{"address":1}`, "networking.address"},
	} {
		a := w.put("/meshes/default/"+tc.path, `{"name":"t","mesh":"default",`+tc.body+`}`)
		w.wantStatus(a, 400)
		if p := problemOf(t, a); p.Title != "Bad Request" || len(p.InvalidParameters) > 0 || !strings.Contains(p.Detail, tc.field+": ") ||
			len(p.Unreadable) != 1 || p.Unreadable[0].Field != tc.field {
			t.Errorf("%s: %s", tc.field, a.Body)
		}
	}
	a := w.put("/meshes/default/dataplanes/t", `{"type":"Dataplane","name":"t","mesh":"default","networking":{"address":"1.1.1.1","inbound":[{"port":"80"}]}}`)
	w.wantStatus(a, 201) // protobuf takes numbers that are strings
}

func TestOriginValidationCanBeTurnedOff(t *testing.T) {
	w := newWorld(t, federated, func(c *Config) { c.DisableOriginValidation = true })
	w.wantStatus(w.put("/meshes/default/meshtimeouts/t", timeoutBody(`{}`)), 201)
}

func TestZoneLabelIsImmutable(t *testing.T) {
	w := newWorld(t, global)
	w.write(w.object("MeshTimeout", "default", "t", timeoutBody(`{"kuma.io/zone":"west","kuma.io/origin":"zone"}`)))
	for _, labels := range []string{`{}`, `{"kuma.io/zone":"east"}`} {
		a := w.put("/meshes/default/meshtimeouts/t", timeoutBody(labels))
		w.wantStatus(a, 400)
		if got := fieldsOf(problemOf(t, a)); !slices.Equal(got, []string{`labels["kuma.io/zone"]`}) {
			t.Errorf("%s: %v", labels, got)
		}
	}
}

func TestDeleteOfForeignResources(t *testing.T) {
	for _, tc := range []struct {
		site   resource.Site
		origin string
		status int
	}{
		{global, "zone", 400}, {global, "global", 200}, {federated, "global", 400}, {federated, "zone", 200}, {standalone, "global", 200},
	} {
		w := newWorld(t, tc.site)
		w.write(w.object("MeshTimeout", "default", "t", timeoutBody(`{"kuma.io/origin":"`+tc.origin+`"}`)))
		a := w.del("/meshes/default/meshtimeouts/t")
		w.wantStatus(a, tc.status)
		if tc.status == 400 && !slices.Equal(fieldsOf(problemOf(t, a)), []string{`labels["kuma.io/origin"]`}) {
			t.Errorf("%+v: %s", tc, a.Body)
		}
	}
}

// Who may write what: a 405 means that the resource belongs to somebody else.
func TestReadOnlyMatrix(t *testing.T) {
	const ok, no = 404, 405           // DELETE of what is not there tells without writing
	want := map[resource.Type][3]int{ // global, federated zone, other zone
		kind.Mesh: {ok, no, ok}, kind.Zone: {ok, ok, ok},
		kind.Secret: {ok, ok, ok}, kind.GlobalSecret: {ok, ok, ok},
		kind.Dataplane: {no, ok, ok}, kind.MeshService: {no, ok, ok}, kind.Workload: {no, ok, ok},
		"MeshTimeout": {ok, ok, ok}, "MeshHTTPRoute": {ok, ok, ok},
		kind.DataplaneInsight: {no, no, no}, kind.ZoneInsight: {no, no, no},
	}
	for i, site := range []resource.Site{global, federated, standalone} {
		w := newWorld(t, site)
		locked := newWorld(t, site, func(c *Config) { c.ReadOnly = true })
		for k := range w.kinds.All() {
			statuses, known := want[k.Type]
			if k.Internal || !known {
				continue
			}
			path := "/" + k.Plural + "/nope"
			if k.Scope == resource.ScopeMesh {
				path = "/meshes/default" + path
			}
			if a := w.del(path); a.Status != statuses[i] {
				t.Errorf("%s at %+v: %d, want %d", k.Type, site, a.Status, statuses[i])
			}
			if a := w.put(path, "{"); (a.Status == no) != (statuses[i] == no) {
				t.Errorf("PUT %s at %+v: %d", k.Type, site, a.Status)
			}
			a := locked.del(path)
			locked.wantStatus(a, 405)
			problemOf(t, a)
		}
	}
}

func TestInputThatIsNoResource(t *testing.T) {
	w := newWorld(t, standalone, func(c *Config) { c.MaxBodyBytes = 4096 })
	path := "/meshes/default/meshtimeouts/t"
	before := w.revision()
	for _, tc := range []struct {
		name, contentType, body string
		status                  int
		detail                  string
	}{
		{"broken JSON", "application/json", "{\n \"a\": 1,\n nope\n}", 400, "line 3, column 2"},
		{"cut JSON", "application/json", `{"type":`, 400, "unexpected end of JSON input"},
		{"JSON list", "application/json", `[1]`, 400, "expected an object, got array"},
		{"JSON null", "application/json", `null`, 400, "null"},
		{"two JSON documents", "application/json", `{} {}`, 400, "something follows"},
		{"trailing brace", "application/json", `{}}`, 400, "something follows"},
		{"empty", "application/json", "", 400, "unexpected end of JSON input"},
		{"broken YAML", "application/yaml", "type: MeshTimeout\nspec: [\n", 400, "line"},
		{"YAML with a key twice", "application/yaml", "type: a\ntype: b\n", 400, "already"},
		{"two YAML documents", "application/yaml", "type: a\n---\ntype: b\n", 400, "more than one"},
		{"empty YAML", "application/yaml", "", 400, "empty"},
		{"YAML list", "application/yaml", "- a\n", 400, "expected an object"},
		{"YAML anchors that explode", "application/yaml", bomb(), 400, ""},
		{"no content type", "", "{}", 415, "Content-Type"},
		{"text", "text/plain", "{}", 415, "Content-Type"},
		{"form", "application/x-www-form-urlencoded", "a=b", 415, "Content-Type"},
		{"too large", "application/json", `{"a":"` + strings.Repeat("x", 5000) + `"}`, 413, "4096 bytes"},
		{"too large YAML", "application/yaml", "a: " + strings.Repeat("x", 5000), 413, "4096 bytes"},
		{"deep", "application/json", strings.Repeat(`{"a":`, 500) + "1" + strings.Repeat("}", 500), 400, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := w.do(request{method: "PUT", path: path, body: tc.body, header: map[string]string{"Content-Type": tc.contentType}})
			w.wantStatus(a, tc.status)
			if p := problemOf(t, a); !strings.Contains(p.Detail, tc.detail) {
				t.Errorf("detail %q lacks %q", p.Detail, tc.detail)
			}
		})
	}
	for path, status := range map[string]int{
		"/meshes/nope/meshtimeouts/t":       404, // mesh
		"/meshes/default/meshnonsense/t":    404, // kind
		"/meshes/default/meshtimeouts/t/x":  404,
		"/meshes/default/config/t":          404, // internal
		"/meshes/default/meshtimeouts":      405,
		"/meshtimeouts/t":                   404, // a kind of mesh scope
		"/meshes/default/dataplanes/x/blob": 405, // where proxies are asked
	} {
		a := w.put(path, timeoutBody("{}"))
		w.wantStatus(a, status)
		problemOf(t, a)
	}
	if w.revision() != before {
		t.Error("something was written")
	}
}

// bomb is a small document that would be a huge one.
func bomb() string {
	var b strings.Builder
	b.WriteString("a0: &a0 [x,x,x,x,x,x,x,x,x]\n")
	for i := 1; i < 9; i++ {
		fmt.Fprintf(&b, "a%d: &a%d [%s*a%d]\n", i, i, strings.Repeat(fmt.Sprintf("*a%d,", i-1), 8), i-1)
	}
	return b.String()
}

func TestYAMLBody(t *testing.T) {
	w := newWorld(t, standalone)
	body := "# a comment\ntype: MeshTimeout\nmesh: default\nname: t\nlabels:\n  team: a\nspec:\n  to:\n  - targetRef: {kind: Mesh}\n    default: {connectionTimeout: 3s}\n"
	for _, media := range []string{"application/yaml", "application/yaml; charset=utf-8", "application/x-yaml", "text/yaml"} {
		a := w.do(request{method: "PUT", path: "/meshes/default/meshtimeouts/t", body: body, header: map[string]string{"Content-Type": media}})
		if a.Status != 201 && a.Status != 200 {
			t.Errorf("%s: %d %s", media, a.Status, a.Body)
		}
	}
	if a := w.get("/meshes/default/meshtimeouts/t"); !strings.Contains(a.Body, `"connectionTimeout": "3s"`) {
		t.Error(a.Body)
	}
}

func TestPathsAndMethods(t *testing.T) {
	w := newWorld(t, standalone)
	for _, tc := range []struct {
		method, path string
		status       int
		title        string
	}{
		{"GET", "/nothing", 404, "Not Found"},
		{"POST", "/meshes", 405, "Method Not Allowed"},
		{"PATCH", "/meshes/default", 405, "Method Not Allowed"},
		{"DELETE", "/config", 405, "Method Not Allowed"},
		{"GET", "/tokens/user", 405, "Method Not Allowed"},
		{"GET", "/meshes/nope", 404, titleGet},
		{"GET", "/meshes/nope/dataplanes", 404, titleMesh},
		{"GET", "/meshes/nope/dataplanes/x", 404, titleMesh},
		{"DELETE", "/meshes/nope/dataplanes/x", 404, titleMesh},
		{"GET", "/meshes/default/meshtimeouts/nope", 404, titleGet},
		{"DELETE", "/meshes/default/meshtimeouts/nope", 404, titleDelete},
		{"DELETE", "/meshes/nope", 404, titleDelete},
	} {
		a := w.do(request{method: tc.method, path: tc.path})
		w.wantStatus(a, tc.status)
		if p := problemOf(t, a); p.Title != tc.title {
			t.Errorf("%s %s: title %q", tc.method, tc.path, p.Title)
		}
	}
	if allow := w.do(request{method: "POST", path: "/meshes/default"}).Header.Get("Allow"); allow != "GET, PUT, DELETE" {
		t.Errorf("Allow: %q", allow)
	}
	if a := w.do(request{method: "HEAD", path: "/meshes"}); a.Status != 200 {
		t.Errorf("HEAD: %d", a.Status)
	}
	for accept, status := range map[string]int{
		"application/json": 200, "*/*": 200, "text/html, */*;q=0.1": 200, "application/*": 200, "": 200,
		"text/html": 406, "application/xml, */*;q=0": 406,
	} {
		w.wantStatus(w.do(request{path: "/meshes", header: map[string]string{"Accept": accept}}), status)
	}
}

func TestPagingAndFilters(t *testing.T) {
	w := newWorld(t, standalone)
	w.wantStatus(w.put("/meshes/alpha", `{"type":"Mesh","name":"alpha"}`), 201)
	var rows []*resource.Object
	for i := range 25 {
		name := fmt.Sprintf("web-%02d", i)
		labels := map[string]string{"app": "web", "even": fmt.Sprint(i%2 == 0), "kuma.io/service": fmt.Sprintf("svc-%d", i%3)}
		rows = append(rows, w.object(kind.Dataplane, "default", name, dataplaneBody(name, labels)))
	}
	gateway := `{"type":"Dataplane","mesh":"alpha","name":"kong","networking":{"address":"192.0.2.2","gateway":{"tags":{"kuma.io/service":"kong_1"}}}}`
	w.write(append(rows, w.object(kind.Dataplane, "alpha", "kong", gateway))...)

	var seen []string
	path := "/meshes/default/dataplanes?size=10&name=web"
	for range 3 {
		p := w.list(path)
		if p.Total != 25 {
			t.Errorf("total %d", p.Total)
		}
		for _, i := range p.Items {
			seen = append(seen, i.Name)
		}
		if p.Next == nil {
			break
		}
		next, ok := strings.CutPrefix(*p.Next, "http://localhost:5681")
		if !ok || strings.Contains(*p.Next, `\u0026`) {
			t.Fatalf("next %q", *p.Next)
		}
		path = next
	}
	if len(seen) != 25 || !slices.IsSorted(seen) {
		t.Errorf("pages gave %v", seen)
	}

	for path, want := range map[string]struct {
		total int
		first string
	}{
		"/dataplanes":                     {26, "kong"}, // by mesh, then name
		"/dataplanes?size=1&offset=25":    {26, "web-24"},
		"/dataplanes?offset=1000":         {26, ""},
		"/meshes/default/dataplanes":      {25, "web-00"},
		"/meshes/alpha/dataplanes":        {1, "kong"},
		"/dataplanes?name=b-1":            {10, "web-10"},
		"/dataplanes?name=WEB":            {0, ""},
		"/dataplanes?filter[labels.app]=": {0, ""},
		"/meshes/default/dataplanes?filter[labels.even]=true&filter[labels.app]=web":       {13, "web-00"},
		"/meshes/default/dataplanes?filter[labels.even]=true&filter[labels.even]=false":    {12, "web-01"},
		"/meshes/default/dataplanes?filter%5Blabels.kuma.io/service%5D=svc-2&name=web-2":   {2, "web-20"},
		"/dataplanes?tag=kuma.io/service:svc":                                              {25, "web-00"},
		"/dataplanes?tag=kuma.io/service:*":                                                {26, "kong"},
		"/dataplanes?tag=kuma.io/service:svc-1&tag=even:true":                              {4, "web-04"},
		"/dataplanes?tag=malformed":                                                        {26, "kong"},
		"/dataplanes?gateway=true":                                                         {1, "kong"},
		"/dataplanes?gateway=delegated":                                                    {1, "kong"},
		"/dataplanes?gateway=false":                                                        {25, "web-00"},
		"/dataplanes?unknown=x":                                                            {26, "kong"},
		"/meshes?tag=ignored:x&gateway=ignored":                                            {2, "alpha"},
		"/meshes/default/dataplanes?size=1000&filter[labels.kuma.io/service]=svc-0&size=1": {9, "web-00"},
	} {
		p := w.list(path)
		first := ""
		if len(p.Items) > 0 {
			first = p.Items[0].Name
		}
		if p.Total != want.total || first != want.first {
			t.Errorf("%s: %d, first %q, want %+v", path, p.Total, first, want)
		}
	}
	if a := w.get("/meshes/alpha/meshtimeouts"); !strings.Contains(a.Body, `"items": []`) || !strings.Contains(a.Body, `"next": null`) {
		t.Error(a.Body)
	}

	for path, want := range map[string]string{
		"/meshes?size=0": "size", "/meshes?size=1001": "size", "/meshes?size=x": "size", "/meshes?size=-1": "size",
		"/meshes/default/dataplanes?gateway=maybe":           "/meshes/{mesh}/dataplanes.gateway",
		"/meshes/default/dataplanes?filter[name]=x":          "/meshes/{mesh}/dataplanes.filter[name]",
		"/meshes/default/dataplanes?filter[labels.a][eq]=x":  "/meshes/{mesh}/dataplanes.filter[labels.a][eq]",
		"/meshes/default/dataplanes/_overview?filter[name=x": "/meshes/{mesh}/dataplanes/_overview.filter[name",
	} {
		a := w.get(path)
		w.wantStatus(a, 400)
		if got := fieldsOf(problemOf(t, a)); !slices.Equal(got, []string{want}) {
			t.Errorf("%s: fields %q", path, got)
		}
	}
	for _, path := range []string{"/meshes?offset=x", "/meshes?offset=-1"} {
		a := w.get(path)
		w.wantStatus(a, 400)
		problemOf(t, a)
	}
}

func TestNextFollowsTheConfiguredAddress(t *testing.T) {
	w := newWorld(t, standalone, func(c *Config) { c.RootURL, c.BasePath = "https://mesh.example/cp/", "/cp" })
	w.wantStatus(w.put("/cp/meshes/m2", `{"type":"Mesh","name":"m2"}`), 201)
	w.wantStatus(w.get("/meshes"), 404)
	w.wantStatus(w.get("/cp"), 200)
	w.wantStatus(w.do(request{path: "/cp/", remote: true, header: map[string]string{"Authorization": "Bearer x"}}), 200)
	w.wantStatus(w.do(request{path: "/cp/meshes", remote: true}), 403)
	p := w.list("/cp/meshes?size=1")
	if p.Next == nil || *p.Next != "https://mesh.example/cp/meshes?offset=1&size=1" {
		t.Errorf("next %v", p.Next)
	}
}

// The settings' limit is the one that the design names.
func TestDefaultLimit(t *testing.T) {
	if config.Default().APIServer.MaxBodyBytes != defaultMaxBody {
		t.Error("two defaults for the size of bodies")
	}
}
