package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSyntaxErrorsNameTheirPlace(t *testing.T) {
	for _, c := range []struct{ name, source, content, place string }{
		{"unclosed list", "a.yaml", "type: Mesh\nname: x\nspec: [1, 2\n", "a.yaml:"},
		{"tab", "a.yaml", "type: Mesh\n\tname: x\n", "a.yaml:2:"},
		{"bad indent in second document", "a.yaml", "type: Mesh\nname: x\n---\ntype: Mesh\n  name: y\n", "a.yaml:5:3"},
		{"json", "a.json", "{\n  \"type\": \"Mesh\",\n  \"name\": }\n", "a.json:3:11"},
		{"key twice", "a.yaml", "type: Mesh\nname: x\nname: y\n", "a.yaml:3:1"},
		{"alias of itself", "a.yaml", "type: Mesh\na: &x [*x]\n", "a.yaml:2:8"},
		{"not an object", "a.yaml", "- type: Mesh\n", "a.yaml:1:1"},
		{"number too odd", "a.yaml", "type: Mesh\nname: x\nport: .inf\n", "a.yaml:3:7"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := parseDocuments([]byte(c.content), c.source)
			var e *exitError
			if !errors.As(err, &e) || e.code != exitRejected {
				t.Fatalf("got %v, want a rejection", err)
			}
			if !strings.HasPrefix(err.Error(), c.place) {
				t.Errorf("got %q, want it to begin with %q", err, c.place)
			}
		})
	}
}

func TestFieldPlaces(t *testing.T) {
	docs, err := parseDocuments([]byte(`type: MeshTimeout
name: x
labels:
  kuma.io/origin: moon
spec:
  to:
    - targetRef: {kind: Mesh}
      default:
        http: 5
`), "f.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for field, want := range map[string]string{
		"":                             "f.yaml:1:1",
		"name":                         "f.yaml:2:7",
		`labels["kuma.io/origin"]`:     "f.yaml:4:19",
		"spec.to[0].targetRef.kind":    "f.yaml:7:25",
		"spec.to[0].default.http":      "f.yaml:9:15",
		"spec.to[0].default.missing.x": "f.yaml:9:9", // nearest part that exists
		"spec.to[7]":                   "f.yaml:7:5",
	} {
		if got := docs[0].at(field); got != want {
			t.Errorf("%s is at %s, want %s", field, got, want)
		}
	}
}

func TestValuesKeepTheirTypes(t *testing.T) {
	docs, err := parseDocuments([]byte("a: 1\nb: \"1\"\nc: true\nd: 2020-01-01\ne: null\nf: 0x10\nbase: &x {k: 1}\ng: *x\nh: {<<: *x, l: 2}\n"), "f")
	if err != nil {
		t.Fatal(err)
	}
	got, err := json.Marshal(docs[0].value)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"a":1,"b":"1","base":{"k":1},"c":true,"d":"2020-01-01","e":null,"f":16,"g":{"k":1},"h":{"k":1,"l":2}}`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestDocumentsOfAFolder(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{
		"b.yaml": "type: B\n---\n# only a comment\n---\ntype: {{ what }}\n", "a.json": "{\"type\":\t\"A\"}", "c.txt": "type: C",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	a := &app{}
	docs, err := a.readDocuments(t.Context(), []string{dir}, map[string]string{"what": "V"})
	if err != nil {
		t.Fatal(err)
	}
	var types []string
	for _, d := range docs {
		types = append(types, d.value["type"].(string))
	}
	if got := strings.Join(types, ""); got != "ABV" {
		t.Errorf("read %s, want ABV", got)
	}
	if _, err := a.readDocuments(t.Context(), []string{dir}, map[string]string{"other": "V"}); err == nil || !strings.Contains(err.Error(), "-v what=") {
		t.Errorf("a missing variable gave %v", err)
	}
}

func TestExitCodes(t *testing.T) {
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	for _, c := range []struct {
		name string
		args []string
		want int
	}{
		{"help", []string{"--help"}, exitOK},
		{"unknown flag", []string{"get", "--no-such"}, exitUsage},
		{"unknown command", []string{"inspect", "nothing"}, exitUsage},
		{"missing argument", []string{"delete", "mesh"}, exitUsage},
		{"missing file", []string{"apply", "-f", "/does/not/exist.yaml"}, exitUsage},
		{"bad server", []string{"--server", "nonsense", "get", "meshes"}, exitUsage},
		{"nobody there", []string{"--server", "http://127.0.0.1:1", "get", "meshes"}, exitUnreachable},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out, errOut bytes.Buffer
			if got := Main(c.args, strings.NewReader(""), &out, &errOut); got != c.want {
				t.Errorf("exit code %d, want %d\n%s%s", got, c.want, out.String(), errOut.String())
			}
			if c.want != exitOK && errOut.Len() == 0 {
				t.Error("failed without a word")
			}
		})
	}
}

func FuzzDocuments(f *testing.F) {
	f.Add([]byte("type: Mesh\nname: x\n"))
	f.Add([]byte("{\"a\": [1, {\"b\": null}]}"))
	f.Add([]byte("a: &x [*x]\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		docs, err := parseDocuments(b, "fuzz")
		if err != nil {
			return
		}
		for _, d := range docs {
			if _, err := json.Marshal(d.value); err != nil {
				t.Errorf("a document that was accepted is no JSON: %v", err)
			}
			d.at("spec.to[0]")
		}
	})
}

// Whoever waits for the wrong input can go on with control-C.
func TestReadingEndsWhenInterrupted(t *testing.T) {
	silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	defer silent.Close()
	open, end := io.Pipe()
	defer end.Close()
	ctx, interrupt := context.WithCancel(t.Context())
	interrupt()
	for _, path := range []string{"-", silent.URL} {
		a := &app{in: open}
		if _, err := a.readDocuments(ctx, []string{path}, nil); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", path, err)
		}
	}
}
