package policy

import (
	"math"
	"slices"

	"github.com/atoll-mesh/atoll/pkg/resource"
)

// Kinds that a reference of a policy may name.
const (
	Mesh                 resource.Type = "Mesh"
	Dataplane            resource.Type = "Dataplane"
	MeshService          resource.Type = "MeshService"
	MeshExternalService  resource.Type = "MeshExternalService"
	MeshMultiZoneService resource.Type = "MeshMultiZoneService"
	MeshHTTPRoute        resource.Type = "MeshHTTPRoute"
)

var (
	proxyKinds    = []resource.Type{Mesh, Dataplane}
	outboundKinds = []resource.Type{Mesh, MeshService, MeshExternalService, MeshMultiZoneService, MeshHTTPRoute}
	backendKinds  = []resource.Type{MeshService, MeshExternalService, MeshMultiZoneService}
)

// TargetRef selects resources by kind and labels, and a section of them.
type TargetRef struct {
	Kind        resource.Type     `json:"kind"`
	Labels      map[string]string `json:"labels,omitempty"`
	SectionName string            `json:"sectionName,omitempty"`
}

// ProxyRef is the targetRef of a spec: the proxies that a policy configures.
// A nil *ProxyRef means the whole mesh.
type ProxyRef struct{ TargetRef }

// ToRef is the targetRef of an item of spec.to: the destinations it is about.
type ToRef struct{ TargetRef }

// BackendRef is where a route sends traffic.
type BackendRef struct {
	TargetRef
	Weight *uint32 `json:"weight,omitempty"`
	Port   *uint32 `json:"port,omitempty"`
}

// Share is the weight of the reference, 1 unless it is set.
func (r BackendRef) Share() uint32 {
	if r.Weight == nil {
		return 1
	}
	return *r.Weight
}

func refSchema(kinds ...resource.Type) *resource.Schema {
	text := &resource.Schema{Type: "string"}
	kind := &resource.Schema{Type: "string"}
	for _, k := range kinds {
		kind.Enum = append(kind.Enum, string(k))
	}
	return &resource.Schema{
		Type:     "object",
		Required: []string{"kind"},
		Properties: map[string]*resource.Schema{
			"kind":        kind,
			"labels":      {Type: "object", AdditionalProperties: text},
			"sectionName": text,
		},
	}
}

// JSONSchema lists the kinds that the API accepts for spec.targetRef.
func (ProxyRef) JSONSchema() *resource.Schema { return refSchema(proxyKinds...) }

// JSONSchema lists the kinds that the API accepts for spec.to[].targetRef;
// which of them a policy accepts is checked later.
func (ToRef) JSONSchema() *resource.Schema { return refSchema(outboundKinds...) }

// JSONSchema lists the kinds that the API accepts for a backendRef and fills in
// its weight.
func (BackendRef) JSONSchema() *resource.Schema {
	s := refSchema(append(slices.Clone(outboundKinds), Dataplane)...)
	zero, limit := 0.0, float64(math.MaxUint32)
	s.Properties["weight"] = &resource.Schema{Type: "integer", Minimum: &zero, Maximum: &limit, DefaultValue: 1.0}
	s.Properties["port"] = &resource.Schema{Type: "integer", Format: "int32", Minimum: &zero, Unsigned: true}
	return s
}

// validate adds every violation of one reference at path p. rules tells
// whether the policy has inbound rules, for which alone a section of a
// Dataplane has a meaning.
func (r TargetRef) validate(errs *resource.FieldErrors, p string, allowed []resource.Type, rules bool) {
	if r.Kind == "" {
		errs.Add(p+".kind", "must be defined")
		return
	}
	if !slices.Contains(allowed, r.Kind) {
		errs.Add(p+".kind", "value '%s' is not supported", r.Kind)
		return
	}
	forbidden := func(field string, set bool) {
		if set {
			errs.Add(p+"."+field, "must not be set with kind %s", r.Kind)
		}
	}
	if r.Kind != Mesh && r.Kind != Dataplane && len(r.Labels) == 0 {
		errs.Add(p+".labels", "must be set when kind is %s", r.Kind)
	}
	switch r.Kind {
	case Mesh:
		forbidden("labels", len(r.Labels) > 0)
		forbidden("sectionName", r.SectionName != "")
	case Dataplane:
		if r.SectionName != "" && !rules {
			errs.Add(p+".sectionName", "can only be used by a policy that has rules, which apply to inbounds")
		}
	case MeshExternalService, MeshHTTPRoute:
		forbidden("sectionName", r.SectionName != "")
	}
}

// ValidateBackendRef adds every violation of a backend reference at path p.
func ValidateBackendRef(errs *resource.FieldErrors, p string, r BackendRef) {
	r.validate(errs, p, backendKinds, false)
	if r.Kind == MeshMultiZoneService && r.Port == nil {
		errs.Add(p+".port", "must be defined with kind MeshMultiZoneService")
	}
}
