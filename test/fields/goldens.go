package fields

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/rogpeppe/go-internal/txtar"
)

// Goldens reads which fields golden files of this repository set: scripts of
// policies, as far as they are applied, and inputs of the compiler.
func Goldens(root string) (Record, error) {
	r, kinds := Record{}, All()
	scripts, err := filepath.Glob(filepath.Join(root, "pkg/policy/*/testdata/*.txtar"))
	if err != nil {
		return nil, err
	}
	for _, f := range scripts {
		a, err := txtar.ParseFile(f)
		if err != nil {
			return nil, err
		}
		applied := map[string]bool{}
		for line := range strings.Lines(string(a.Comment)) {
			if words := strings.Fields(line); len(words) > 1 && words[0] == "apply" {
				for _, name := range words[1:] {
					applied[name] = true
				}
			}
		}
		for _, x := range a.Files {
			if applied[x.Name] {
				r.documents(string(x.Data), kinds, name(root, f))
			}
		}
	}
	inputs, err := filepath.Glob(filepath.Join(root, "pkg/compile/testdata/*.in.yaml"))
	if err != nil {
		return nil, err
	}
	for _, f := range inputs {
		b, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		r.documents(string(b), kinds, name(root, f))
	}
	return r, nil
}

func (r Record) documents(text string, kinds []Subject, by string) {
	for doc := range strings.SplitSeq(text, "\n---\n") {
		if kind, list := Used(doc, kinds); kind != "" {
			r.add(kind, list, by)
		}
	}
}

// name of a golden: its package and file.
func name(root, file string) string {
	rel, err := filepath.Rel(filepath.Join(root, "pkg"), file)
	if err != nil {
		return file
	}
	return strings.ReplaceAll(filepath.ToSlash(strings.TrimPrefix(rel, "policy/")), "/testdata/", "/")
}
