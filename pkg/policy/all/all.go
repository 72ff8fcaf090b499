// Package all is the list of policies.
package all

import (
	"github.com/atoll-mesh/atoll/pkg/policy"
	"github.com/atoll-mesh/atoll/pkg/policy/meshhttproute"
	"github.com/atoll-mesh/atoll/pkg/policy/meshtimeout"
	"github.com/atoll-mesh/atoll/pkg/policy/meshtls"
	"github.com/atoll-mesh/atoll/pkg/policy/meshtrafficpermission"
)

// Policies returns every policy in order of application: routes first, then
// what acts on the routes and clusters that exist by then.
func Policies() []*policy.Def {
	return []*policy.Def{
		meshhttproute.Def,
		meshtls.Def,
		meshtimeout.Def,
		meshtrafficpermission.Def,
	}
}
