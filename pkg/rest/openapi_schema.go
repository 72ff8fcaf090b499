package rest

import (
	"slices"
	"strconv"
	"strings"

	"github.com/atoll-mesh/atoll/pkg/resource"
)

// object is a JSON object of the published description.
type object = map[string]any

func ref(schema string) object { return object{"$ref": "#/components/schemas/" + schema} }

func text(description string) object { return object{"type": "string", "description": description} }

// published turns a schema into JSON Schema as OpenAPI 3.1 has it. path is where
// it stands in its kind, for descriptions; it may be empty.
func published(s *resource.Schema, describe func(path string) string, path string) object {
	out := object{}
	switch {
	case s.IntOrString:
		out["type"] = []string{"integer", "string"}
	case s.Open || s.Type == "":
	default:
		out["type"] = s.Type
	}
	if d := s.Description; d != "" {
		out["description"] = d
	} else if d := describe(path); d != "" {
		out["description"] = d
	}
	if len(s.Properties) > 0 {
		members := object{}
		for name, p := range s.Properties {
			if !secondSpelling(s, name) {
				members[name] = published(p, describe, path+"."+name)
			}
		}
		out["properties"] = members
	}
	if len(s.Required) > 0 {
		out["required"] = s.Required
	}
	if s.AdditionalProperties != nil {
		out["additionalProperties"] = once(out, published(s.AdditionalProperties, describe, path))
	}
	if s.Items != nil {
		out["items"] = once(out, published(s.Items, describe, path))
	}
	if len(s.Enum) > 0 {
		out["enum"] = enumOf(s)
	}
	if s.DefaultValue != nil {
		out["default"] = s.DefaultValue
	}
	limits(out, s)
	return out
}

// once leaves out of what a list or map holds what is said of the whole.
func once(whole, part object) object {
	if part["description"] == whole["description"] {
		delete(part, "description")
	}
	return part
}

// secondSpelling tells whether a member is the name that a field has in protobuf,
// which is accepted beside the one in JSON but never answered.
func secondSpelling(s *resource.Schema, name string) bool {
	if !strings.Contains(name, "_") {
		return false
	}
	for other, p := range s.Properties {
		if other != name && p == s.Properties[name] && !strings.Contains(other, "_") {
			return true
		}
	}
	return false
}

func enumOf(s *resource.Schema) []any {
	out := make([]any, len(s.Enum))
	for i, v := range s.Enum {
		out[i] = v
		if s.Type == "integer" || s.Type == "number" {
			if n, err := strconv.ParseFloat(v, 64); err == nil {
				out[i] = n
			}
		}
	}
	return out
}

func limits(out object, s *resource.Schema) {
	if s.Format != "" {
		out["format"] = s.Format
	}
	if s.Pattern != "" {
		out["pattern"] = s.Pattern
	}
	for name, limit := range map[string]*float64{"minimum": s.Minimum, "maximum": s.Maximum} {
		if limit != nil {
			out[name] = *limit
		}
	}
	for name, limit := range map[string]*int{"minLength": s.MinLength, "maxLength": s.MaxLength, "minItems": s.MinItems, "maxItems": s.MaxItems} {
		if limit != nil {
			out[name] = *limit
		}
	}
}

// resourceSchema describes the documents of a kind.
func (a *API) resourceSchema(k *resource.Kind) object {
	describe := func(path string) string {
		return descriptions()[string(k.Type)+path]
	}
	computed := func(o object) object { o["readOnly"] = true; return o }
	members := object{
		"type":   object{"const": string(k.Type), "description": "The kind of resource."},
		"name":   text("Unique among resources of the kind" + map[resource.Scope]string{resource.ScopeMesh: " in its mesh"}[k.Scope] + "."),
		"labels": object{"type": "object", "additionalProperties": object{"type": "string"}, "description": "What selectors select by; those below kuma.io/ are computed."},
		"kri":    computed(text("The identifier that names the resource in every control plane.")),

		"creationTime":     computed(object{"type": "string", "format": "date-time"}),
		"modificationTime": computed(object{"type": "string", "format": "date-time"}),
	}
	required := []string{"name", "type"}
	if k.Scope == resource.ScopeMesh {
		members["mesh"] = text("The mesh that the resource belongs to.")
		required = append(required, "mesh")
	}
	if k.Ports != nil {
		members["snis"] = computed(object{"type": "array", "items": object{
			"type": "object", "required": []string{"port", "sni"},
			"properties": object{"port": object{"type": "integer"}, "sni": object{"type": "string"}},
		}, "description": "Names by which zone proxies know the ports."})
	}
	if k.Proto {
		spec := published(k.Schema, describe, "")
		if of, ok := spec["properties"].(object); ok {
			for name, p := range of {
				members[name] = p
			}
		}
	} else {
		members["spec"] = published(k.Schema, describe, ".spec")
		if k.Policy != nil || len(k.Schema.Required) > 0 {
			required = append(required, "spec")
		}
		if k.HasStatus {
			status := published(resource.SchemaOf(typeOf(k.NewStatus())), describe, ".status")
			status["description"] = "What control planes report."
			members["status"] = computed(status)
		}
	}
	slices.Sort(required)
	out := object{"type": "object", "required": required, "properties": members}
	if d := describe(""); d != "" {
		out["description"] = d
	}
	return out
}

// listSchema describes one page of items.
func listSchema(items object) object {
	return object{
		"type": "object", "required": []string{"total", "items"},
		"properties": object{
			"total": object{"type": "integer", "description": "How many there are on all pages."},
			"items": object{"type": "array", "items": items},
			"next":  object{"type": []string{"string", "null"}, "description": "Address of the next page; null on the last one."},
		},
	}
}
