package rest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/atoll-mesh/atoll/pkg/auth"
)

// listening serves the API on a socket; callers are on localhost.
func (w *world) listening() string {
	srv := httptest.NewServer(w.handler)
	w.t.Cleanup(srv.Close)
	return srv.URL
}

// openEvents connects and returns the lines that arrive.
func (w *world) openEvents(ctx context.Context, url, lastID string) *bufio.Scanner {
	w.t.Helper()
	req, err := http.NewRequestWithContext(ctx, "GET", url, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	if lastID != "" {
		req.Header.Set("Last-Event-ID", lastID)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { res.Body.Close() })
	if res.StatusCode != 200 || res.Header.Get("Content-Type") != "text/event-stream" {
		w.t.Fatalf("%d %v", res.StatusCode, res.Header)
	}
	return bufio.NewScanner(res.Body)
}

// nextEvent reads one event; it ends with the test's deadline if none comes.
func nextEvent(t testing.TB, s *bufio.Scanner) string {
	t.Helper()
	var lines []string
	for s.Scan() {
		if s.Text() == "" {
			return strings.Join(lines, "\n")
		}
		lines = append(lines, s.Text())
	}
	t.Fatalf("the stream ended: %v %q", s.Err(), lines)
	return ""
}

func TestEvents(t *testing.T) {
	w := newWorld(t, standalone)
	url := w.listening() + "/events"
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	all := w.openEvents(ctx, url, "")
	if got := nextEvent(t, all); got != "event: position\nid: 1\ndata: {\"revision\":1}" {
		t.Errorf("%q", got)
	}
	secrets := w.openEvents(ctx, url+"?kind=Secret", "")
	nextEvent(t, secrets)
	w.wantStatus(w.put(pathT1, timeoutDoc(1)), 201)
	w.wantStatus(w.put("/meshes/default/secrets/s1", secretBody("s1", "c2VjcmV0dmFsdWU=")), 201)
	w.wantStatus(w.del(pathT1), 200)
	for i, want := range []string{`"operation":"create","type":"MeshTimeout"`, `"operation":"create","type":"Secret"`, `"operation":"delete","type":"MeshTimeout"`} {
		got := nextEvent(t, all)
		if !strings.Contains(got, want) || !strings.Contains(got, "id: "+string(rune('2'+i))+"\n") || strings.Contains(got, "c2Vj") {
			t.Errorf("%q, want %s", got, want)
		}
	}
	if got := nextEvent(t, secrets); !strings.Contains(got, `"name":"s1"`) {
		t.Errorf("%q", got)
	}
	// Who comes again goes on where it was.
	again := w.openEvents(ctx, url, "2")
	nextEvent(t, again)
	if got := nextEvent(t, again); !strings.Contains(got, "id: 3") {
		t.Errorf("%q", got)
	}
	if err := w.store.Compact(t.Context(), 3); err != nil {
		t.Fatal(err)
	}
	w.wantStatus(w.do(request{path: "/events", header: map[string]string{"Last-Event-ID": "1"}}), 410)
	w.wantStatus(w.do(request{path: "/events", header: map[string]string{"Last-Event-ID": "77"}}), 400)
}

func TestDryRun(t *testing.T) {
	w := newWorld(t, standalone)
	before := w.revision()
	var p previewBody
	preview := func(a answer) {
		t.Helper()
		w.wantStatus(a, 200)
		p = previewBody{}
		if err := json.Unmarshal([]byte(a.Body), &p); err != nil {
			t.Fatal(err)
		}
	}
	preview(w.put(pathT1+"?dryRun=true", timeoutDoc(1)))
	if p.Operation != "create" || len(p.Diff) == 0 || w.revision() != before {
		t.Errorf("%+v, revision %d", p, w.revision())
	}
	w.wantStatus(w.put(pathT1, timeoutDoc(1)), 201)
	before = w.revision()
	preview(w.put(pathT1+"?dryRun=true", timeoutDoc(1)))
	if p.Operation != "none" || p.Affects.Proxies.Names == nil {
		t.Errorf("%+v", p)
	}
	preview(w.put(pathT1+"?dryRun=true", timeoutDoc(2)))
	if p.Operation != "update" || len(p.Diff) != 1 {
		t.Errorf("%+v", p)
	}
	preview(w.del(pathT1 + "?dryRun=true"))
	if p.Operation != "delete" {
		t.Errorf("%+v", p)
	}
	a := w.put("/meshes/default/secrets/s1?dryRun=true", secretBody("s1", "c2VjcmV0dmFsdWU="))
	if preview(a); strings.Contains(a.Body, "c2Vj") {
		t.Errorf("%s", a.Body)
	}
	w.wantStatus(w.del("/meshes/default/meshtimeouts/none?dryRun=true"), 404)
	w.wantStatus(w.put(pathT1+"?dryRun=perhaps", timeoutDoc(2)), 400)
	if w.revision() != before {
		t.Error("something was written")
	}
}

// What roles hide is hidden on every path.
func TestRolesOnEveryPath(t *testing.T) {
	w := newWorld(t, standalone, func(c *Config) {
		c.Access.Roles = []auth.Binding{{Role: auth.MeshOperator, Rule: auth.Rule{Users: []string{"joe"}}, Meshes: []string{"default"}}}
	})
	w.withKeys()
	w.wantStatus(w.put("/meshes/m2", `{"type":"Mesh","name":"m2"}`), 201)
	other := strings.Replace(timeoutDoc(1), `"mesh":"default"`, `"mesh":"m2"`, 1)
	w.wantStatus(w.put(pathT1, timeoutDoc(1)), 201)
	w.wantStatus(w.put("/meshes/m2/meshtimeouts/t1", other), 201)
	head := w.revision()
	joe, eve := w.userToken("joe"), w.userToken("eve")
	for _, tc := range []struct {
		method, path, body string
		status             int
		has, lacks         string
	}{
		{"GET", "/meshes", "", 200, `"total": 1`, "m2"},
		{"GET", "/meshtimeouts", "", 200, `"total": 1`, "m2"},
		{"GET", "/meshes/m2", "", 403, "", ""},
		{"GET", "/meshes/m2/meshtimeouts", "", 403, "", ""},
		{"GET", "/meshes/m2/meshtimeouts/t1", "", 403, "", ""},
		{"GET", "/meshes/nope/meshtimeouts", "", 403, "", ""},
		{"GET", "/meshtimeouts?at=4", "", 200, "", "m2"},
		{"GET", "/mesh-insights", "", 200, "", "m2"},
		{"GET", "/global-insight", "", 200, "", ""},
		{"GET", "/history", "", 200, "default", "m2"},
		{"GET", "/history?kind=GlobalSecret", "", 200, `"items": []`, ""},
		{"PUT", "/meshes/m2/meshtimeouts/t1", other, 403, "", ""},
		{"DELETE", "/meshes/m2/meshtimeouts/t1", "", 403, "", ""},
		{"DELETE", "/meshes/m2/meshtimeouts/t1?dryRun=true", "", 403, "", ""},
		{"PUT", "/meshes/default", `{"type":"Mesh","name":"default"}`, 403, "", ""},
		{"PUT", pathT1, timeoutDoc(2), 200, "", ""},
		{"POST", "/tokens/dataplane", `{"mesh":"default"}`, 200, "", ""},
		{"POST", "/tokens/dataplane", `{"mesh":"m2"}`, 403, "", ""},
		{"GET", "/secrets", "", 403, "", ""},
	} {
		a := w.do(request{method: tc.method, path: tc.path, body: tc.body, remote: true, header: joe})
		if a.Status != tc.status || !strings.Contains(a.Body, tc.has) || tc.lacks != "" && strings.Contains(a.Body, tc.lacks) {
			t.Errorf("%s %s: %d %s", tc.method, tc.path, a.Status, a.Body)
		}
		if tc.status != 403 && !strings.HasPrefix(tc.path, "/global-insight") && !strings.HasPrefix(tc.path, "/history") {
			w.wantStatus(w.do(request{method: tc.method, path: tc.path, body: tc.body, remote: true, header: eve}), 403)
		}
	}
	a := w.do(request{path: "/history/" + strconv.FormatUint(uint64(head), 10), remote: true, header: joe})
	w.wantStatus(a, 404)
	a = w.do(request{method: "POST", path: "/history/" + strconv.FormatUint(uint64(head), 10) + "/revert", remote: true, header: joe})
	if a.Status < 400 {
		t.Errorf("reverted what is not theirs: %s", a.Body)
	}
}

func TestAuditLog(t *testing.T) {
	var out bytes.Buffer
	w := newWorld(t, standalone, func(c *Config) { c.Audit = slog.New(slog.NewJSONHandler(&out, nil)) })
	w.withKeys()
	joe := w.userToken("joe")
	w.get("/meshes") // reading is not noted
	w.put(pathT1, timeoutDoc(1))
	w.put("/meshes/default/secrets/s1", secretBody("s1", "c2VjcmV0dmFsdWU="))
	w.do(request{path: "/secrets", remote: true, header: joe})
	w.do(request{path: "/meshes", remote: true, header: map[string]string{"Authorization": "Bearer garbage"}})
	token := w.do(request{method: "POST", path: "/tokens/user", body: `{"name":"x","groups":["g"],"validFor":"1h"}`})
	w.do(request{method: "DELETE", path: "/meshes/nope"})
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	wants := []string{
		`"outcome":"done","status":201,"method":"PUT","path":"/meshes/default/meshtimeouts/t1"`,
		`"path":"/meshes/default/secrets/s1"`,
		`"outcome":"denied","status":403,"method":"GET","path":"/secrets"`,
		`"outcome":"denied","status":401`,
		`"token":"user","name":"x","tokenGroups":["g"]`,
		`"outcome":"failed","status":404,"method":"DELETE"`,
	}
	if len(lines) != len(wants) {
		t.Fatalf("%d lines: %s", len(lines), out.String())
	}
	for i, want := range wants {
		if !strings.Contains(lines[i], want) {
			t.Errorf("line %d: %s, want %s", i, lines[i], want)
		}
	}
	if !strings.Contains(lines[2], `"user":"joe"`) {
		t.Errorf("who: %s", lines[2])
	}
	if strings.Contains(out.String(), "c2VjcmV0") || strings.Contains(out.String(), token.Body) {
		t.Error("the audit log holds a secret")
	}
}
