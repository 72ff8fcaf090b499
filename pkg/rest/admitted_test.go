package rest

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	sigsyaml "sigs.k8s.io/yaml"

	"github.com/atoll-mesh/atoll/pkg/resource"
)

// TestAdmitted sends what testdata/admitted*.txt lists to a zone without a global.
func TestAdmitted(t *testing.T) {
	w := newWorld(t, standalone)
	for _, file := range []string{"testdata/admitted.txt", "testdata/admitted_core.txt"} {
		lines, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for n, line := range strings.Split(string(lines), "\n") {
			if line != "" && line[0] != '#' {
				w.admits(file, n+1, line)
			}
		}
	}
}

// admits sends the resource of one line and compares the answer.
func (w *world) admits(file string, n int, line string) {
	w.t.Helper()
	head, want, ok := strings.Cut(line, " => ")
	typ, doc, _ := strings.Cut(head, " ")
	k := w.kinds.ByType(resource.Type(typ))
	if !ok || k == nil {
		w.t.Fatalf("%s:%d: no case: %s", file, n, line)
	}
	body := map[string]any{}
	if err := sigsyaml.Unmarshal([]byte(doc), &body); err != nil {
		w.t.Fatalf("%s:%d: %v", file, n, err)
	}
	body["type"] = typ
	if body["name"] == nil {
		body["name"] = "a"
	}
	name, _ := body["name"].(string)
	path := "/" + k.Plural + "/" + name
	if k.Scope == resource.ScopeMesh {
		path = "/meshes/default" + path
		if body["mesh"] == nil {
			body["mesh"] = "default"
		}
	}
	sent, err := json.Marshal(body)
	if err != nil {
		w.t.Fatal(err)
	}
	a := w.put(path, string(sent))
	got := "ok"
	switch a.Status {
	case 201:
		w.wantStatus(w.del(path), 200)
	case 400:
		got = "unreadable"
		if fields := fieldsOf(problemOf(w.t, a)); len(fields) > 0 {
			if fields[0] == "" {
				fields[0] = "unnamed" // what is missing has no path
			}
			got = strings.Join(fields, " ")
		}
	default:
		got = a.Body
	}
	fields := strings.Fields(want)
	slices.Sort(fields)
	if got != strings.Join(fields, " ") {
		w.t.Errorf("%s:%d: %s\n got %s\nwant %s", file, n, head, got, strings.Join(fields, " "))
	}
}
