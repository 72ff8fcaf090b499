package policy

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// FieldOrigin says from which item a field of a merged conf came. The path is
// that of its JSON, such as http.requestTimeout.
type FieldOrigin struct {
	Path  string
	Value any // as decoding its JSON gives it
	Origin
}

// Fields returns, in order of their paths, where the fields of the conf came
// from. Lists are fields as a whole; of those that grow, and of others that a
// kind merges in a way of its own, the items are. A field that no single item
// has as it is has no Origin.
func (a Applied) Fields() []FieldOrigin { return fieldsOf(a.Conf, a.items) }

// fieldsOf looks at items from the strongest, which is the last.
func fieldsOf(conf any, items []item) []FieldOrigin {
	trees := make([]any, len(items))
	for i, it := range items {
		trees[i] = tree(it.conf)
	}
	var out []FieldOrigin
	from := func(path string, value any, has func(any) bool) bool {
		for i := len(items) - 1; i >= 0; i-- {
			if has(trees[i]) {
				out = append(out, FieldOrigin{path, value, items[i].Origin})
				return true
			}
		}
		return false
	}
	var walk func(steps []string, v any)
	walk = func(steps []string, v any) {
		path := strings.Join(steps, ".")
		same := func(t any) bool {
			got, ok := at(t, steps)
			return ok && reflect.DeepEqual(got, v)
		}
		switch x := v.(type) {
		case map[string]any:
			for _, k := range slices.Sorted(maps.Keys(x)) {
				walk(append(slices.Clip(steps), k), x[k])
			}
			if len(x) == 0 && !from(path, v, same) {
				out = append(out, FieldOrigin{Path: path, Value: v})
			}
		case []any:
			if from(path, v, same) {
				return
			}
			for i, element := range x {
				in := func(t any) bool {
					got, _ := at(t, steps)
					list, _ := got.([]any)
					return slices.ContainsFunc(list, func(e any) bool { return reflect.DeepEqual(e, element) })
				}
				if name := fmt.Sprintf("%s[%d]", path, i); !from(name, element, in) {
					out = append(out, FieldOrigin{Path: name, Value: element})
				}
			}
		default:
			if !from(path, v, same) {
				out = append(out, FieldOrigin{Path: path, Value: v})
			}
		}
	}
	walk(nil, tree(conf))
	return out
}

// tree is a conf as decoding its JSON gives it.
func tree(conf any) any {
	var v any
	if err := json.Unmarshal(encode(conf), &v); err != nil {
		panic("policy: a conf cannot be decoded again: " + err.Error())
	}
	return v
}

// at finds what is under a path.
func at(v any, steps []string) (any, bool) {
	for _, s := range steps {
		m, ok := v.(map[string]any)
		if !ok {
			return nil, false
		}
		if v, ok = m[s]; !ok {
			return nil, false
		}
	}
	return v, true
}
