// Package versions holds golden files against all versions of Envoy that Atoll
// supports.
package versions

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"
	"sigs.k8s.io/yaml"

	"github.com/atoll-mesh/atoll/pkg/envoy/envoytest"
	"github.com/atoll-mesh/atoll/pkg/ir"
)

const root = "../.."

// older are the versions beside the one that tests use; mk/tools.mk installs
// them.
var older = []string{"1.36.4", "1.39.3"}

// TestGoldens: every golden file is accepted by every version.
func TestGoldens(t *testing.T) {
	list := append(files(t), scripts(t)...)
	if len(list) < 120 {
		t.Fatalf("only %d golden files are found", len(list))
	}
	bins := map[string]string{"current": envoytest.Binary(t)}
	for _, v := range older {
		bin, err := filepath.Abs(filepath.Join(root, "build", "envoys", v, "envoy"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(bin); err != nil {
			t.Fatalf("Envoy %s is missing: run make tools (%v)", v, err)
		}
		bins[v] = bin
	}
	for version, bin := range bins {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			accept(t, version, bin, list)
		})
	}
}

// refused are golden files that a version does not accept, and why.
var refused = map[string]map[string]string{
	"1.36.4": {
		script("meshaccesslog/testdata/otel.txtar direct.out"):     noHTTP,
		script("meshaccesslog/testdata/otel.txtar direct-own.out"): noHTTP,
	},
}

const noHTTP = "records of logs go by gRPC only"

func script(name string) string { return root + "/pkg/policy/" + name }

// golden is a configuration whose names and ports nobody else has.
type golden struct {
	name string
	*ir.Config
}

// accept asks about all at once, and about halves when one is refused.
func accept(t *testing.T, version, bin string, list []golden) {
	t.Helper()
	all := &ir.Config{}
	for _, g := range list {
		all.Listeners = append(all.Listeners, g.Listeners...)
		all.Routes = append(all.Routes, g.Routes...)
		all.Clusters = append(all.Clusters, g.Clusters...)
		all.Loads = append(all.Loads, g.Loads...)
	}
	err := envoytest.Accepts(t, bin, all)
	switch {
	case err == nil:
	case len(list) == 1 && refused[version][list[0].name] != "":
	case len(list) == 1:
		t.Errorf("%s is refused: %v", list[0].name, err)
	default:
		accept(t, version, bin, list[:len(list)/2])
		accept(t, version, bin, list[len(list)/2:])
	}
}

// files are those of the compiler and of the translation to Envoy's messages.
func files(t *testing.T) (out []golden) {
	t.Helper()
	for _, pattern := range []string{"pkg/envoy/testdata/*.ir.yaml", "pkg/compile/testdata/*.ir.yaml"} {
		paths, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range paths {
			b, err := os.ReadFile(p)
			if err != nil {
				t.Fatal(err)
			}
			// By type first: y is a name, and not true.
			var whole ir.Config
			var typed struct{ Own, Shared ir.Config }
			if err := errors.Join(yaml.Unmarshal(b, &whole), yaml.Unmarshal(b, &typed)); err != nil {
				t.Fatalf("%s: %v", p, err)
			}
			parts := map[string]any{"": &whole, "own": &typed.Own, "shared": &typed.Shared}
			for part, x := range parts {
				js, err := json.Marshal(x)
				if err != nil {
					t.Fatal(err)
				}
				var tree map[string]any
				if err := json.Unmarshal(js, &tree); err != nil {
					t.Fatal(err)
				}
				out = append(out, unique(t, len(out), p+" "+part, tree))
			}
		}
	}
	return out
}

// scripts are results of the scripts of policies.
func scripts(t *testing.T) (out []golden) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(root, "pkg/policy/*/testdata/*.txtar"))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range paths {
		a, err := txtar.ParseFile(p)
		if err != nil {
			t.Fatal(err)
		}
		results := map[string]bool{}
		for line := range strings.Lines(string(a.Comment)) {
			w := strings.Fields(line)
			if len(w) > 1 && (w[0] == "outbound" || w[0] == "inbound" || w[0] == "own") {
				results[w[len(w)-1]] = true
			}
		}
		for _, f := range a.Files {
			if !results[f.Name] {
				continue
			}
			var tree map[string]any
			if err := yaml.Unmarshal(f.Data, &tree); err != nil {
				t.Fatalf("%s %s: %v", p, f.Name, err)
			}
			if chains, ok := tree["chains"]; ok && chains != nil {
				tree["listeners"] = []any{map[string]any{"name": "listener", "address": "127.0.0.1", "chains": chains}}
			}
			delete(tree, "chains")
			delete(tree, "placements")
			if one, ok := tree["routes"].(map[string]any); ok {
				tree["routes"] = []any{one}
			}
			addCollectors(tree)
			out = append(out, unique(t, 1000+len(out), p+" "+f.Name, tree))
		}
	}
	return out
}

// addCollectors gives listeners that trace the clusters that spans go to, which
// scripts show with the proxy's own.
func addCollectors(tree map[string]any) {
	known := map[string]bool{}
	clusters, _ := tree["clusters"].([]any)
	for _, c := range clusters {
		name, _ := c.(map[string]any)["name"].(string)
		known[name] = true
	}
	var visit func(v any)
	visit = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			if tracing, ok := v["tracing"].(map[string]any); ok {
				for _, by := range tracing {
					to, _ := by.(map[string]any)
					if name, _ := to["cluster"].(string); name != "" && !known[name] {
						known[name] = true
						clusters = append(clusters, map[string]any{"name": name, "type": "STATIC", "protocol": "http"})
					}
				}
			}
			for _, x := range v {
				visit(x)
			}
		case []any:
			for _, x := range v {
				visit(x)
			}
		}
	}
	visit(tree["listeners"])
	if len(clusters) > 0 {
		tree["clusters"] = clusters
	}
}

// unique gives what a configuration consists of names and ports of its own.
func unique(t *testing.T, n int, name string, tree any) golden {
	t.Helper()
	names := map[string]string{}
	top, _ := tree.(map[string]any)
	for _, list := range []string{"clusters", "routes"} {
		items, _ := top[list].([]any)
		for _, x := range items {
			if s, ok := x.(map[string]any)["name"].(string); ok {
				names[s] = fmt.Sprintf("g%d-%s", n, s)
			}
		}
	}
	b, err := json.Marshal(rename("", tree, names))
	if err != nil {
		t.Fatal(err)
	}
	g := golden{name: name, Config: &ir.Config{}}
	if err := json.Unmarshal(b, g.Config); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	for i, l := range g.Listeners {
		l.Name = fmt.Sprintf("g%d-%d", n, i)
		// Envoy binds nothing while it validates, but wants addresses to differ.
		for _, c := range l.Chains {
			c.Files = nil // of the machine of the proxy, and Envoy reads them
		}
		l.Address, l.Port, l.Also = fmt.Sprintf("127.%d.%d.%d", 1+n/250, 1+n%250, 1+i), 80, nil
	}
	for i, load := range g.Loads {
		load.Cluster = fmt.Sprintf("g%d-%d", n, i)
	}
	for _, c := range g.Clusters {
		if c.External != nil && c.External.Key == "hidden" { // golden files do not show keys
			c.External.Key, c.External.Cert = "", ""
		}
	}
	return g
}

// rename replaces texts, and durations as people write them by numbers.
func rename(key string, v any, names map[string]string) any {
	switch v := v.(type) {
	case map[string]any:
		for k, x := range v {
			v[k] = rename(k, x, names)
		}
	case []any:
		for i, x := range v {
			v[i] = rename(key, x, names)
		}
	case string:
		if other, ok := names[v]; ok && key != "protocol" && key != "kind" && key != "type" {
			return other
		}
		lower := strings.ToLower(key)
		if strings.HasSuffix(lower, "timeout") || strings.HasSuffix(lower, "interval") || strings.HasSuffix(lower, "duration") {
			if d, err := time.ParseDuration(v); err == nil {
				return int64(d)
			}
		}
	}
	return v
}
