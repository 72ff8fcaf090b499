package e2e

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/atoll-mesh/atoll/test/cluster"
	"github.com/atoll-mesh/atoll/test/cluster/clustertest"
)

// answer is what the API says to a request.
type answer struct {
	Status     int
	Revision   string
	Title      string
	Detail     string
	Parameters []struct{ Field, Reason string } `json:"invalid_parameters"`
	text       string
}

func send(t *testing.T, method, url, contentType, body string) *answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	a := &answer{}
	if err := json.Unmarshal(text, a); err != nil {
		t.Fatalf("%s %s: %s: the answer is no JSON: %v\n%s", method, url, resp.Status, err, text)
	}
	a.Status, a.Revision, a.text = resp.StatusCode, resp.Header.Get("Atoll-Revision"), string(text)
	return a
}

// standalone is a zone of its own, in which nothing happens but what a test does:
// it has written the last that it writes at its first start, the admin's token.
func standalone(t *testing.T) (*cluster.Cluster, *cluster.ControlPlane) {
	c := clustertest.New(t)
	cp, err := c.Zone(t.Context(), "quiet")
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.Get(cp.URL + "/events?after=0&kind=GlobalSecret")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	for lines := bufio.NewScanner(resp.Body); ; {
		if !lines.Scan() {
			t.Fatalf("the events ended before the admin's token was made: %s %v", resp.Status, lines.Err())
		}
		if strings.Contains(lines.Text(), "admin-user-token") {
			return c, cp
		}
	}
}

const (
	jsonType = "application/json"
	yamlType = "application/yaml"
	timeouts = "/meshes/default/meshtimeouts/"
)

// TestBadInput sends what is wrong to the API: a clear answer, and nothing
// changes.
func TestBadInput(t *testing.T) {
	_, cp := standalone(t)
	revision := func(t *testing.T) string {
		t.Helper()
		a := send(t, http.MethodGet, cp.URL+"/meshes/default", "", "")
		if a.Status != http.StatusOK || a.Revision == "" {
			t.Fatalf("the default mesh: %d, revision %q", a.Status, a.Revision)
		}
		return a.Revision
	}
	for _, tc := range []struct {
		name, path, kind, body string
		status                 int
		detail                 string   // a part of it
		fields                 []string // all of them
	}{
		{
			name: "malformed JSON", path: timeouts + "t", kind: jsonType, status: 400, detail: "line 2, column 18",
			body: "{\"type\":\"MeshTimeout\",\n\"name\":\"t\",\"spec\"}",
		},
		{
			name: "JSON that ends too early", path: timeouts + "t", kind: jsonType, status: 400, detail: "unexpected end",
			body: `{"type":"MeshTimeout","name":"t"`,
		},
		{name: "empty body", path: timeouts + "t", kind: jsonType, status: 400, detail: "unexpected end"},
		{
			name: "malformed YAML", path: timeouts + "t", kind: yamlType, status: 400, detail: "line 2",
			body: "type: MeshTimeout\nname: [t\nspec: {}\n",
		},
		{
			name: "a list", path: timeouts + "t", kind: jsonType, status: 400, detail: "expected an object, got array",
			body: `[]`,
		},
		{
			name: "unknown kind", path: "/meshes/default/meshnonsenses/t", kind: jsonType, status: 404,
			body: `{"type":"MeshNonsense","mesh":"default","name":"t","spec":{}}`,
		},
		{
			name: "the type of another kind", path: timeouts + "t", kind: jsonType, status: 400,
			body:   `{"type":"MeshHTTPRoute","mesh":"default","name":"t","spec":{"to":[{"targetRef":{"kind":"Mesh"},"default":{"connectionTimeout":"1s"}}]}}`,
			fields: []string{""},
		},
		{
			name: "wrong types of fields", path: timeouts + "t", kind: jsonType, status: 400,
			body: `{"type":"MeshTimeout","mesh":"default","name":"t","labels":{"a":1},"spec":{"to":[
				{"targetRef":{"kind":7},"default":{"connectionTimeout":5,"http":[]}}]}}`,
			fields: []string{`labels["a"]`, "spec.to[0].default.connectionTimeout", "spec.to[0].default.http", "spec.to[0].targetRef.kind"},
		},
		{
			name: "wrong values", path: timeouts + "t", kind: jsonType, status: 400,
			body:   `{"type":"MeshTimeout","mesh":"default","name":"t","spec":{"to":[{"targetRef":{"kind":"Mesh"},"default":{}}]}}`,
			fields: []string{"spec.to[0].default"},
		},
		{
			name: "wrong fields in YAML", path: "/meshes/default/dataplanes/d", kind: yamlType, status: 400,
			body: "type: Dataplane\nmesh: default\nname: d\nnetworking: {address: '', inbound: [{port: 99999}]}\n",
		},
		{
			name: "another name than in the path", path: timeouts + "t", kind: jsonType, status: 400,
			body:   `{"type":"MeshTimeout","mesh":"default","name":"u","spec":{"to":[{"targetRef":{"kind":"Mesh"},"default":{"connectionTimeout":"1s"}}]}}`,
			fields: []string{"name"},
		},
		{
			name: "unknown mesh", path: "/meshes/nowhere/meshtimeouts/t", kind: jsonType, status: 404, detail: `mesh "nowhere" does not exist`,
			body: `{"type":"MeshTimeout","mesh":"nowhere","name":"t","spec":{"to":[{"targetRef":{"kind":"Mesh"},"default":{"connectionTimeout":"1s"}}]}}`,
		},
		{
			name: "more than 5 MiB", path: timeouts + "t", kind: jsonType, status: 413, detail: "5242880",
			body: `{"type":"MeshTimeout","name":"` + strings.Repeat("a", 5<<20) + `"}`,
		},
		{name: "no content type", path: timeouts + "t", status: 415, body: `{}`, detail: "application/yaml"},
		{name: "another content type", path: timeouts + "t", kind: "text/csv", status: 415, body: `{}`, detail: "text/csv"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before := revision(t)
			a := send(t, http.MethodPut, cp.URL+tc.path, tc.kind, tc.body)
			if a.Status != tc.status || a.Title == "" {
				t.Errorf("%d, want %d and a title:\n%s", a.Status, tc.status, a.text)
			}
			if !strings.Contains(a.Detail, tc.detail) {
				t.Errorf("the detail has no %q:\n%s", tc.detail, a.text)
			}
			got := map[string]bool{}
			for _, p := range a.Parameters {
				got[p.Field] = true
				if field, _, ok := strings.Cut(p.Reason, " in body"); ok && p.Field == "" {
					got[field] = true // as the reference says it of what is not in the spec
				}
				if p.Reason == "" {
					t.Errorf("field %q has no reason:\n%s", p.Field, a.text)
				}
			}
			for _, f := range tc.fields {
				if !got[f] {
					t.Errorf("field %q is not named:\n%s", f, a.text)
				}
			}
			if tc.status == 400 && tc.detail == "" && len(got) == 0 {
				t.Errorf("no field is named:\n%s", a.text)
			}
			if after := revision(t); after != before {
				t.Errorf("the revision was %s and is %s", before, after)
			}
		})
	}
}

// TestCtlBadInput says what users of atollctl are told, and how scripts can tell
// failures apart.
func TestCtlBadInput(t *testing.T) {
	c, cp := standalone(t)
	write := func(name, text string) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	const good = "type: MeshTimeout\nname: good\nspec:\n  to: [{targetRef: {kind: Mesh}, default: {connectionTimeout: 1s}}]\n"
	for _, tc := range []struct {
		name   string
		input  string
		server string // default: the zone
		args   []string
		code   int
		says   string // regular expression
	}{
		{
			name: "malformed YAML", code: 4, says: `stdin:3:3: did not find`,
			input: "type: MeshTimeout\nspec:\n  to: [1\nname: t\n", args: []string{"apply", "-f", "-"},
		},
		{
			name: "malformed JSON", code: 4, says: `bad\.json:2:25: invalid character '}'`,
			args: []string{"apply", "-f", write("bad.json", "{\"type\": \"MeshTimeout\",\n\"name\": \"t\", \"spec\": {}}}\n")},
		},
		{
			name: "unknown kind", code: 4, says: `stdin:1:7: .*MeshNonsense`,
			input: "type: MeshNonsense\nname: t\n", args: []string{"apply", "-f", "-"},
		},
		{
			name: "no type", code: 4, says: `stdin:1:1: .*no type`,
			input: "name: t\n", args: []string{"apply", "-f", "-"},
		},
		{
			name: "wrong types of fields", code: 4,
			says:  `(?s)stdin:6:35: spec\.to\[0\]\.default\.connectionTimeout: .*stdin:5:24: spec\.to\[0\]\.targetRef\.kind: `,
			input: "type: MeshTimeout\nname: t\nspec:\n  to:\n  - targetRef: { kind: 7 }\n    default: { connectionTimeout: 5 }\n",
			args:  []string{"apply", "-f", "-"},
		},
		{
			name: "unknown mesh", code: 3, says: `mesh "nowhere" does not exist`,
			input: good, args: []string{"apply", "-m", "nowhere", "-f", "-"},
		},
		{
			name: "more than 5 MiB", code: 4, says: `5242880 bytes`,
			input: good + "labels: {a: " + strings.Repeat("x", 5<<20) + "}\n", args: []string{"apply", "-f", "-"},
		},
		{name: "no file", code: 2, says: `-f FILE`, args: []string{"apply"}},
		{name: "a file that is not there", code: 2, says: `no such file`, args: []string{"apply", "-f", "not-there.yaml"}},
		{name: "unknown flag", code: 2, says: `--nonsense`, args: []string{"get", "meshes", "--nonsense"}},
		{name: "no such resource", code: 3, says: `no MeshTimeout with name "t"`, args: []string{"delete", "meshtimeout", "t"}},
		{name: "nobody there", code: 6, says: `127\.0\.0\.1:1\b`, server: "http://127.0.0.1:1", args: []string{"get", "meshes"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before := send(t, http.MethodGet, cp.URL+"/meshes/default", "", "").Revision
			server := tc.server
			if server == "" {
				server = cp.URL
			}
			out, errOut, code := clustertest.Ctl(t, c, server, tc.input, tc.args...)
			if code != tc.code {
				t.Errorf("exit code %d, want %d\n%s%s", code, tc.code, out, errOut)
			}
			if !regexp.MustCompile(tc.says).MatchString(errOut) {
				t.Errorf("stderr does not match %s:\n%s", tc.says, errOut)
			}
			if after := send(t, http.MethodGet, cp.URL+"/meshes/default", "", "").Revision; after != before {
				t.Errorf("the revision was %s and is %s", before, after)
			}
		})
	}
	t.Run("the good one among bad ones is applied", func(t *testing.T) {
		out, errOut, code := clustertest.Ctl(t, c, cp.URL, "type: MeshTimeout\nname: bad\nspec: {}\n---\n"+good, "apply", "-f", "-")
		if code != 4 || !strings.Contains(out, "MeshTimeout default/good created") || !strings.Contains(errOut, "1 of 2 resources were not applied") {
			t.Errorf("exit code %d\n%s%s", code, out, errOut)
		}
	})
}
