package meshretry

import (
	"time"

	"github.com/atoll-mesh/atoll/pkg/policy"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// Defaults returns the policies that a new mesh starts with, under the names
// that control planes know them by. Tries after the first go to endpoints and,
// after two, to priorities that were not tried. A try may take as long as the
// request: one that is slow is not helped by another one.
func Defaults(mesh string) []*resource.Object {
	times, attempts, looks := uint32(3), uint32(5), int64(hostAttempts)
	backOff := &BackOff{
		BaseInterval: policy.DurationOf(25 * time.Millisecond),
		MaxInterval:  policy.DurationOf(250 * time.Millisecond),
	}
	return []*resource.Object{Def.Make(mesh, "mesh-retry-all-"+mesh, &Spec{
		TargetRef: &policy.ProxyRef{TargetRef: policy.TargetRef{Kind: policy.Mesh}},
		To: []policy.To[Conf]{{
			TargetRef: policy.ToRef{TargetRef: policy.TargetRef{Kind: policy.Mesh}},
			Default: Conf{
				TCP: &TCP{MaxConnectAttempt: &attempts},
				HTTP: &HTTP{
					NumRetries: &times, BackOff: backOff, HostSelectionMaxAttempts: &looks,
					HostSelection: []HostSelection{
						{Predicate: OmitPreviousHosts, UpdateFrequency: triesPerPriority},
						{Predicate: OmitPreviousPriorities, UpdateFrequency: triesPerPriority},
					},
				},
				GRPC: &GRPC{NumRetries: &times, BackOff: backOff},
			},
		}},
	})}
}
