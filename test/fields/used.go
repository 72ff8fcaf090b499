package fields

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/atoll-mesh/atoll/pkg/resource"
)

// Used tells which of the kinds a document in YAML is of and lists the fields that
// it sets; nothing for other resources and for text that is no YAML.
func Used(doc string, kinds []Subject) (kind resource.Type, fields []Field) {
	var head struct {
		Type resource.Type
		Spec any
	}
	if err := yaml.Unmarshal([]byte(doc), &head); err != nil {
		return "", nil
	}
	for _, s := range kinds {
		if s.Kind.Type != head.Type {
			continue
		}
		seen := map[Field]bool{}
		collect(s.Kind.Schema, head.Spec, "spec", seen)
		return head.Type, slices.Sorted(maps.Keys(seen))
	}
	return "", nil
}

// collect follows the schema and the value together. Of a leaf both the field
// and the field with its value are noted.
func collect(s *resource.Schema, v any, path string, seen map[Field]bool) {
	if s == nil || v == nil {
		return
	}
	switch x := v.(type) {
	case map[string]any:
		if len(x) == 0 || len(s.Properties) == 0 && s.AdditionalProperties == nil {
			seen[Field(path)] = true
		}
		for name, y := range x {
			if p := s.Properties[name]; p != nil {
				collect(p, y, path+"."+name, seen)
			} else if s.AdditionalProperties != nil {
				collect(s.AdditionalProperties, y, path+".*", seen)
			}
		}
	case []any:
		for _, y := range x {
			collect(s.Items, y, path+"[]", seen)
		}
	default:
		seen[Field(path)] = true
		if text := fmt.Sprint(v); len(text) < 50 && !strings.ContainsAny(text, "\n|") {
			seen[Field(path+"="+text)] = true
		}
	}
}
