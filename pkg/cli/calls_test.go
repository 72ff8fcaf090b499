package cli

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestCallsAreGenerated: all calls but the stream of events go through the client
// that is made from the description of the API.
func TestCallsAreGenerated(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	byHand := map[string]int{}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			c, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			if s, ok := c.Fun.(*ast.SelectorExpr); ok && slices.Contains([]string{"call", "send"}, s.Sel.Name) && len(c.Args) == 5 {
				byHand[name]++
			}
			return true
		})
	}
	// client.call sends for client.api, which is in calls.go; streams have no answer
	// that ends.
	want := map[string]int{"client.go": 1, "calls.go": 1, "events.go": 1}
	for name, n := range byHand {
		if n != want[name] {
			t.Errorf("%s makes %d calls by hand, not %d", name, n, want[name])
		}
	}
	if byHand["calls.go"] != 1 {
		t.Error("the generated client is not used")
	}
}
