// Package deps holds the rules of who may import whom. They are a test so that
// the reason stands beside the rule.
package deps

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/atoll-mesh/atoll/"

// rule says what packages under folder may import of this module. Every package
// may import pkg/observe and what is below its own folder.
type rule struct {
	folder string
	may    []string
	why    string
}

var rules = []rule{
	{"pkg/resource", nil, "everything else stands on it"},
	{"pkg/kind", []string{"pkg/resource", "api"}, "a kind is described without knowing who uses it"},
	{"pkg/store", []string{"pkg/resource"}, "stores keep bytes; they do not know kinds"},
	{"pkg/topology", []string{"pkg/resource", "pkg/kind", "api"}, "derived rows are pure functions of resources"},
	{"pkg/view", []string{"pkg/resource", "pkg/store", "pkg/kind", "pkg/topology"}, "the view knows nothing of its readers"},
	{"pkg/ir", nil, "plain data"},
	{"pkg/policy", []string{"pkg/resource", "pkg/kind", "pkg/ir", "api"}, "a policy writes IR, never Envoy"},
	{"pkg/envoy", []string{"pkg/ir", "pkg/xds", "pkg/delta"}, "IR becomes Envoy in one place that knows no policy"},
	{"pkg/identity", []string{"pkg/resource", "pkg/kind", "api"}, "identities are functions of resources; who keeps certificates is elsewhere"},
	{"pkg/compile", []string{"pkg/identity", "pkg/view", "pkg/topology", "pkg/policy", "pkg/ir", "pkg/envoy", "pkg/xds", "pkg/delta", "pkg/resource", "pkg/kind", "pkg/store", "api"}, ""},
	{"pkg/delta", nil, "the state machine of a stream knows no mesh"},
	{"pkg/xds", []string{"pkg/delta"}, "the server serves sets; it does not know the mesh"},
	{"pkg/dpserver", []string{"pkg/store", "pkg/view", "pkg/auth", "pkg/xds", "pkg/delta", "pkg/compile", "pkg/resource", "pkg/kind", "pkg/config", "api"}, ""},
	{"pkg/kds", []string{"pkg/store", "pkg/view", "pkg/resource", "pkg/kind", "pkg/delta", "pkg/auth", "api"}, "sync does not depend on what is synced"},
	{"pkg/auth", []string{"pkg/resource", "pkg/kind", "api"}, ""},
	{"pkg/control", []string{"pkg/identity", "pkg/view", "pkg/topology", "pkg/store", "pkg/kind", "pkg/resource", "api"}, ""},
	{"pkg/liveness", []string{"pkg/view", "pkg/store", "pkg/kind", "pkg/resource", "api"}, "a zone decides by what its own proxies report"},
	{"pkg/drain", []string{"pkg/view", "pkg/store", "pkg/kind", "pkg/resource", "api"}, "what would break, and who is connected, is handed down"},
	{"pkg/notice", []string{"pkg/view", "pkg/store", "pkg/kind", "pkg/resource", "api"}, "what would break is handed down"},
	{"pkg/webhook", []string{"pkg/notice", "pkg/view", "pkg/store", "pkg/kind", "pkg/resource", "api"}, ""},
	{"pkg/replica", []string{"pkg/store", "pkg/view", "pkg/resource", "pkg/kind", "api"}, "replicas know of each other, not of what they are asked"},
	{"pkg/failover", []string{"pkg/compile", "pkg/view", "pkg/topology", "pkg/policy", "pkg/identity", "pkg/ir", "pkg/resource", "pkg/kind", "pkg/store", "api"}, "gaps are functions of resources"},
	{"pkg/explain", []string{"pkg/compile", "pkg/view", "pkg/topology", "pkg/policy", "pkg/identity", "pkg/ir", "pkg/resource", "pkg/kind", "api"}, "an explanation is a function of a snapshot"},
	{"pkg/mads", []string{"pkg/view", "pkg/policy", "pkg/resource", "pkg/kind", "pkg/store", "api"}, "who is scraped follows from resources"},
	{"pkg/rest", []string{"pkg/failover", "pkg/explain", "pkg/liveness", "pkg/notice", "pkg/view", "pkg/store", "pkg/auth", "pkg/compile", "pkg/policy", "pkg/kind", "pkg/resource", "pkg/config", "pkg/topology", "pkg/delta", "api"}, ""},
	{"pkg/agent", []string{"pkg/resource", "api"}, "the agent is a small program beside a workload"},
	{"pkg/cli", []string{"pkg/failover", "pkg/resource", "api"}, "the CLI learns kinds from the server; what it checks without one is in failover"},
	{"pkg/config", nil, ""},
	{"pkg/observe", nil, ""},
	{"app/atoll-cp", []string{"pkg/cp", "pkg/config"}, "a program is its flags and one package"},
	{"app/atoll-dp", []string{"pkg/agent"}, "a program is its flags and one package"},
	{"app/atollctl", []string{"pkg/cli"}, "a program is its flags and one package"},
}

// allowed finds the rule for an import and whether it holds.
func allowed(pkg, imported string) (rule, bool) {
	if imported == "pkg/observe" {
		return rule{}, true
	}
	if strings.HasPrefix(pkg, "pkg/policy/mesh") {
		r := rule{pkg, []string{"pkg/policy", "pkg/resource", "pkg/ir"}, "a policy knows the engine and the IR, never a sibling"}
		return r, contains(r.may, imported, false)
	}
	for _, r := range rules {
		if pkg == r.folder || strings.HasPrefix(pkg, r.folder+"/") {
			return r, within(imported, r.folder) || contains(r.may, imported, true)
		}
	}
	return rule{}, true
}

func within(pkg, folder string) bool { return pkg == folder || strings.HasPrefix(pkg, folder+"/") }

func contains(list []string, pkg string, below bool) bool {
	for _, l := range list {
		if pkg == l || below && within(pkg, l) {
			return true
		}
	}
	return false
}

// imports reads what the packages of this module import, from their sources: a
// test that read them by running the go command would be answered from the test
// cache after they have changed.
func imports(t *testing.T) map[string][]string {
	t.Helper()
	top := filepath.Join("..", "..")
	found := map[string][]string{}
	err := filepath.WalkDir(top, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			if file != top && (name == "build" || name == "testdata" || strings.HasPrefix(name, ".")) {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		src, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, src, parser.ImportsOnly)
		if err != nil {
			return err
		}
		pkg, err := filepath.Rel(top, filepath.Dir(file))
		if err != nil {
			return err
		}
		for _, spec := range parsed.Imports {
			imp, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			found[filepath.ToSlash(pkg)] = append(found[filepath.ToSlash(pkg)], imp)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(found) < 10 {
		t.Fatalf("found %d packages only", len(found))
	}
	return found
}

func TestImports(t *testing.T) {
	for pkg, imps := range imports(t) {
		for _, imp := range imps {
			of, ours := strings.CutPrefix(imp, module)
			if !ours {
				continue
			}
			if r, ok := allowed(pkg, of); !ok {
				t.Errorf("%s must not import %s: %s", pkg, of, r.why)
			}
		}
	}
}

// TestEnvoyIsWrittenOnce guards the joint that matters most.
func TestEnvoyIsWrittenOnce(t *testing.T) {
	for pkg, imps := range imports(t) {
		if !within(pkg, "pkg/policy") && !within(pkg, "pkg/ir") && !within(pkg, "pkg/topology") {
			continue
		}
		for _, imp := range imps {
			if strings.HasPrefix(imp, "github.com/envoyproxy/") {
				t.Errorf("%s imports %s: only pkg/envoy turns the IR into Envoy's messages", pkg, imp)
			}
		}
	}
}
