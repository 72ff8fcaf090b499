package rest

import (
	"net/http"
	"strings"
	"testing"

	"github.com/atoll-mesh/atoll/pkg/auth"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// openToAll are endpoints that answer everybody who is authenticated. Those that
// have something of resources show only what the caller may read; the test that
// says so stands beside them.
var openToAll = map[string]string{
	"/{$}": "", "/config": "", "/who-am-i": "", "/_resources": "", "/policies": "", openAPIPath: "",
	"/global-insight": "TestRolesInInsights", "/global-insights": "TestRolesInInsights",
	"/history": "TestRolesInHistory", "/history/{revision}": "TestRolesInHistory", "/history/{revision}/revert": "TestRolesInHistory",
	"/events":        "TestRolesInEvents",
	"/failover/gaps": "TestRolesInInspection", "/failover/simulate": "TestRolesInInspection",
}

// pathKind is the kind that a path is about.
func (w *world) pathKind(pattern string) *resource.Kind {
	parts := strings.Split(strings.Trim(pattern, "/"), "/")
	segment := parts[0]
	switch {
	case segment == "_kri":
		return w.kinds.ByType("MeshTimeout")
	case segment == "meshes" && len(parts) > 2:
		segment = parts[2]
	}
	if segment == "_explain" { // the way of a request begins at a proxy
		segment = "dataplanes"
	}
	segment, _, _ = strings.Cut(segment, "+")
	return w.kinds.ByPath(segment)
}

// plain tells whether a path is the list or the item of a kind, which
// TestRolesOverHTTP and TestRolesInLists are about.
func plain(k *resource.Kind, pattern string) bool {
	for _, p := range append([]string{k.Plural}, k.Aliases...) {
		for _, prefix := range []string{"/", "/meshes/{mesh}/"} {
			if pattern == prefix+p || pattern == prefix+p+"/{name}" {
				return true
			}
		}
	}
	return false
}

// Every endpoint that is served, in a zone or in a global, has a rule about who
// may use it, and keeps it, for every role, in the own and in another mesh and
// zone. An endpoint without a rule fails.
func TestEveryEndpointHasARule(t *testing.T) {
	t.Parallel()
	cases, done := 0, map[string]bool{} // by method and pattern
	for _, site := range []resource.Site{{Zone: "own", Env: resource.EnvUniversal}, {Global: true, Env: resource.EnvUniversal}} {
		w, _ := everywhereAt(t, site)
		for _, s := range w.api.served {
			k := w.pathKind(s.pattern)
			if s.pattern == "/events" || k != nil && plain(k, s.pattern) { // events do not end
				continue
			}
			for method := range s.methods {
				if done[method+s.pattern] {
					continue
				}
				asked := map[string]bool{}
				for _, at := range []spot{{"own", "own"}, {"other", "other"}, {"own", "other"}} {
					var o *resource.Object
					name := ""
					if k != nil {
						o = w.placed(k, at)
						name = o.Name
					}
					path := strings.NewReplacer(
						"{$}", "", "{mesh}", at.mesh, "{name}", name, "{revision}", "1", "{question}", "stats",
						"{kri}", "kri_mt_"+at.mesh+"_"+at.zone+"__"+name+"_", "{route}", "kri_mhttpr_own___a_",
					).Replace(s.pattern)
					if asked[path] && method == http.MethodGet {
						continue
					}
					asked[path] = true
					for _, user := range users() {
						u := auth.User{Name: user, Groups: []string{auth.GroupAuthenticated}}
						r := request{method: method, path: path + "?dryRun=true"}
						if method == http.MethodPost {
							r.body = `{"mesh":"` + at.mesh + `","zone":"` + at.zone + `","name":"a","validFor":"1h"}`
						}
						got := w.as(user, r).Status
						if got != http.StatusMethodNotAllowed { // else it is not for this site
							done[method+s.pattern] = true
						}
						cases++
						if ok, want := w.keeps(u, method, s.pattern, at, o, got); !ok {
							t.Errorf("%s: %s %s (%s): %d, want %s", user, method, path, s.pattern, got, want)
						}
					}
				}
			}
		}
	}
	t.Logf("%d cases", cases)
	if cases < 1000 {
		t.Errorf("only %d cases", cases)
	}
}

// keeps tells whether the status of an answer is as the rules have it.
func (w *world) keeps(u auth.User, method, pattern string, at spot, o *resource.Object, got int) (ok bool, want string) {
	if _, open := openToAll[pattern]; open {
		return got != 403 || method == http.MethodPost, "no refusal"
	}
	refused := func(allowed bool) (bool, string) {
		if allowed {
			return got != 403, "no refusal"
		}
		return got == 403 || got == 405, "403"
	}
	switch pattern {
	case "/tokens/dataplane":
		return refused(w.api.Access.DPToken(u, &at.mesh) == nil)
	case "/tokens/zone":
		return refused(w.api.Access.ZoneToken(u, &at.zone) == nil)
	case "/tokens/user":
		return refused(w.api.Access.UserToken(u) == nil)
	case "/zone/_adopt":
		return refused(w.api.Access.IsAdmin(u))
	}
	if o == nil {
		return false, "a rule: say in openToAll or in keeps who may use it"
	}
	this, named := auth.TargetOf(o.Kind, &o.Meta), auth.TargetNamed(o.Kind, o.Mesh, o.Name)
	switch {
	case pattern == "/_kri/{kri}": // names the zone, too
		named = this
	case !strings.Contains(pattern, "{name}"): // a list
		mesh := ""
		if strings.Contains(pattern, "{mesh}") {
			mesh = o.Mesh
		}
		this = auth.TargetIn(o.Kind, mesh)
		named = this
	}
	verb := auth.Read
	if method != http.MethodGet {
		verb = auth.Write
	}
	may := func(v auth.Verb, t auth.Target) bool { return w.api.Access.Object(u, v, t) == nil }
	switch {
	case got == 405: // not possible here, for anybody
		return true, ""
	case !may(verb, named):
		return got == 403, "403"
	case !may(auth.Read, this):
		return got == 404 || got == 400 || verb == auth.Write && got == 403, "404"
	case !may(verb, this):
		return got == 403 || got == 400 || got == 404, "403"
	}
	return got != 403, "no refusal"
}
