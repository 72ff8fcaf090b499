// Package fields knows which fields of policies tests set. Every field of the
// API, and every value that makes a field behave differently, has a golden file
// that Envoy accepts and a test with real traffic; the tables in docs/policies
// say which. Tests with traffic record what they apply, and the record is kept
// beside them, so that whoever reads it needs no Envoy.
package fields

import (
	"slices"
	"strings"

	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/policy"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// Field is a place in the document of a policy where a value stands. [] is any
// element of a list, * any key of a map. A field whose values differ in what they
// do is one Field for each value: spec.to[].targetRef.kind=Mesh.
type Field string

type walker struct {
	kind resource.Type
	to   []resource.Type
	out  []Field
}

func (w *walker) walk(s *resource.Schema, path string) {
	switch {
	case len(s.Properties) > 0:
		for _, name := range order(s) {
			w.walk(s.Properties[name], path+"."+name)
		}
	case s.Items != nil:
		w.walk(s.Items, path+"[]")
	case s.AdditionalProperties != nil:
		w.walk(s.AdditionalProperties, path+".*")
	default:
		w.leaf(s, path)
	}
}

func (w *walker) leaf(s *resource.Schema, path string) {
	if w.ruledOut(path) {
		return
	}
	values := s.Enum
	switch {
	case strings.HasSuffix(path, ".openTelemetry.backendRef.kind"):
		values = []string{string(kind.MeshOpenTelemetryBackend)}
	case strings.HasSuffix(path, "ackendRef.kind"), strings.HasSuffix(path, "backendRefs[].kind"):
		values = names(backends)
	case path == "spec.to[].targetRef.kind":
		values = names(w.to)
	case listed[string(w.kind)+" "+path] != nil:
		values = listed[string(w.kind)+" "+path]
	}
	if len(values) == 0 {
		w.out = append(w.out, Field(path))
	}
	for _, v := range values {
		w.out = append(w.out, Field(path+"="+v))
	}
}

// ruledOut tells what the schema has because it is the same for all policies,
// and validation refuses in this one.
func (w *walker) ruledOut(path string) bool {
	switch path {
	case "spec.targetRef.sectionName":
		return !slices.Contains(sections, w.kind)
	case "spec.to[].targetRef.sectionName", "spec.to[].targetRef.labels.*":
		return !slices.Contains(w.to, policy.MeshService)
	}
	return false
}

// sections are the policies with rules, which may be for one inbound.
var sections = []resource.Type{
	"MeshTLS", "MeshFaultInjection", "MeshRateLimit", "MeshTimeout", "MeshTrafficPermission", "MeshCircuitBreaker",
}

var backends = []resource.Type{policy.MeshService, policy.MeshExternalService, policy.MeshMultiZoneService}

func names(kinds []resource.Type) []string {
	var out []string
	for _, k := range kinds {
		out = append(out, string(k))
	}
	return out
}

// listed are the values of texts that have no enumeration in the schema.
var listed = map[string][]string{
	"MeshRetry spec.to[].default.http.retryOn[]": {
		"5xx", "GatewayError", "Reset", "Retriable4xx", "ConnectFailure", "EnvoyRatelimited", "RefusedStream",
		"Http3PostConnectFailure", "HttpMethodConnect", "HttpMethodDelete", "HttpMethodGet", "HttpMethodHead",
		"HttpMethodOptions", "HttpMethodPatch", "HttpMethodPost", "HttpMethodPut", "HttpMethodTrace", "429",
	},
	"MeshTLS spec.rules[].default.tlsCiphers[]": {
		"ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305",
		"ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-RSA-CHACHA20-POLY1305",
	},
}

// order of members: what selects first, then by name.
func order(s *resource.Schema) []string {
	first := []string{"targetRef", "to", "rules", "type", "kind", "matches"}
	rank := func(name string) int {
		if at := slices.Index(first, name); at >= 0 {
			return at
		}
		return len(first)
	}
	var out []string
	for name := range s.Properties {
		out = append(out, name)
	}
	slices.SortFunc(out, func(a, b string) int {
		if x := rank(a) - rank(b); x != 0 {
			return x
		}
		return strings.Compare(a, b)
	})
	return out
}
