// Package all is the list of policies.
package all

import (
	"github.com/atoll-mesh/atoll/pkg/policy"
	"github.com/atoll-mesh/atoll/pkg/policy/meshaccesslog"
	"github.com/atoll-mesh/atoll/pkg/policy/meshcircuitbreaker"
	"github.com/atoll-mesh/atoll/pkg/policy/meshfaultinjection"
	"github.com/atoll-mesh/atoll/pkg/policy/meshhealthcheck"
	"github.com/atoll-mesh/atoll/pkg/policy/meshhttproute"
	"github.com/atoll-mesh/atoll/pkg/policy/meshloadbalancingstrategy"
	"github.com/atoll-mesh/atoll/pkg/policy/meshmetric"
	"github.com/atoll-mesh/atoll/pkg/policy/meshpassthrough"
	"github.com/atoll-mesh/atoll/pkg/policy/meshproxypatch"
	"github.com/atoll-mesh/atoll/pkg/policy/meshratelimit"
	"github.com/atoll-mesh/atoll/pkg/policy/meshretry"
	"github.com/atoll-mesh/atoll/pkg/policy/meshtcproute"
	"github.com/atoll-mesh/atoll/pkg/policy/meshtimeout"
	"github.com/atoll-mesh/atoll/pkg/policy/meshtls"
	"github.com/atoll-mesh/atoll/pkg/policy/meshtrace"
	"github.com/atoll-mesh/atoll/pkg/policy/meshtrafficpermission"
)

// Policies returns every policy in order of application: routes first, then
// what acts on the routes and clusters that exist by then.
func Policies() []*policy.Def {
	return []*policy.Def{
		meshhttproute.Def,
		meshtcproute.Def,
		meshtls.Def,
		meshloadbalancingstrategy.Def,
		meshpassthrough.Def,
		meshaccesslog.Def,
		meshtrace.Def,
		meshfaultinjection.Def,
		meshratelimit.Def,
		meshtimeout.Def,
		meshtrafficpermission.Def,
		meshhealthcheck.Def,
		meshcircuitbreaker.Def,
		meshretry.Def,
		meshmetric.Def,
		meshproxypatch.Def,
	}
}
