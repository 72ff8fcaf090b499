package all

import (
	"slices"

	"github.com/atoll-mesh/atoll/pkg/policy/meshcircuitbreaker"
	"github.com/atoll-mesh/atoll/pkg/policy/meshretry"
	"github.com/atoll-mesh/atoll/pkg/policy/meshtimeout"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// Defaults returns the policies that a new mesh starts with.
func Defaults(mesh string) []*resource.Object {
	return slices.Concat(
		meshtimeout.Defaults(mesh),
		meshcircuitbreaker.Defaults(mesh),
		meshretry.Defaults(mesh),
	)
}
