package rest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"sigs.k8s.io/yaml"
)

// TestSchemasAsTheReference compares the structure that specs must have, and with
// it everything that the first stage of validation says, with the schemas of the
// reference, which are beside the recorded answers.
func TestSchemasAsTheReference(t *testing.T) {
	f := conformanceFile(t, "resources.jsonl")
	if f == nil {
		return
	}
	dir := filepath.Join(filepath.Dir(f.Name()), "..", "schemas", "resources")
	compared := 0
	for k := range allKinds().All() {
		b, err := os.ReadFile(filepath.Join(dir, string(k.Type)+".yaml"))
		if errors.Is(err, fs.ErrNotExist) {
			continue // a kind of Atoll's own, or a secret
		}
		if err != nil {
			t.Fatal(err)
		}
		var ref struct{ Properties struct{ Spec map[string]any } }
		if err := yaml.Unmarshal(b, &ref); err != nil {
			t.Fatal(err)
		}
		if k.Proto || ref.Properties.Spec == nil {
			continue // of protobuf kinds there is none
		}
		b, err = json.Marshal(k.Schema)
		if err != nil {
			t.Fatal(err)
		}
		var own map[string]any
		if err := json.Unmarshal(b, &own); err != nil {
			t.Fatal(err)
		}
		compared++
		for _, d := range schemaDifferences(string(k.Type)+".spec", own, ref.Properties.Spec) {
			t.Error(d)
		}
	}
	if compared < 20 {
		t.Errorf("only %d schemas were compared", compared)
	}
	t.Logf("%d schemas compared", compared)
}

// schemaDifferences lists the rules that only one of two schemas has. A minimum of
// 0 is left out: Atoll states it of every number that cannot be negative.
func schemaDifferences(path string, own, ref map[string]any) (out []string) {
	if own["minimum"] == 0.0 && ref["minimum"] == nil {
		own = maps.Clone(own)
		delete(own, "minimum")
	}
	for _, rule := range []string{"type", "format", "default", "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "pattern", "x-kubernetes-int-or-string"} {
		if !reflect.DeepEqual(own[rule], ref[rule]) {
			out = append(out, fmt.Sprintf("%s: %s is %v, of the reference %v", path, rule, own[rule], ref[rule]))
		}
	}
	for _, rule := range []string{"required", "enum"} {
		if a, b := texts(own[rule]), texts(ref[rule]); !slices.Equal(a, b) {
			out = append(out, fmt.Sprintf("%s: %s is %v, of the reference %v", path, rule, a, b))
		}
	}
	a, _ := own["properties"].(map[string]any)
	b, _ := ref["properties"].(map[string]any)
	members := map[string]any{}
	maps.Copy(members, a)
	maps.Copy(members, b)
	for _, name := range slices.Sorted(maps.Keys(members)) {
		mine, ok1 := a[name].(map[string]any)
		theirs, ok2 := b[name].(map[string]any)
		if !ok1 || !ok2 {
			out = append(out, fmt.Sprintf("%s.%s: only one of the two has it", path, name))
			continue
		}
		out = append(out, schemaDifferences(path+"."+name, mine, theirs)...)
	}
	for _, rule := range []string{"items", "additionalProperties"} {
		mine, ok1 := own[rule].(map[string]any)
		theirs, ok2 := ref[rule].(map[string]any)
		switch {
		case ok1 != ok2:
			out = append(out, fmt.Sprintf("%s: only one of the two has %s", path, rule))
		case ok1:
			out = append(out, schemaDifferences(path+"[]", mine, theirs)...)
		}
	}
	return out
}

func texts(list any) []string {
	items, _ := list.([]any)
	out := make([]string, len(items))
	for i, v := range items {
		out[i] = fmt.Sprint(v)
	}
	slices.Sort(out)
	return out
}
