package meshhealthcheck

import (
	"time"

	"github.com/atoll-mesh/atoll/pkg/ir"
	"github.com/atoll-mesh/atoll/pkg/policy"
)

// What applies where a check says nothing.
const (
	defaultInterval  = time.Minute
	defaultTimeout   = 15 * time.Second
	defaultUnhealthy = 5
	defaultHealthy   = 1
)

func cluster(c Conf, backend policy.Dest, cl *ir.Cluster) {
	if c.FailTrafficOnPanic != nil {
		cl.FailOnPanic = *c.FailTrafficOnPanic
	}
	h := ir.HealthCheck{
		Interval:           *c.Interval.Or(defaultInterval),
		Timeout:            *c.Timeout.Or(defaultTimeout),
		UnhealthyThreshold: count(c.UnhealthyThreshold, defaultUnhealthy),
		HealthyThreshold:   count(c.HealthyThreshold, defaultHealthy),
		InitialJitter:      c.InitialJitter.Get(),
		IntervalJitter:     c.IntervalJitter.Get(),
		NoTrafficInterval:  c.NoTrafficInterval.Get(),
		ReuseConnection:    c.ReuseConnection,
		LogFailures:        c.AlwaysLogHealthCheckFailures != nil && *c.AlwaysLogHealthCheckFailures,
	}
	h.IntervalJitterPercent = count(c.IntervalJitterPercent, 0)
	if c.EventLogPath != nil {
		h.EventLog = *c.EventLogPath
	}
	if c.choose(&h, backend.Port.Protocol) {
		cl.HealthChecks = append(cl.HealthChecks, h)
	}
}

func count(v *int32, def uint32) uint32 {
	if v == nil {
		return def
	}
	return uint32(*v)
}

// choose takes the check that a protocol asks for. Where that is disabled, and
// only there, TCP takes its place. It reports whether there is a check at all.
func (c Conf) choose(h *ir.HealthCheck, protocol string) bool {
	switch protocol {
	case ir.HTTP1, ir.HTTP2:
		if c.HTTP == nil {
			return false
		}
		if !on(c.HTTP.Disabled) {
			return c.tcp(h)
		}
		h.HTTP = c.HTTP.check(protocol)
		return true
	case ir.GRPC:
		if c.GRPC == nil {
			return false
		}
		if !on(c.GRPC.Disabled) {
			return c.tcp(h)
		}
		h.GRPC = c.GRPC.check()
		return true
	case ir.TCP:
		return c.tcp(h)
	}
	return false
}

func on(disabled *bool) bool { return disabled == nil || !*disabled }

func (c Conf) tcp(h *ir.HealthCheck) bool {
	if c.TCP == nil || !on(c.TCP.Disabled) {
		return false
	}
	h.TCP = &ir.TCPHealthCheck{Send: text(c.TCP.Send)}
	for _, r := range c.TCP.Receive {
		if r != "" { // everything contains it, and Envoy does not take it
			h.TCP.Receive = append(h.TCP.Receive, r)
		}
	}
	return true
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func (x *HTTP) check(protocol string) *ir.HTTPHealthCheck {
	out := &ir.HTTPHealthCheck{
		Path: "/", HTTP2: protocol == ir.HTTP2,
		Host: x.RequestHeadersToAdd.Host(), Headers: x.RequestHeadersToAdd.Ops(),
	}
	if x.Path != nil {
		out.Path = *x.Path
	}
	for _, s := range x.ExpectedStatuses {
		out.Statuses = append(out.Statuses, uint32(s))
	}
	return out
}

func (x *GRPC) check() *ir.GRPCHealthCheck {
	return &ir.GRPCHealthCheck{Service: text(x.ServiceName), Authority: text(x.Authority)}
}
