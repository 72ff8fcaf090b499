package rest

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// FuzzBody: whatever is sent, the answer is a success or a problem of the
// caller, never a failure of the server.
func FuzzBody(f *testing.F) {
	w := newWorld(f, standalone)
	f.Add(timeoutBody(`{"a":"b"}`), false)
	f.Add("type: MeshTimeout\nmesh: default\nname: t\nspec: {to: [{targetRef: {kind: Mesh}, default: {idleTimeout: 1s}}]}", true)
	f.Add(bomb(), true)
	f.Add(`{"type":null,"labels":{"a":null},"spec":{"to":[null]}}`, false)
	f.Add("&a [*a]", true)
	f.Add("? {a: b}\n: c", true)
	f.Fuzz(func(t *testing.T, body string, isYAML bool) {
		media := "application/json"
		if isYAML {
			media = "application/yaml"
		}
		for _, path := range []string{"/meshes/default/meshtimeouts/t", "/meshes/default/dataplanes/t", "/meshes/default/meshservices/t"} {
			req := httptest.NewRequest("PUT", "http://localhost"+path, strings.NewReader(body))
			req.RemoteAddr = "127.0.0.1:1"
			req.Header.Set("Content-Type", media)
			rec := httptest.NewRecorder()
			w.handler.ServeHTTP(rec, req)
			if rec.Code >= 500 {
				t.Errorf("%s: %d %s", path, rec.Code, rec.Body)
			}
		}
	})
}

// FuzzQuery: pages and filters of any query are answered or refused.
func FuzzQuery(f *testing.F) {
	w := newWorld(f, standalone)
	w.write(w.object(kind.Dataplane, "default", "web", dataplaneBody("web", map[string]string{"app": "web"})))
	for _, q := range []string{"size=10&offset=0", "filter[labels.a]=b", "tag=a:b&gateway=true", "filter[=x&filter[]=", "size=9999999999999999999", "offset=9223372036854775807&size=1000"} {
		f.Add(q)
	}
	f.Fuzz(func(t *testing.T, query string) {
		req := &http.Request{Method: "GET", URL: &url.URL{Path: "/dataplanes", RawQuery: query}, Host: "localhost", RemoteAddr: "127.0.0.1:1", Header: http.Header{}}
		rec := httptest.NewRecorder()
		w.handler.ServeHTTP(rec, req)
		if rec.Code != 200 && rec.Code != 400 {
			t.Errorf("%d %s", rec.Code, rec.Body)
		}
	})
}

// FuzzSelector: a list that is filtered by a label holds what has that label with
// that value and nothing else, whatever the two consist of.
func FuzzSelector(f *testing.F) {
	w := newWorld(f, standalone)
	labels := map[string]map[string]string{
		"web-1": {"app": "web", "example.com/team": "a"}, "web-2": {"app": "web", "example.com/team": "b.c"}, "db": {"app": "db", "empty": ""},
	}
	for name, l := range labels {
		w.write(w.object(kind.Dataplane, "default", name, dataplaneBody(name, l)))
	}
	for _, s := range [][2]string{{"app", "web"}, {"example.com/team", "b.c"}, {"empty", ""}, {"app]", "x"}, {"kuma.io/display-name", "db"}, {"a b&c=d", "%"}} {
		f.Add(s[0], s[1])
	}
	f.Fuzz(func(t *testing.T, key, value string) {
		q := url.Values{"filter[labels." + key + "]": {value}}
		req := &http.Request{Method: "GET", URL: &url.URL{Path: "/dataplanes", RawQuery: q.Encode()}, Host: "localhost", RemoteAddr: "127.0.0.1:1", Header: http.Header{}}
		rec := httptest.NewRecorder()
		w.handler.ServeHTTP(rec, req)
		if rec.Code == 400 && (key == "" || strings.Contains(key, "]")) {
			return // no key of a label
		}
		var list struct {
			Total int
			Items []struct {
				Name   string
				Labels map[string]string
			}
		}
		if err := json.Unmarshal(rec.Body.Bytes(), &list); err != nil || rec.Code != 200 {
			t.Fatalf("%q=%q: %d %s", key, value, rec.Code, rec.Body)
		}
		got := map[string]bool{}
		for _, item := range list.Items {
			got[item.Name] = true
		}
		for o := range w.view.Snapshot().List(kind.Dataplane, "") {
			if v, ok := o.Labels[key]; got[o.Name] != (ok && v == value) {
				t.Errorf("%q=%q: %s with labels %v in the list: %t", key, value, o.Name, o.Labels, got[o.Name])
			}
		}
		if list.Total != len(list.Items) {
			t.Errorf("total %d of %d", list.Total, len(list.Items))
		}
	})
}

// FuzzKRI: an identifier that parses is written the same again, unless its
// section has underscores, and looking up any text is safe.
func FuzzKRI(f *testing.F) {
	w := newWorld(f, standalone)
	for _, s := range []string{"kri_mt_default_east__timeout-all_", "kri_dp_____", "kri_bad", "kri_m____default_a_b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if kri, err := resource.ParseKRI(text); err == nil && strings.Count(text, "_") == 6 && kri.String() != text && !kri.IsZero() {
			t.Errorf("%q became %q", text, kri)
		}
		req := &http.Request{Method: "GET", URL: &url.URL{Path: "/_kri/" + text}, Host: "localhost", RemoteAddr: "127.0.0.1:1", Header: http.Header{}}
		rec := httptest.NewRecorder()
		w.handler.ServeHTTP(rec, req)
		if rec.Code >= 500 {
			t.Errorf("%d %s", rec.Code, rec.Body)
		}
	})
}
