package rest

import (
	"bufio"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/atoll-mesh/atoll/pkg/auth"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// conformanceFile opens a file of recorded answers of the reference system. They
// are not part of the repository: ATOLL_CONFORMANCE names their folder, which
// else is looked for beside it. In CI they have to be there.
func conformanceFile(t *testing.T, name string) *os.File {
	t.Helper()
	dir := os.Getenv("ATOLL_CONFORMANCE")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "conformance")
	}
	f, err := os.Open(filepath.Join(dir, name))
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("the recorded answers cannot be read; set ATOLL_CONFORMANCE to their folder: %v", err)
		}
		t.Logf("NOT COMPARED with the reference: set ATOLL_CONFORMANCE to the folder of recorded answers (%v)", err)
		return nil
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func eachLine(t *testing.T, f *os.File, fn func(line []byte)) {
	t.Helper()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		fn(lines.Bytes())
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
}

// TestResourcesAsTheReference sends resources and compares the status, and for
// those that are refused the set of fields, with what the reference answered.
func TestResourcesAsTheReference(t *testing.T) {
	f := conformanceFile(t, "resources.jsonl")
	if f == nil {
		return
	}
	w := newWorld(t, standalone)
	cases, agreed := 0, 0
	missing := map[resource.Type]int{}
	eachLine(t, f, func(line []byte) {
		var c struct {
			ID      string
			Type    resource.Type
			Request map[string]any
			Status  int
			Fields  []string
		}
		if err := json.Unmarshal(line, &c); err != nil {
			t.Fatal(err)
		}
		k := w.kinds.ByType(c.Type)
		if k == nil || k.Internal {
			missing[c.Type]++
			return
		}
		cases++
		name, _ := c.Request["name"].(string)
		path := "/" + k.Plural + "/" + name
		if k.Scope == resource.ScopeMesh {
			path = "/meshes/default" + path
			c.Request["mesh"] = "default"
		}
		body, _ := json.Marshal(c.Request)
		a := w.put(path, string(body))
		var fields []string
		if a.Status >= 400 {
			fields = fieldsOf(problemOf(t, a))
		}
		want := slices.Clone(c.Fields)
		slices.Sort(want)
		if a.Status == c.Status && slices.Equal(fields, slices.Compact(want)) {
			agreed++
		} else {
			t.Errorf("%s %s: %d %q, the reference says %d %q\n%s\n%s", c.ID, c.Type, a.Status, fields, c.Status, want, body, a.Body)
		}
		if a.Status == 201 { // the next case starts from nothing
			w.wantStatus(w.del(path), 200)
		}
	})
	t.Logf("%d of %d recorded answers agree", agreed, cases)
	for _, k := range slices.Sorted(maps.Keys(missing)) {
		t.Logf("not compared: %d of kind %s, which does not exist yet", missing[k], k)
	}
}

// TestErrorsAsTheReference replays the recorded calls that fail or write and
// that need nothing but a mesh and a connected zone, and compares status, title
// and fields.
func TestErrorsAsTheReference(t *testing.T) {
	f := conformanceFile(t, "rest.jsonl")
	if f == nil {
		return
	}
	worlds := map[string]*world{"global": newWorld(t, global), "zone": newWorld(t, federated)}
	for _, w := range worlds {
		w.write(w.object("Zone", "", "east", `{"enabled":true}`),
			w.object("ZoneInsight", "", "east", `{"subscriptions":[{"connectTime":"2026-01-02T03:04:05Z"}]}`))
	}
	worlds["global"].withKeys()
	worlds["zone"].withKeys(auth.UserKeys(), auth.DataplaneKeys("default")) // those of zones are the global's
	compared, skipped := 0, 0
	eachLine(t, f, func(line []byte) {
		var c struct {
			CP, Method, Path string
			Status           int
			Request          json.RawMessage
			Response         json.RawMessage
		}
		if err := json.Unmarshal(line, &c); err != nil {
			t.Fatal(err)
		}
		if c.Method == "GET" && c.Status < 400 || !worlds[c.CP].serves(c.Path) {
			skipped++
			return
		}
		if c.Method != "GET" && c.Request == nil {
			c.Request = json.RawMessage(`{`)
		}
		a := worlds[c.CP].do(request{method: c.Method, path: c.Path, body: string(c.Request)})
		var got, want problemBody
		_ = json.Unmarshal([]byte(a.Body), &got)
		_ = json.Unmarshal(c.Response, &want)
		compared++
		if a.Status != c.Status || want.Title != "" && got.Title != want.Title || !slices.Equal(fieldsOf(got), fieldsOf(want)) {
			t.Errorf("%s %s %s %s:\n got %d %q %q\nwant %d %q %q", c.CP, c.Method, c.Path, c.Request,
				a.Status, got.Title, fieldsOf(got), c.Status, want.Title, fieldsOf(want))
		}
	})
	t.Logf("%d calls compared, %d left out", compared, skipped)
}

// serves tells whether a path belongs to a kind or endpoint that exists so far.
func (w *world) serves(path string) bool {
	path, _, _ = strings.Cut(path, "?")
	parts := strings.Split(strings.Trim(path, "/"), "/")
	switch parts[0] {
	case "_kri":
		kri, err := resource.ParseKRI(parts[1])
		return err != nil || w.kinds.ByShort(kri.Short) != nil
	case "meshes":
		if len(parts) > 4 {
			return false // inspection, which is not served yet
		}
		return len(parts) < 3 || w.kinds.ByPath(parts[2]) != nil
	case "hostnamegenerators", "mesh-insights", "service-insights":
		return w.kinds.ByPath(parts[0]) != nil
	}
	return true
}
