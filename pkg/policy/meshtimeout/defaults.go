package meshtimeout

import (
	"time"

	"github.com/atoll-mesh/atoll/pkg/policy"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// Defaults returns the policies that a new mesh starts with, under the names
// that control planes know them by. Labels are left to the writer. Clients wait
// at most 15 s for a response; servers leave that to their clients. How long
// clients wait for a connection depends on whom they call, and is left out.
func Defaults(mesh string) []*resource.Object {
	all := &policy.ProxyRef{TargetRef: policy.TargetRef{Kind: policy.Mesh}}
	servers := &Spec{TargetRef: all, Rules: []policy.Rule[Conf]{{Default: Conf{
		ConnectionTimeout: policy.DurationOf(10 * time.Second),
		IdleTimeout:       policy.DurationOf(2 * time.Hour),
		HTTP: &HTTP{
			RequestTimeout:    policy.DurationOf(0),
			StreamIdleTimeout: policy.DurationOf(time.Hour),
			MaxStreamDuration: policy.DurationOf(0),
		},
	}}}}
	clients := &Spec{TargetRef: all, To: []policy.To[Conf]{{
		TargetRef: policy.ToRef{TargetRef: policy.TargetRef{Kind: policy.Mesh}},
		Default: Conf{
			IdleTimeout: policy.DurationOf(time.Hour),
			HTTP: &HTTP{
				RequestTimeout:    policy.DurationOf(15 * time.Second),
				StreamIdleTimeout: policy.DurationOf(30 * time.Minute),
			},
		},
	}}}
	return []*resource.Object{
		Def.Make(mesh, "mesh-timeout-all-"+mesh, servers),
		Def.Make(mesh, "mesh-timeout-to-all-"+mesh, clients),
	}
}
