package meshtimeout

import (
	"time"

	"github.com/atoll-mesh/atoll/pkg/ir"
	"github.com/atoll-mesh/atoll/pkg/policy"
)

// What applies where no policy says anything.
const (
	defaultConnect    = 5 * time.Second
	defaultIdle       = time.Hour
	defaultRequest    = 15 * time.Second
	defaultStreamIdle = 30 * time.Minute
)

func (c Conf) http() HTTP {
	if c.HTTP == nil {
		return HTTP{}
	}
	return *c.HTTP
}

func outbound(c Conf, o *policy.Outbound) {
	for _, chain := range o.Listener.Chains {
		c.toChain(chain)
	}
	c.toRoutes(o.Routes)
}

// toChain writes what the listener decides. The idle timeout of an HTTP
// connection from the client is off: its streams have one.
func (c Conf) toChain(chain *ir.Chain) {
	if chain.TCP != nil {
		chain.TCP.IdleTimeout = c.IdleTimeout.Or(defaultIdle)
	}
	if chain.HTTP != nil {
		chain.HTTP.IdleTimeout = new(time.Duration)
		chain.HTTP.RequestHeadersTimeout = c.http().RequestHeadersTimeout.Or(0)
	}
}

func (c Conf) toRoutes(rc *ir.RouteConfig) {
	if rc == nil {
		return
	}
	h := c.http()
	for _, r := range rc.Routes {
		if r.Forward == nil {
			continue
		}
		r.Forward.Timeout = h.RequestTimeout.Or(defaultRequest)
		if h.StreamIdleTimeout != nil || r.Forward.IdleTimeout == nil {
			r.Forward.IdleTimeout = h.StreamIdleTimeout.Or(defaultStreamIdle)
		}
	}
}

// route overrides a route that a policy names. Its request timeout does not
// come from the destination's conf, its stream idle timeout does when not set.
func route(c Conf, _ policy.Dest, r *ir.Route) {
	if r.Forward == nil {
		return
	}
	h := c.http()
	r.Forward.Timeout = h.RequestTimeout.Or(defaultRequest)
	if h.StreamIdleTimeout != nil {
		r.Forward.IdleTimeout = h.StreamIdleTimeout.Get()
	}
}

// cluster leaves the time to connect as the cluster came with it where nobody
// says anything else.
func cluster(c Conf, backend policy.Dest, cl *ir.Cluster) {
	connect := cl.ConnectTimeout
	c.toCluster(cl, backend.Port.Protocol)
	if c.ConnectionTimeout == nil && connect != nil {
		cl.ConnectTimeout = connect
	}
}

// toCluster writes what connections to the endpoints obey. Connections that
// carry gRPC keep their own ideas of when to end.
func (c Conf) toCluster(cl *ir.Cluster, protocol string) {
	cl.ConnectTimeout = c.ConnectionTimeout.Or(defaultConnect)
	if protocol != ir.HTTP1 && protocol != ir.HTTP2 {
		return
	}
	h := c.http()
	cl.HTTP.IdleTimeout = c.IdleTimeout.Or(defaultIdle)
	cl.HTTP.MaxStreamDuration = h.MaxStreamDuration.Or(0)
	cl.HTTP.MaxConnectionDuration = h.MaxConnectionDuration.Or(0)
}

// inbound writes the conf for all clients, then what is for some of them. With
// rules only for some, the others get what the inbound came with.
func inbound(rules policy.InboundRules[Conf], in *policy.Inbound) {
	common, all := rules.CatchAll()
	if all || len(rules.List) == 0 {
		for _, chain := range in.Listener.Chains {
			common.toChain(chain)
		}
		for _, rc := range in.Routes {
			common.toRoutes(rc)
		}
		for _, cl := range in.Clusters {
			common.toCluster(cl, cl.Protocol)
		}
	}
	if in.ZoneProxy {
		perServerName(rules, in)
	}
	perClient(rules, in)
}
