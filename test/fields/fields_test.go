package fields

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/policies")

// records are kept by packages whose tests send traffic.
var records = []string{"test/traffic/testdata/fields.txt", "test/telemetry/testdata/fields.txt"}

// TestEveryField fails when a field of a policy has no golden file or no test
// with traffic, and when the tables of docs/policies are not up to date.
func TestEveryField(t *testing.T) {
	root := filepath.Join("..", "..")
	goldens, err := Goldens(root)
	if err != nil {
		t.Fatal(err)
	}
	tests := Record{}
	for _, file := range records {
		r, err := ReadRecord(filepath.Join(root, file))
		if err != nil {
			t.Fatal(err)
		}
		for kind, list := range r {
			for f, by := range list {
				for _, name := range by {
					tests.add(kind, []Field{f}, name)
				}
			}
		}
	}
	for _, s := range All() {
		k := s.Kind
		page, missing := Table(s, goldens, tests)
		for _, m := range missing {
			t.Error(m)
		}
		file := filepath.Join(root, "docs", "policies", strings.ToLower(string(k.Type))+".md")
		if *update {
			if err := os.WriteFile(file, page, 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if old, err := os.ReadFile(file); err != nil || !bytes.Equal(old, page) {
			t.Errorf("%s is not up to date: run make policy-tables", file)
		}
	}
	for kind, list := range exceptions {
		for f, e := range list {
			if e.golden == "" && e.traffic == "" {
				t.Errorf("the exception for %s %s says nothing", kind, f)
			}
			known := slices.ContainsFunc(All(), func(s Subject) bool { return s.Kind.Type == kind && slices.Contains(s.Fields, f) })
			if !known {
				t.Errorf("the exception for %s %s is for a field that does not exist", kind, f)
			}
		}
	}
}

func TestUsed(t *testing.T) {
	kind, got := Used(`
type: MeshTCPRoute
spec:
  targetRef: {kind: Dataplane, labels: {app: x}}
  to:
  - targetRef: {kind: MeshService, labels: {}}
    rules: [{default: {backendRefs: [{kind: MeshMultiZoneService, port: 80, unknown: 1}]}}]`, Policies())
	want := []Field{
		"spec.targetRef.kind", "spec.targetRef.kind=Dataplane", "spec.targetRef.labels.*", "spec.targetRef.labels.*=x",
		"spec.to[].rules[].default.backendRefs[].kind", "spec.to[].rules[].default.backendRefs[].kind=MeshMultiZoneService",
		"spec.to[].rules[].default.backendRefs[].port", "spec.to[].rules[].default.backendRefs[].port=80",
		"spec.to[].targetRef.kind", "spec.to[].targetRef.kind=MeshService", "spec.to[].targetRef.labels",
	}
	if kind != "MeshTCPRoute" || !slices.Equal(got, want) {
		t.Errorf("%s %q", kind, got)
	}
}
