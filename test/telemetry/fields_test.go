package telemetry

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	"sigs.k8s.io/yaml"

	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/policy/all"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/test/fields"
)

// observing are the kinds that say what is seen of a mesh.
func observing() map[*resource.Kind][]fields.Field {
	out := map[*resource.Kind][]fields.Field{}
	for _, d := range all.Policies() {
		switch d.Kind().Type {
		case "MeshMetric", "MeshTrace", "MeshAccessLog":
			// Their references are to collectors and nothing else.
			out[d.Kind()] = slices.DeleteFunc(fields.Of(d), func(f fields.Field) bool {
				return strings.Contains(string(f), "openTelemetry.backendRef.kind=") && !strings.HasSuffix(string(f), string(kind.MeshOpenTelemetryBackend))
			})
		}
	}
	for _, k := range kind.All() {
		if k.Type == kind.MeshOpenTelemetryBackend {
			out[k] = fields.OfKind(k)
		}
	}
	return out
}

// record is which fields documents set, by kind.
type record struct {
	mu   sync.Mutex
	seen map[resource.Type]map[fields.Field]bool
}

func (r *record) add(doc string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for k := range observing() {
		used := fields.UsedOf(k, doc)
		for _, f := range used {
			// A body is anything, which the schema does not describe.
			if list, ok := strings.CutSuffix(string(f), ".openTelemetry.backendRef.kind"); ok && strings.Contains(doc, "body:") {
				used = append(used, fields.Field(list+".openTelemetry.body"))
			}
		}
		for _, f := range used {
			if r.seen == nil {
				r.seen = map[resource.Type]map[fields.Field]bool{}
			}
			if r.seen[k.Type] == nil {
				r.seen[k.Type] = map[fields.Field]bool{}
			}
			r.seen[k.Type][f] = true
		}
	}
}

// missing lists the fields that no document sets, but for the exceptions.
func (r *record) missing(exceptions map[string]string) []string {
	var out []string
	for k, list := range observing() {
		for _, f := range list {
			name := string(k.Type) + " " + string(f)
			if !r.seen[k.Type][f] && exceptions[name] == "" {
				out = append(out, name)
			}
		}
	}
	slices.Sort(out)
	return out
}

// TestEveryFieldHasAGolden reads the inputs of goldens and looks for every field.
func TestEveryFieldHasAGolden(t *testing.T) {
	var r record
	for _, pattern := range []string{"../../pkg/policy/mesh*/testdata/*.txtar", "../../pkg/compile/testdata/*.in.yaml"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %v", pattern, err)
		}
		for _, file := range files {
			b, err := os.ReadFile(file)
			must(t, err)
			texts := []string{string(b)}
			if strings.HasSuffix(file, ".txtar") {
				texts = nil
				for _, f := range txtar.Parse(b).Files {
					if strings.HasSuffix(f.Name, ".yaml") {
						texts = append(texts, string(f.Data))
					}
				}
			}
			for _, text := range texts {
				for doc := range strings.SplitSeq(text, "\n---\n") {
					r.add(doc)
				}
			}
		}
	}
	for _, m := range r.missing(nil) {
		t.Errorf("%s has no golden", m)
	}
}

// behaviour is what TestTelemetry applies.
var behaviour record

// applied notes which fields a document sets.
func applied(t *testing.T, doc string) {
	t.Helper()
	var v any
	if err := yaml.Unmarshal([]byte(doc), &v); err != nil {
		t.Fatalf("%v in:\n%s", err, doc)
	}
	behaviour.add(doc)
}
