package compile

import (
	"github.com/atoll-mesh/atoll/pkg/ir"
	"github.com/atoll-mesh/atoll/pkg/policy"
)

// lingering is the routes of an HTTP port that a MeshTCPRoute makes TCP. Its
// listener names none, but Envoy goes on serving the requests of connections that
// are open with the chain that it had, whose cluster may be gone: these go where
// new connections go.
func lingering(d policy.Dest, l *ir.Listener) *ir.RouteConfig {
	if !ir.IsHTTP(d.Port.Protocol) || l == nil {
		return nil
	}
	for _, c := range l.Chains {
		if c.TCP == nil || len(c.TCP.Clusters) == 0 {
			continue
		}
		name := d.Name()
		return &ir.RouteConfig{Name: name, VirtualHost: name, Routes: []*ir.Route{{
			Name: policy.DefaultRoute, Match: ir.RouteMatch{Prefix: "/"},
			Forward: &ir.Forward{Clusters: c.TCP.Clusters},
		}}}
	}
	return nil
}
