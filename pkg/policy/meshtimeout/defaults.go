package meshtimeout

import (
	"time"

	"github.com/atoll-mesh/atoll/pkg/policy"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// Defaults returns the policies that a new mesh starts with, under the names
// that control planes know them by. Labels are left to the writer. Clients wait
// at most 15 s for a response; servers leave that to their clients.
func Defaults(mesh string) []*resource.Object {
	all := &policy.ProxyRef{TargetRef: policy.TargetRef{Kind: policy.Mesh}}
	servers := &Spec{TargetRef: all, Rules: []policy.Rule[Conf]{{Default: Conf{
		ConnectionTimeout: policy.For(10 * time.Second),
		IdleTimeout:       policy.For(2 * time.Hour),
		HTTP: &HTTP{
			RequestTimeout:    policy.For(0),
			StreamIdleTimeout: policy.For(time.Hour),
			MaxStreamDuration: policy.For(0),
		},
	}}}}
	clients := &Spec{TargetRef: all, To: []policy.To[Conf]{{
		TargetRef: policy.ToRef{TargetRef: policy.TargetRef{Kind: policy.Mesh}},
		Default: Conf{
			ConnectionTimeout: policy.For(5 * time.Second),
			IdleTimeout:       policy.For(time.Hour),
			HTTP: &HTTP{
				RequestTimeout:    policy.For(15 * time.Second),
				StreamIdleTimeout: policy.For(30 * time.Minute),
			},
		},
	}}}
	return []*resource.Object{
		object(mesh, "mesh-timeout-all-"+mesh, servers),
		object(mesh, "mesh-timeout-to-all-"+mesh, clients),
	}
}

func object(mesh, name string, s *Spec) *resource.Object {
	o, err := Def.Kind().New(resource.Meta{ID: resource.ID{Type: Def.Kind().Type, Mesh: mesh, Name: name}}, s, nil)
	if err != nil {
		panic("meshtimeout: a spec written in code cannot be encoded: " + err.Error())
	}
	return o
}
