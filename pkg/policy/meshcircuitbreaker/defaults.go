package meshcircuitbreaker

import (
	"github.com/atoll-mesh/atoll/pkg/policy"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// Defaults returns the policies that a new mesh starts with, under the names
// that control planes know them by: the limits that Envoy has anyway, written
// down where people look for them.
func Defaults(mesh string) []*resource.Object {
	limit := func(n uint32) *uint32 { return &n }
	return []*resource.Object{Def.Make(mesh, "mesh-circuit-breaker-all-"+mesh, &Spec{
		TargetRef: &policy.ProxyRef{TargetRef: policy.TargetRef{Kind: policy.Mesh}},
		To: []policy.To[Conf]{{
			TargetRef: policy.ToRef{TargetRef: policy.TargetRef{Kind: policy.Mesh}},
			Default: Conf{ConnectionLimits: &ConnectionLimits{
				MaxConnections:     limit(1024),
				MaxPendingRequests: limit(1024),
				MaxRequests:        limit(1024),
				MaxRetries:         limit(3),
			}},
		}},
	})}
}
