package meshcircuitbreaker

import (
	"time"

	"github.com/atoll-mesh/atoll/pkg/policy"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// Defaults returns the policies that a new mesh starts with, under the names
// that control planes know them by: the limits that Envoy has anyway, written
// down where people look for them, and that endpoints are left out for a while
// which cannot be reached. What the application answers, and be it 503, does not
// count, and when nearly all are out, all are used. Retries have no fixed limit:
// they are bounded by the requests under way.
func Defaults(mesh string) []*resource.Object {
	limit := func(n uint32) *uint32 { return &n }
	split, panicAt := true, policy.IntOrString{Int: 10}
	return []*resource.Object{Def.Make(mesh, "mesh-circuit-breaker-all-"+mesh, &Spec{
		TargetRef: &policy.ProxyRef{TargetRef: policy.TargetRef{Kind: policy.Mesh}},
		To: []policy.To[Conf]{{
			TargetRef: policy.ToRef{TargetRef: policy.TargetRef{Kind: policy.Mesh}},
			Default: Conf{
				ConnectionLimits: &ConnectionLimits{
					MaxConnections:     limit(1024),
					MaxPendingRequests: limit(1024),
					MaxRequests:        limit(1024),
				},
				OutlierDetection: &OutlierDetection{
					Interval:                    policy.DurationOf(time.Second),
					BaseEjectionTime:            policy.DurationOf(10 * time.Second),
					MaxEjectionPercent:          limit(100),
					SplitExternalAndLocalErrors: &split,
					HealthyPanicThreshold:       &panicAt,
					Detectors:                   &Detectors{LocalOriginFailures: &Consecutive{Consecutive: limit(5)}},
				},
			},
		}},
	})}
}
