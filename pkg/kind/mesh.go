package kind

import (
	"slices"

	mesh_proto "github.com/atoll-mesh/atoll/api/kuma/mesh/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

func meshKind() *resource.Kind {
	return resource.Define[mesh_proto.Mesh, resource.NoStatus](resource.Kind{
		Names: resource.Names{
			Type: Mesh, Plural: "meshes", Single: "mesh", Short: "m",
			Display: "Mesh", Displays: "Meshes",
		},
		Scope:    resource.ScopeGlobal,
		Flows:    resource.GlobalToZone,
		KeepName: true,
		Validate: func(o *resource.Object) resource.FieldErrors {
			var errs resource.FieldErrors
			requireLabelName(&errs, o.Name)
			return errs
		},
	})
}

// WantsInitialPolicy tells whether a new Mesh gets the default policies of a
// type, which its skipCreatingInitialPolicies may refuse by name or with "*".
func WantsInitialPolicy(m *mesh_proto.Mesh, policy resource.Type) bool {
	skip := m.GetSkipCreatingInitialPolicies()
	return !slices.Contains(skip, "*") && !slices.Contains(skip, string(policy))
}
