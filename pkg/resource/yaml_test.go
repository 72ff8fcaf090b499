package resource

import (
	"testing"

	"go.yaml.in/yaml/v3"
)

func TestYAMLSyntax(t *testing.T) {
	for text, want := range map[string]int{
		"a: [1\nb: 2\n":            2, // where it shows; the library has no begin on line 1
		"x: 1\na: [1\nb: 2\n":      2,
		"x: 1\ny: 2\na: {b\nc: }]": 3,
		"a: 'x\n":                  2,
		"x: 1\na: \"y\n":           2,
		"\tx: 1\n":                 1,
		"x: 1\na:\n\tb: 1\n":       3,
		"x: 1\ny: a: b\n":          2,
		"x: &\n":                   1,
		"- 1\n- 2\nx: 1\n":         3,
	} {
		var n yaml.Node
		err := yaml.Unmarshal([]byte(text), &n)
		if err == nil {
			t.Errorf("%q is accepted", text)
			continue
		}
		if line, reason := YAMLSyntax(err); line != want || reason == "" {
			t.Errorf("%q: line %d %q, want line %d; the library says %v", text, line, reason, want, err)
		}
	}
}
