package fields

import (
	"maps"
	"slices"

	"sigs.k8s.io/yaml"

	"github.com/atoll-mesh/atoll/pkg/resource"
)

// OfKind lists the fields of any kind that has a schema, in its order.
func OfKind(k *resource.Kind) []Field {
	w := walker{kind: k.Type}
	w.walk(k.Schema, "spec")
	return w.out
}

// UsedOf lists the fields that a document of the kind sets; none for documents of
// other kinds and for text that is no YAML.
func UsedOf(k *resource.Kind, doc string) []Field {
	var head struct {
		Type resource.Type
		Spec any
	}
	if err := yaml.Unmarshal([]byte(doc), &head); err != nil || head.Type != k.Type {
		return nil
	}
	seen := map[Field]bool{}
	collect(k.Schema, head.Spec, "spec", seen)
	return slices.Sorted(maps.Keys(seen))
}
