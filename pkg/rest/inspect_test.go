package rest

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// inspectable is a zone with two proxies, a service and policies about them.
func inspectable(t *testing.T) *world {
	w := newWorld(t, standalone, inspecting(standalone))
	own := `"labels":{"kuma.io/origin":"zone","app":"%s"}`
	for _, app := range []string{"web", "api"} {
		w.write(w.object(kind.Dataplane, "default", app+"-1",
			fmt.Sprintf(`{"type":"Dataplane",`+own+`,"networking":{"address":"10.0.0.1","inbound":[{"port":8080,"name":"http","protocol":"http"}]}}`, app)))
	}
	w.write(w.object(kind.DataplaneInsight, "default", "web-1", `{"subscriptions":[{"connectTime":"2026-01-02T03:04:05Z"}]}`))
	w.write(w.object(kind.MeshService, "default", "api", `{"labels":{"kuma.io/origin":"zone"},"spec":{"selector":{"dataplaneLabels":{"matchLabels":{"app":"api"}}},"ports":[{"port":80,"name":"http","targetPort":8080,"appProtocol":"http"}]}}`))
	policy := func(t resource.Type, name, labels, spec string) {
		w.write(w.object(t, "default", name, `{"labels":{"kuma.io/origin":"zone"`+labels+`},"spec":`+spec+`}`))
	}
	policy("MeshTimeout", "all", "", `{"to":[{"targetRef":{"kind":"Mesh"},"default":{"http":{"requestTimeout":"9s"}}}]}`)
	policy("MeshTimeout", "web", "", `{"targetRef":{"kind":"Dataplane","labels":{"app":"web"}},"to":[{"targetRef":{"kind":"MeshHTTPRoute","labels":{"kuma.io/display-name":"split"}},"default":{"http":{"requestTimeout":"7s"}}}]}`)
	policy("MeshTimeout", "in", "", `{"targetRef":{"kind":"Dataplane","labels":{"app":"web"},"sectionName":"http"},"rules":[{"default":{"connectionTimeout":"4s"}}]}`)
	policy("MeshTimeout", "trial", `,"kuma.io/effect":"shadow"`, `{"targetRef":{"kind":"Mesh"},"rules":[{"default":{"idleTimeout":"5m"}}]}`)
	policy("MeshHTTPRoute", "split", "", `{"to":[{"targetRef":{"kind":"MeshService","labels":{"kuma.io/display-name":"api"}},"rules":[{"matches":[{"path":{"type":"PathPrefix","value":"/"}}],"default":{}}]}]}`)
	return w
}

// decoded is the answer to a GET as plain JSON.
func (w *world) decoded(path string) any {
	w.t.Helper()
	a := w.get(path)
	w.wantStatus(a, 200)
	var v any
	if err := json.Unmarshal([]byte(a.Body), &v); err != nil {
		w.t.Fatal(err)
	}
	return v
}

// at follows members and indexes into a document.
func at(v any, path ...any) any {
	for _, p := range path {
		switch p := p.(type) {
		case string:
			m, _ := v.(map[string]any)
			v = m[p]
		case int:
			list, _ := v.([]any)
			if p >= len(list) {
				return nil
			}
			v = list[p]
		}
	}
	return v
}

const webProxy = "/meshes/default/dataplanes/web-1/"

func TestRulesOfAProxy(t *testing.T) {
	w := inspectable(t)
	v := w.decoded(webProxy + "_rules")
	same := func(want any, path ...any) {
		t.Helper()
		if got := at(v, path...); got != want {
			t.Errorf("%v: %v, want %v", path, got, want)
		}
	}
	same("web-1", "resource", "name")
	same("9Zuf5Tg79OuZcQITwBbQykxAk2u4fRKrwYn3//AL4Yo=", "httpMatches", 0, "hash")
	same("MeshHTTPRoute", "rules", 0, "type")
	same("api", "rules", 0, "toResourceRules", 0, "resourceMeta", "name")
	same("MeshTimeout", "rules", 1, "type")
	same("default", "rules", 1, "toResourceRules", 0, "resourceMeta", "name")
	same("9s", "rules", 1, "toResourceRules", 0, "conf", 0, "http", "requestTimeout")
	same("split", "rules", 1, "toResourceRules", 1, "resourceMeta", "name")
	same("http", "rules", 1, "inboundRules", 0, "inbound", "name")
	same(nil, "rules", 1, "inboundRules", 0, "inbound", "tags")
	same("4s", "rules", 1, "inboundRules", 0, "rules", 0, "conf", 0, "connectionTimeout")
	same("in", "rules", 1, "inboundRules", 0, "rules", 0, "origin", 0, "resourceMeta", "name")
	if rules := at(v, "rules", 1, "inboundRules", 0, "rules").([]any); len(rules) != 1 {
		t.Errorf("a policy for show only is among the rules: %v", rules)
	}
	if got := at(v, "rules", 1, "toResourceRules", 0, "fields"); got != nil {
		t.Errorf("fields that nobody asked for: %v", got)
	}
	v = w.decoded(webProxy + "_rules?include=fields")
	same("http.requestTimeout", "rules", 1, "toResourceRules", 0, "fields", 0, "path")
	same("9s", "rules", 1, "toResourceRules", 0, "fields", 0, "value")
	same("kri_mt_default___all_", "rules", 1, "toResourceRules", 0, "fields", 0, "policy")
	same(0.0, "rules", 1, "toResourceRules", 0, "fields", 0, "ruleIndex")
	w.wantStatus(w.get(webProxy+"_rules?include=all"), 400)
}

func TestPoliciesOfRoutes(t *testing.T) {
	w := inspectable(t)
	const outbound = webProxy + "_outbounds/kri_msvc_default___api_http/"
	v := w.decoded(outbound + "_routes")
	if got := at(v, "routes", 0, "rules", 0, "kri"); got != "kri_mhttpr_default___split_" {
		t.Errorf("the route is %v in %v", got, v)
	}
	v = w.decoded(outbound + "_routes/kri_mhttpr_default___split_/_policies")
	if got := at(v, "policies", 0, "conf", 0, "http", "requestTimeout"); got != "7s" {
		t.Errorf("the timeout of the route is %v in %v", got, v)
	}
	v = w.decoded(outbound + "_policies")
	if got := at(v, "policies", 1, "conf", 0, "http", "requestTimeout"); got != "9s" {
		t.Errorf("the timeout of the service is %v in %v", got, v)
	}
}

func TestConfigInShadow(t *testing.T) {
	w := inspectable(t)
	if d := at(w.decoded(webProxy+"_config?include=diff"), "diff").([]any); len(d) != 0 {
		t.Errorf("without shadow there is a difference: %v", d)
	}
	v := w.decoded(webProxy + "_config?shadow=true&include=diff")
	found := false
	for _, op := range at(v, "diff").([]any) {
		path := at(op, "path").(string)
		found = found || strings.Contains(path, "self_inbound_dp_http") && strings.HasSuffix(path, "/idleTimeout") && at(op, "value") == "300s"
	}
	if !found {
		t.Errorf("the idle timeout is not in the difference: %v", at(v, "diff"))
	}
	for path, status := range map[string]int{
		"_config?shadow=perhaps":                            400,
		"_config?shadow=&include=":                          200,
		"_config?include=everything":                        400,
		"_inbounds/kri_dp_default___web-1_none/_policies":   404,
		"_inbounds/none/_policies":                          400,
		"_outbounds/kri_msvc_default___none_http/_policies": 404,
		"_outbounds/kri_msvc_default___api_none/_policies":  404,
		"_outbounds/kri_mt_default___all_/_policies":        404,
		"none": 404,
	} {
		w.wantStatus(w.get(webProxy+path), status)
	}
	w.wantStatus(w.get("/meshes/default/dataplanes/api-1/_config"), 404) // never connected
	w.wantStatus(w.get("/meshes/default/dataplanes/none/_rules"), 404)
	w.wantStatus(w.get("/meshes/none/dataplanes/web-1/_rules"), 404)
}

func TestFromPoliciesToProxies(t *testing.T) {
	w := inspectable(t)
	for path, want := range map[string]string{
		"meshtimeouts/all/_resources/dataplanes":        "api-1 web-1",
		"meshtimeouts/web/_resources/dataplanes":        "web-1",
		"meshtimeouts/web/-resources/dataplanes":        "web-1",
		"meshtimeouts/trial/_resources/dataplanes":      "api-1 web-1",
		"meshtimeouts/all/_resources/dataplanes?name=a": "api-1",
		"meshservices/api/_dataplanes":                  "api-1",
	} {
		var names []string
		for _, item := range at(w.decoded("/meshes/default/"+path), "items").([]any) {
			names = append(names, at(item, "name").(string))
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
	v := w.decoded("/meshes/default/meshtimeouts/all/_resources/dataplanes?size=1")
	if at(v, "total") != 2.0 || !strings.Contains(fmt.Sprint(at(v, "next")), "offset=1") {
		t.Errorf("a page of one: %v", v)
	}
	v = w.decoded("/meshes/default/meshtimeouts/web/dataplanes")
	if at(v, "items", 0, "dataplane", "name") != "web-1" || at(v, "items", 0, "attachments", 0, "type") != "dataplane" {
		t.Errorf("attachments: %v", v)
	}
}

func TestMeshInsightsFollowChanges(t *testing.T) {
	w := inspectable(t)
	first := w.decoded("/mesh-insights/default")
	if at(first, "dataplanes", "total") != 2.0 || at(first, "dataplanes", "online") != 1.0 || at(first, "dataplanes", "offline") != 1.0 {
		t.Errorf("dataplanes: %v", at(first, "dataplanes"))
	}
	// What does not concern the mesh changes nothing, not even the time.
	w.write(w.object(kind.Zone, "", "other", `{"enabled":true}`))
	if again := w.decoded("/mesh-insights/default"); at(again, "modificationTime") != at(first, "modificationTime") {
		t.Error("an insight that is the same has another time")
	}
	w.write(w.object(kind.Mesh, "", "second", `{"type":"Mesh"}`))
	if v := w.decoded("/mesh-insights"); at(v, "total") != 2.0 || at(v, "items", 1, "name") != "second" {
		t.Errorf("insights: %v", v)
	}
	w.wantStatus(w.put("/mesh-insights/default", `{"type":"MeshInsight","name":"default"}`), 405)
}

func TestPatchesOfDocuments(t *testing.T) {
	for _, tc := range []struct{ from, to, patch string }{
		{`{"a":1}`, `{"a":1}`, ``},
		{`{"a":1,"b":2}`, `{"a":2,"c/~":3}`, `remove /b; add /a 2; add /c~1~0 3`},
		{`{"l":[{"x":1},{"y":1}]}`, `{"l":[{"x":1},{"y":2}]}`, `add /l/1/y 2`},
		{`{"l":[1,2]}`, `{"l":[1,3]}`, `add /l [1 3]`},
		{`{"l":[1]}`, `{"l":[1,2]}`, `add /l [1 2]`},
		{`{"l":[{"x":[1]}]}`, `{"l":[{"x":[2]}]}`, `add /l/0/x [2]`},
	} {
		ops, err := jsonPatch(json.RawMessage(tc.from), json.RawMessage(tc.to))
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, op := range ops {
			text := op.Op + " " + op.Path
			if op.Op == "add" {
				text += fmt.Sprintf(" %v", op.Value)
			}
			got = append(got, text)
		}
		if s := strings.Join(got, "; "); s != tc.patch {
			t.Errorf("%s to %s: %q, want %q", tc.from, tc.to, s, tc.patch)
		}
	}
}

func TestExplain(t *testing.T) {
	w := inspectable(t)
	v := w.decoded("/meshes/default/_explain?from=web-1&to=none")
	if at(v, "broken") != "name" || at(v, "ok") != false || at(v, "steps", 0, "state") == "broken" {
		t.Errorf("the way to nothing: %v", v)
	}
	w.wantStatus(w.get("/meshes/default/_explain?from=web-1"), 400)
	w.wantStatus(w.get("/meshes/none/_explain?from=web-1&to=none"), 404)
}

// TestEffectOfAPolicy asks what a policy would change in Envoys before it is
// written.
func TestEffectOfAPolicy(t *testing.T) {
	w := inspectable(t)
	ask := func(method, path, body string) any {
		t.Helper()
		a := w.do(request{method: method, path: path, body: body})
		w.wantStatus(a, 200)
		var v any
		if err := json.Unmarshal([]byte(a.Body), &v); err != nil {
			t.Fatal(err)
		}
		return v
	}
	v := ask("PUT", "/meshes/default/meshtimeouts/in?dryRun=true",
		`{"type":"MeshTimeout","mesh":"default","name":"in","labels":{"kuma.io/origin":"zone"},"spec":{"targetRef":{"kind":"Dataplane","labels":{"app":"web"},"sectionName":"http"},"rules":[{"default":{"connectionTimeout":"5s"}}]}}`)
	group := at(v, "envoy", "groups", 0)
	if at(v, "envoy", "changed") != 1.0 || at(group, "proxies", "names", 0) != "default/web-1" || at(group, "changes", 0, "type") != "cds" || at(group, "changes", 0, "operation") != "change" {
		t.Errorf("the effect is %v", at(v, "envoy"))
	}
	if diff, _ := at(group, "changes", 0, "diff").(string); !strings.Contains(diff, `-  "connectTimeout": "4s"`) || !strings.Contains(diff, `+  "connectTimeout": "5s"`) {
		t.Errorf("the difference is %s", diff)
	}
	v = ask("DELETE", "/meshes/default/meshtimeouts/all?dryRun=true", "")
	if at(v, "operation") != "delete" || at(v, "envoy", "compared") == 0.0 {
		t.Errorf("deleting: %v", v)
	}
	if v := w.decoded("/meshes/default/meshtimeouts/in"); at(v, "spec", "rules", 0, "default", "connectionTimeout") != "4s" {
		t.Errorf("a dry run changed the policy: %v", v)
	}
}

// The rules of a proxy carry what its policies are warned about, also of those
// that say nothing for it.
func TestRulesWarn(t *testing.T) {
	w := inspectable(t)
	warnings := func() map[string]any {
		out := map[string]any{}
		for _, r := range at(w.decoded("/meshes/default/dataplanes/web-1/_rules"), "rules").([]any) {
			if list := at(r, "warnings").([]any); len(list) > 0 {
				out[at(r, "type").(string)] = list[0]
			}
		}
		return out
	}
	if got := warnings(); len(got) != 0 {
		t.Errorf("%v", got)
	}
	w.write(w.object("MeshRateLimit", "default", "slow", `{"spec":{"targetRef":{"kind":"Dataplane"},"rules":[{"default":{"local":{"http":{"requestRate":{"num":1,"interval":"1s"},"onRateLimit":{"status":301}}}}}]}}`))
	w.write(w.object("MeshPassthrough", "default", "out", `{"spec":{"default":{"passthroughMode":"None"}}}`))
	got := warnings()
	for kind, want := range map[string]string{"MeshRateLimit": "slow: spec.rules[0].default.local.http.onRateLimit.status: 301", "MeshPassthrough": "out: it has no effect"} {
		if text, _ := got[kind].(string); !strings.HasPrefix(text, want) {
			t.Errorf("%s: %q", kind, text)
		}
	}
	w.write(w.object(kind.Dataplane, "default", "web-1", `{"labels":{"app":"web"},"networking":{"address":"10.0.0.1","inbound":[{"port":8080,"name":"http"}],"transparentProxying":{"redirectPortInbound":15006,"redirectPortOutbound":15001}}}`))
	if got := warnings(); got["MeshPassthrough"] != nil {
		t.Errorf("of a redirected proxy: %v", got)
	}
}
