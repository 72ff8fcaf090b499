package traffic_test

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/atoll-mesh/atoll/test/traffic"
)

// arrived is what the application saw of a request.
type arrived struct {
	App, Method, Path, Host string
	Header                  http.Header
}

func tell(app string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("x-app", app)
		w.Header().Add("x-many", "one")
		_ = json.NewEncoder(w).Encode(arrived{app, r.Method, r.URL.RequestURI(), r.Host, r.Header})
	}
}

// TestRoutes: every match takes what it says and nothing else, and every filter
// changes what it says.
func TestRoutes(t *testing.T) {
	t.Parallel()
	m := traffic.Start(t)
	m.Client(t)
	r := &router{Mesh: m}
	r.url = "http://" + m.Service(t, "old", "http", nil, traffic.Serve(t, tell("old")).Port)
	next := traffic.Serve(t, tell("next"))
	m.Service(t, "next", "http", nil, next.Port)
	t.Run("matches", r.matches)
	t.Run("order", r.order)
	t.Run("weights", r.weights)
	t.Run("headers", r.headers)
	t.Run("redirects", r.redirects)
	t.Run("rewrites", r.rewrites)
	t.Run("mirror", func(t *testing.T) { r.mirror(t, next) })
}

type router struct {
	*traffic.Mesh
	url string
}

const toNextApp = "{backendRefs: [{kind: MeshService, labels: {app: next}, port: 80}]}"

// apply routes requests to old.
func (r *router) apply(t *testing.T, rules ...string) {
	t.Helper()
	r.Apply(t, "type: MeshHTTPRoute\nname: route\nspec: {to: [{targetRef: {kind: MeshService, labels: {app: old}}, rules: ["+strings.Join(rules, ", ")+"]}]}")
}

func rule(match, conf string) string {
	return fmt.Sprintf("{matches: [%s], default: %s}", match, conf)
}

func (r *router) ask(t *testing.T, method, path string, headers ...string) (arrived, traffic.Reply) {
	t.Helper()
	got := traffic.Do(t, method, r.url+path, headers...)
	var a arrived
	_ = json.Unmarshal([]byte(got.Body), &a)
	if a.App == "" { // HEAD has no body
		a.App = got.Header.Get("x-app")
	}
	return a, got
}

func (r *router) matches(t *testing.T) {
	type request struct {
		method, path string
		headers      []string
	}
	get := func(path string, headers ...string) request { return request{"GET", path, headers} }
	for _, c := range []struct {
		match   string
		yes, no []request
	}{
		{"{path: {type: Exact, value: /a}}", []request{get("/a"), get("/a?q=1")}, []request{get("/a/"), get("/ab"), get("/")}},
		{"{path: {type: PathPrefix, value: /a}}", []request{get("/a"), get("/a/"), get("/a/b?q=1")}, []request{get("/ab"), get("/"), get("/A")}},
		{"{path: {type: RegularExpression, value: '/[a-c]+/\\d'}}", []request{get("/abc/1"), get("/a/1?q=1")}, []request{get("/abc/12"), get("/d/1"), get("/x/a/1")}},
		{"{headers: [{name: x-h, type: Exact, value: v}]}", []request{get("/", "X-H", "v")}, []request{get("/"), get("/", "x-h", "vv")}},
		{"{headers: [{name: x-h, value: v}]}", []request{get("/", "X-H", "v")}, []request{get("/"), get("/", "x-h", "vv")}},
		{"{headers: [{name: x-h, type: Present}]}", []request{get("/", "x-h", "v"), get("/", "x-h", "")}, []request{get("/")}},
		{"{headers: [{name: x-h, type: Absent}]}", []request{get("/")}, []request{get("/", "x-h", "v")}},
		{"{headers: [{name: x-h, type: Prefix, value: v}]}", []request{get("/", "x-h", "v"), get("/", "x-h", "vv")}, []request{get("/"), get("/", "x-h", "wv")}},
		{"{headers: [{name: x-h, type: RegularExpression, value: 'v\\d+'}]}", []request{get("/", "x-h", "v12")}, []request{get("/"), get("/", "x-h", "v12x")}},
		{"{headers: [{name: x-h, value: v}, {name: x-i, value: w}]}", []request{get("/", "x-h", "v", "x-i", "w")}, []request{get("/", "x-h", "v"), get("/", "x-i", "w")}},
		{"{queryParams: [{type: Exact, name: q, value: v}]}", []request{get("/?q=v"), get("/?a=b&q=v")}, []request{get("/"), get("/?q=vv"), get("/?r=v")}},
		{"{queryParams: [{type: RegularExpression, name: q, value: 'v\\d*'}]}", []request{get("/?q=v"), get("/?q=v12")}, []request{get("/"), get("/?q=w1")}},
		{"{path: {type: PathPrefix, value: /a}, method: PUT, headers: [{name: x-h, value: v}]}", []request{{"PUT", "/a/b", []string{"x-h", "v"}}},
			[]request{{"PUT", "/a/b", nil}, {"PUT", "/b", []string{"x-h", "v"}}, get("/a/b", "x-h", "v")}},
		{"{path: {type: Exact, value: /a}}, {path: {type: Exact, value: /b}}", []request{get("/a"), get("/b")}, []request{get("/c")}},
	} {
		r.apply(t, rule(c.match, toNextApp))
		for app, list := range map[string][]request{"next": c.yes, "old": c.no} {
			for _, q := range list {
				if a, _ := r.ask(t, q.method, q.path, q.headers...); a.App != app {
					t.Errorf("%s: %v goes to %q and not to %q", c.match, q, a.App, app)
				}
			}
		}
	}
	methods := []string{"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE", "CONNECT"}
	for _, method := range methods {
		r.apply(t, rule("{method: "+method+"}", toNextApp))
		for _, other := range methods[:8] { // CONNECT asks for a tunnel, which is not what is tested
			want := "old"
			if other == method {
				want = "next"
			}
			if a, _ := r.ask(t, other, "/"); a.App != want {
				t.Errorf("with a route for %s, %s goes to %q", method, other, a.App)
			}
		}
	}
}

// order: what asks more of a request goes before what asks less, wherever it is
// written; within that, what is written first.
func (r *router) order(t *testing.T) {
	mark := func(s string) string {
		return "{filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-mark, value: " + s + "}]}}]}"
	}
	r.apply(t,
		rule("{path: {type: PathPrefix, value: /}}", mark("all")),
		rule("{path: {type: RegularExpression, value: '/a.*'}}", mark("regex")),
		rule("{path: {type: PathPrefix, value: /a}}", mark("short")),
		rule("{path: {type: PathPrefix, value: /a/b}}", mark("long")),
		rule("{path: {type: Exact, value: /a/b/c}}", mark("exact")),
		rule("{path: {type: PathPrefix, value: /a/b}, method: POST}", mark("method")),
		rule("{path: {type: PathPrefix, value: /a/b}, headers: [{name: x-h, value: v}]}", mark("header")),
		rule("{path: {type: PathPrefix, value: /a/b}, queryParams: [{type: Exact, name: q, value: v}]}", mark("query")),
		rule("{path: {type: PathPrefix, value: /a/b}, queryParams: [{type: Exact, name: r, value: v}]}", mark("second")),
	)
	for _, c := range [][]string{
		{"GET", "/x", "all"}, {"GET", "/ax", "regex"}, {"GET", "/a/x", "short"}, {"GET", "/a/b/x", "long"}, {"GET", "/a/b/c", "exact"},
		{"POST", "/a/b/x", "method"}, {"GET", "/a/b/x?q=v", "query"}, {"GET", "/a/b/x?q=v&r=v", "query"}, {"GET", "/a/b/x?r=v", "second"},
	} {
		if _, got := r.ask(t, c[0], c[1]); got.Header.Get("x-mark") != c[2] {
			t.Errorf("%s %s is taken by %q and not by %q", c[0], c[1], got.Header.Get("x-mark"), c[2])
		}
	}
	if _, got := r.ask(t, "GET", "/a/b/x?q=v", "x-h", "v"); got.Header.Get("x-mark") != "header" {
		t.Errorf("a header goes before a parameter, but %q took it", got.Header.Get("x-mark"))
	}
}

func (r *router) weights(t *testing.T) {
	const requests = 400
	count := func(refs string) map[string]int {
		r.apply(t, rule("{path: {type: PathPrefix, value: /}}", "{backendRefs: ["+refs+"]}"))
		out := map[string]int{}
		for range requests {
			a, got := r.ask(t, "GET", "/")
			out[fmt.Sprint(a.App, got.Status)]++
		}
		return out
	}
	old, next, nowhere := "{kind: MeshService, labels: {app: old}, port: 80, weight: %d}", "{kind: MeshService, labels: {app: next}, port: 80, weight: %d}", "{kind: MeshService, labels: {app: nowhere}, port: 80, weight: %d}"
	for _, c := range []struct {
		refs string
		want map[string]int // percent
	}{
		{fmt.Sprintf(old+", "+next, 90, 10), map[string]int{"old200": 90, "next200": 10}},
		{fmt.Sprintf(old+", "+next, 0, 7), map[string]int{"next200": 100}},
		{fmt.Sprintf(old+", "+nowhere, 3, 1), map[string]int{"old200": 75, "500": 25}},
		{fmt.Sprintf(old, 0), map[string]int{"500": 100}},
		{fmt.Sprintf(old+", "+next, 4294967295, 4294967295), map[string]int{"old200": 50, "next200": 50}},
	} {
		got := count(c.refs)
		for name, percent := range c.want {
			// Five standard deviations.
			p := float64(percent) / 100
			slack := int(5*20*math.Sqrt(p*(1-p))) + 1
			if n := got[name]; n < requests*percent/100-slack || n > requests*percent/100+slack {
				t.Errorf("%s: %v, want %d%% %s", c.refs, got, percent, name)
			}
		}
		if len(got) != len(c.want) {
			t.Errorf("%s: %v, want %v", c.refs, got, c.want)
		}
	}
}

func (r *router) headers(t *testing.T) {
	r.apply(t, rule("{path: {type: PathPrefix, value: /}}", `{filters: [
		{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-set, value: new}], add: [{name: x-add, value: more}], remove: [x-remove]}},
		{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-app, value: hidden}], add: [{name: x-many, value: two}], remove: [date]}}]}`))
	a, got := r.ask(t, "GET", "/", "x-set", "sent", "x-add", "sent", "x-remove", "sent")
	for name, want := range map[string][]string{"X-Set": {"new"}, "X-Add": {"sent", "more"}, "X-Remove": nil} {
		if have := a.Header[name]; !slices.Equal(have, want) {
			t.Errorf("request: %s is %q, want %q", name, have, want)
		}
	}
	for name, want := range map[string][]string{"X-App": {"hidden"}, "X-Many": {"one", "two"}} {
		if have := got.Header[name]; !slices.Equal(have, want) {
			t.Errorf("response: %s is %q, want %q", name, have, want)
		}
	}

	// What Envoy would refuse, or expand.
	r.apply(t, rule("{path: {type: PathPrefix, value: /}}", `{filters: [
		{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: host, value: other.test}, {name: x-set, value: '100% %B%'}, {name: x-empty, value: ''}]}},
		{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: host, value: ignored}, {name: x-app, value: '50%, %RESPONSE_CODE%'}]}}]}`))
	a, got = r.ask(t, "GET", "/", "x-set", "sent", "x-empty", "sent")
	if a.Host != "other.test" {
		t.Errorf("request: host is %q", a.Host)
	}
	for name, want := range map[string][]string{"X-Set": {"100% %B%"}, "X-Empty": {""}} {
		if have := a.Header[name]; !slices.Equal(have, want) {
			t.Errorf("request: %s is %q, want %q", name, have, want)
		}
	}
	if have := got.Header.Get("x-app"); have != "50%, 200" {
		t.Errorf("response: x-app is %q", have)
	}
	r.apply(t, rule("{path: {type: PathPrefix, value: /}}", "{filters: [{type: RequestHeaderModifier, requestHeaderModifier: {remove: [host]}}]}"))
	if a, _ = r.ask(t, "GET", "/"); a.Host == "other.test" || a.Host == "" {
		t.Errorf("a host that is removed is %q, want what was sent", a.Host)
	}
}

func (r *router) redirects(t *testing.T) {
	host := strings.TrimPrefix(r.url, "http://")
	for _, c := range []struct {
		conf, path, location string
		status               int
	}{
		{"{scheme: https}", "/a/b?q=1", "https://" + host + "/a/b?q=1", 302},
		{"{scheme: http, hostname: new.test}", "/a/b", "http://new.test/a/b", 302},
		{"{hostname: new.test, port: 8080}", "/a/b", "http://new.test:8080/a/b", 302},
		{"{path: {type: ReplaceFullPath, replaceFullPath: /z}}", "/a/b?q=1", "http://" + host + "/z?q=1", 302},
		{"{path: {type: ReplacePrefixMatch, replacePrefixMatch: /z}}", "/a/b?q=1", "http://" + host + "/z/b?q=1", 302},
		{"{path: {type: ReplacePrefixMatch, replacePrefixMatch: /z}}", "/a", "http://" + host + "/z", 302},
		{"{path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}", "/a/b", "http://" + host + "/b", 302},
		{"{hostname: new.test, port: 80, statusCode: 301}", "/a", "http://new.test/a", 301},
		{"{hostname: new.test, port: 80, statusCode: 302}", "/a", "http://new.test/a", 302},
		{"{hostname: new.test, port: 80, statusCode: 303}", "/a", "http://new.test/a", 303},
		{"{hostname: new.test, port: 80, statusCode: 307}", "/a", "http://new.test/a", 307},
		{"{hostname: new.test, port: 80, statusCode: 308}", "/a", "http://new.test/a", 308},
	} {
		r.apply(t, rule("{path: {type: PathPrefix, value: /a}}", "{filters: [{type: RequestRedirect, requestRedirect: "+c.conf+"}]}"))
		_, got := r.ask(t, "GET", c.path)
		location := got.Header.Get("location")
		if strings.HasPrefix(location, "/") { // of the same host
			location = r.url + location
		}
		location = strings.Replace(location, "new.test:80/", "new.test/", 1)
		if got.Status != c.status || location != c.location {
			t.Errorf("%s: %d to %q, want %d to %q", c.conf, got.Status, location, c.status, c.location)
		}
	}
}

func (r *router) rewrites(t *testing.T) {
	for _, c := range []struct{ match, conf, path, want string }{
		{"{path: {type: PathPrefix, value: /v1}}", "{path: {type: ReplacePrefixMatch, replacePrefixMatch: /v2}}", "/v1/x?q=1", "/v2/x?q=1"},
		{"{path: {type: PathPrefix, value: /v1}}", "{path: {type: ReplacePrefixMatch, replacePrefixMatch: /v2}}", "/v1", "/v2"},
		{"{path: {type: PathPrefix, value: /v1}}", "{path: {type: ReplacePrefixMatch, replacePrefixMatch: /v2}}", "/v1?q=1", "/v2?q=1"},
		{"{path: {type: PathPrefix, value: /v1}}", "{path: {type: ReplacePrefixMatch, replacePrefixMatch: /v2}}", "/v1/", "/v2/"},
		{"{path: {type: PathPrefix, value: /v1}}", "{path: {type: ReplacePrefixMatch, replacePrefixMatch: /v2/}}", "/v1/x", "/v2/x"},
		{"{path: {type: PathPrefix, value: /v1}}", "{path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}", "/v1/x", "/x"},
		{"{path: {type: PathPrefix, value: /v1}}", "{path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}", "/v1", "/"},
		{"{path: {type: PathPrefix, value: /v1}}", "{path: {type: ReplacePrefixMatch, replacePrefixMatch: ''}}", "/v1/x", "/x"},
		{"{path: {type: PathPrefix, value: /}}", "{path: {type: ReplacePrefixMatch, replacePrefixMatch: /v2}}", "/x?q=1", "/v2/x?q=1"},
		{"{path: {type: PathPrefix, value: /}}", "{path: {type: ReplacePrefixMatch, replacePrefixMatch: /v2}}", "/", "/v2/"},
		{"{path: {type: PathPrefix, value: /v1}}", "{path: {type: ReplaceFullPath, replaceFullPath: /all}}", "/v1/x?q=1", "/all?q=1"},
		{"{path: {type: Exact, value: /v1}}", "{path: {type: ReplaceFullPath, replaceFullPath: '/a\\1'}}", "/v1", "/a%5C1"}, // no group
		{"{path: {type: RegularExpression, value: '/v.*'}}", "{path: {type: ReplaceFullPath, replaceFullPath: /all}}", "/v1/x?q=1", "/all?q=1"},
	} {
		r.apply(t, rule(c.match, "{filters: [{type: URLRewrite, urlRewrite: "+c.conf+"}]}"))
		if a, got := r.ask(t, "GET", c.path); a.Path != c.want {
			t.Errorf("%s %s: %s becomes %q and not %q (%d)", c.match, c.conf, c.path, a.Path, c.want, got.Status)
		}
	}
	r.apply(t, rule("{path: {type: PathPrefix, value: /}}", "{filters: [{type: URLRewrite, urlRewrite: {hostname: other.test}}]}"))
	if a, _ := r.ask(t, "GET", "/x"); a.Host != "other.test" || a.Path != "/x" {
		t.Errorf("another host: %q %q", a.Host, a.Path)
	}
}

func (r *router) mirror(t *testing.T, next *traffic.Server) {
	for _, c := range []struct {
		percentage string
		low, high  int64
	}{{"", 200, 200}, {"percentage: 50, ", 50, 150}, {`percentage: "0.5", `, 0, 15}, {"percentage: 0, ", 0, 0}} {
		r.apply(t, rule("{path: {type: PathPrefix, value: /}}", "{filters: [{type: RequestMirror, requestMirror: {"+c.percentage+"backendRef: {kind: MeshService, labels: {app: next}, port: 80}}}]}"))
		before := next.Count.Load()
		for range 200 {
			if a, got := r.ask(t, "GET", "/"); a.App != "old" || got.Status != 200 {
				t.Fatalf("the answer is %d from %q", got.Status, a.App)
			}
		}
		copies := func() int64 { return next.Count.Load() - before }
		if c.low > 0 {
			traffic.Until(t, "copies do not arrive", func() bool { return copies() >= c.low })
		}
		if copies() > c.high {
			t.Errorf("%s: %d copies of 200 requests", c.percentage, copies())
		}
	}
}
