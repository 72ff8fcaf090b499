package envoy_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"sigs.k8s.io/yaml"

	"github.com/atoll-mesh/atoll/pkg/envoy"
	"github.com/atoll-mesh/atoll/pkg/envoy/envoytest"
	"github.com/atoll-mesh/atoll/pkg/ir"
	"github.com/atoll-mesh/atoll/pkg/xds"
)

var update = flag.Bool("update", false, "write the golden files")

// The IR in testdata/*.ir.yaml becomes exactly the messages in *.envoy.yaml.
// The first line of both is a comment with a sentence that says what they show.
func TestGolden(t *testing.T) {
	ins, err := filepath.Glob("testdata/*.ir.yaml")
	if err != nil || len(ins) == 0 {
		t.Fatalf("no input: %v", err)
	}
	want := map[string]bool{}
	configs := map[string]*ir.Config{}
	for _, in := range ins {
		base := strings.TrimSuffix(in, ".ir.yaml")
		want[base+".envoy.yaml"] = true
		t.Run(filepath.Base(base), func(t *testing.T) {
			sentence, cfg := readIR(t, in)
			configs[filepath.Base(base)] = cfg
			got := append([]byte(sentence+"\n"), toYAML(t, cfg)...)
			golden := base + ".envoy.yaml"
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
				t.Errorf("%s differs; go test ./pkg/envoy -update writes this:\n%s", golden, got)
			}
		})
	}
	outs, _ := filepath.Glob("testdata/*.envoy.yaml")
	for _, out := range outs {
		if !want[out] {
			t.Errorf("%s has no input", out)
		}
	}
	t.Run("Envoy accepts all", func(t *testing.T) { envoytest.Validate(t, configs) })
}

func readIR(t *testing.T, file string) (sentence string, cfg *ir.Config) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	sentence, _, _ = strings.Cut(string(b), "\n")
	if !strings.HasPrefix(sentence, "# ") || !strings.HasSuffix(sentence, ".") {
		t.Fatalf("%s: the first line must be a comment with a sentence", file)
	}
	cfg = &ir.Config{}
	if err := yaml.UnmarshalStrict(b, cfg); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return sentence, cfg
}

func toYAML(t *testing.T, cfg *ir.Config) []byte {
	t.Helper()
	out := map[string][]json.RawMessage{}
	keys := map[xds.Type]string{
		xds.Listeners: "listeners", xds.Routes: "routes", xds.Clusters: "clusters", xds.Endpoints: "endpoints", xds.Secrets: "secrets",
	}
	for typ, rs := range envoy.Resources(cfg) {
		for _, name := range slices.Sorted(maps.Keys(rs)) {
			m, err := rs[name].Body.UnmarshalNew()
			if err != nil {
				t.Fatal(err)
			}
			js, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			out[keys[typ]] = append(out[keys[typ]], js)
		}
	}
	js, err := json.Marshal(out)
	if err != nil {
		t.Fatal(err)
	}
	y, err := yaml.JSONToYAML(js)
	if err != nil {
		t.Fatal(err)
	}
	return y
}

// Equal IR gives equal versions, whatever the order of maps; a difference
// anywhere gives another version.
func TestVersions(t *testing.T) {
	load := func(n int) *ir.ClusterLoad {
		labels := map[string]string{}
		for i := range 50 {
			labels[strings.Repeat("k", (i+n)%50+1)] = "v"
		}
		return &ir.ClusterLoad{Cluster: "c", Localities: []ir.Locality{{
			Endpoints: []ir.Endpoint{{Address: "192.0.2.1", Port: 80, Labels: labels}},
		}}}
	}
	first := envoy.Load(load(0))
	for n := range 50 {
		r := envoy.Load(load(n))
		if r.Version != first.Version || !proto.Equal(r.Body, first.Body) {
			t.Fatalf("version %s after inserting labels in another order, want %s", r.Version, first.Version)
		}
	}
	other := load(0)
	other.Localities[0].Endpoints[0].Port++
	if r := envoy.Load(other); r.Version == first.Version {
		t.Error("another port has the same version")
	}
	if len(first.Version) != 22 {
		t.Errorf("version %q does not hold 128 bits", first.Version)
	}
}

func TestStatPrefix(t *testing.T) {
	for in, want := range map[string]string{
		"kri_msvc_default___backend_8080": "kri_msvc_default___backend_8080",
		"direct_access_192.0.2.1:80":      "direct_access_192_0_2_1_80",
		"a/é":                             "a___",
		"":                                "",
	} {
		if got := envoy.StatPrefix(in); got != want {
			t.Errorf("StatPrefix(%q) = %q, want %q", in, got, want)
		}
	}
}
