package meshretry

import (
	"time"

	"github.com/atoll-mesh/atoll/pkg/policy"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// Defaults returns the policies that a new mesh starts with, under the names
// that control planes know them by.
func Defaults(mesh string) []*resource.Object {
	times, attempts := uint32(5), uint32(5)
	perTry := policy.DurationOf(16 * time.Second)
	backOff := &BackOff{
		BaseInterval: policy.DurationOf(25 * time.Millisecond),
		MaxInterval:  policy.DurationOf(250 * time.Millisecond),
	}
	return []*resource.Object{Def.Make(mesh, "mesh-retry-all-"+mesh, &Spec{
		TargetRef: &policy.ProxyRef{TargetRef: policy.TargetRef{Kind: policy.Mesh}},
		To: []policy.To[Conf]{{
			TargetRef: policy.ToRef{TargetRef: policy.TargetRef{Kind: policy.Mesh}},
			Default: Conf{
				TCP:  &TCP{MaxConnectAttempt: &attempts},
				HTTP: &HTTP{NumRetries: &times, PerTryTimeout: perTry, BackOff: backOff},
				GRPC: &GRPC{NumRetries: &times, PerTryTimeout: perTry, BackOff: backOff},
			},
		}},
	})}
}
