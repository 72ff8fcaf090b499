package compile

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/atoll-mesh/atoll/pkg/envoy/envoytest"
	"github.com/atoll-mesh/atoll/pkg/ir"
)

var update = flag.Bool("update", false, "write the golden files")

// The first document of testdata/*.in.yaml is what a proxy says about itself, the
// others are resources; *.ir.yaml is what is compiled for it. The first line of
// both is a comment with a sentence that says what they show.
func TestGolden(t *testing.T) {
	ins, err := filepath.Glob("testdata/*.in.yaml")
	if err != nil || len(ins) == 0 {
		t.Fatalf("no input: %v", err)
	}
	goldens := map[string]bool{}
	configs := map[string]*ir.Config{}
	for _, in := range ins {
		name := strings.TrimSuffix(filepath.Base(in), ".in.yaml")
		golden := filepath.Join("testdata", name+".ir.yaml")
		goldens[golden] = true
		t.Run(name, func(t *testing.T) {
			b, err := os.ReadFile(in)
			if err != nil {
				t.Fatal(err)
			}
			sentence, rest, _ := strings.Cut(string(b), "\n")
			if !strings.HasPrefix(sentence, "# ") || !strings.HasSuffix(sentence, ".") {
				t.Fatalf("%s: the first line must be a comment with a sentence", in)
			}
			head, resources, _ := strings.Cut(rest, "\n---\n")
			info := dataplane("")
			if err := yaml.Unmarshal([]byte(head), &struct{ Proxy *ProxyInfo }{&info}); err != nil {
				t.Fatal(err)
			}
			w := newWorld(t)
			w.apply(resources)
			in := w.e.Inputs()
			in.Settings.InternalCIDRs = []string{"10.0.0.0/8", "fc00::/7"}
			res, err := Build(in, w.view.Snapshot(), info)
			if err != nil {
				t.Fatal(err)
			}
			configs[name] = &ir.Config{
				Listeners: slices.Concat(res.Own.Listeners, res.Shared.Listeners),
				Routes:    slices.Concat(res.Own.Routes, res.Shared.Routes),
				Clusters:  slices.Concat(res.Own.Clusters, res.Shared.Clusters),
				Loads:     res.Shared.Loads,
			}
			js, err := json.Marshal(map[string]any{"own": res.Own, "shared": res.Shared, "warnings": res.Warnings})
			if err != nil {
				t.Fatal(err)
			}
			got, err := yaml.JSONToYAML(js)
			if err != nil {
				t.Fatal(err)
			}
			got = append([]byte(sentence+"\n"), got...)
			if *update {
				if err := os.WriteFile(golden, got, 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			old, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(old, got) {
				t.Errorf("%s differs; go test ./pkg/compile -update writes this:\n%s", golden, got)
			}
		})
	}
	outs, _ := filepath.Glob("testdata/*.ir.yaml")
	for _, out := range outs {
		if !goldens[out] {
			t.Errorf("%s has no input", out)
		}
	}
	t.Run("Envoy accepts all", func(t *testing.T) { envoytest.Validate(t, configs) })
}
