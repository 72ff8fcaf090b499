package meshfaultinjection

import (
	"slices"
	"strconv"
	"time"

	"github.com/atoll-mesh/atoll/pkg/ir"
	"github.com/atoll-mesh/atoll/pkg/policy"
)

// inbound adds the faults of every rule, the most specific first. On a zone
// proxy a rule for a server name is about the chain of that name only.
func inbound(rules policy.InboundRules[Conf], in *policy.Inbound) {
	for _, chain := range in.Listener.Chains {
		if chain.HTTP == nil {
			continue
		}
		for _, r := range rules.List {
			client := clientOf(r.Match)
			if client != nil && client.ServerName != "" && len(chain.Match.ServerNames) > 0 {
				if !slices.Contains(chain.Match.ServerNames, client.ServerName) {
					continue
				}
			}
			for _, f := range r.Conf.HTTP {
				x, ok := f.ir()
				if !ok {
					continue
				}
				x.Name, x.Client = r.Policy.KRI().String(), client
				if client != nil || !onRoutes(&x, chain, in.Routes) {
					chain.HTTP.Faults = append(chain.HTTP.Faults, x)
				}
			}
		}
	}
}

// onRoutes gives the routes of a chain a fault for all clients: there it takes
// effect at once, also on connections that exist. Each happens by its own
// chance, so that several make one. What routes have already stays in f, and
// the result is false.
func onRoutes(f *ir.Fault, chain *ir.Chain, routes []*ir.RouteConfig) bool {
	at := slices.IndexFunc(routes, func(rc *ir.RouteConfig) bool { return rc.Name == chain.HTTP.RouteConfig })
	if at < 0 || len(routes[at].Routes) == 0 {
		return false
	}
	all := routes[at].Routes[0].Fault
	if all == nil {
		all = &ir.Fault{Name: f.Name}
	}
	if all.Abort == nil {
		all.Abort, f.Abort = f.Abort, nil
	}
	if all.Delay == nil {
		all.Delay, f.Delay = f.Delay, nil
	}
	if all.Slow == nil {
		all.Slow, f.Slow = f.Slow, nil
	}
	chain.HTTP.Disturbed = true
	for _, r := range routes[at].Routes {
		r.Fault = all
	}
	return f.Abort == nil && f.Delay == nil && f.Slow == nil
}

func clientOf(m *policy.Match) *ir.Client {
	if m == nil || m.SpiffeID == nil && m.SNI == nil {
		return nil
	}
	c := &ir.Client{}
	if m.SpiffeID != nil {
		c.SpiffeID = &ir.ValueMatch{Kind: m.SpiffeID.Type, Value: m.SpiffeID.Value}
	}
	if m.SNI != nil {
		c.ServerName = m.SNI.Value
	}
	return c
}

// ir is false for a fault that does nothing.
func (f Fault) ir() (ir.Fault, bool) {
	var out ir.Fault
	if a := f.Abort; a != nil && a.Percentage.Fraction().Numerator > 0 {
		out.Abort = &ir.Abort{Status: uint32(a.HTTPStatus), Fraction: a.Percentage.Fraction()}
	}
	if d := f.Delay; d != nil && d.Value > 0 && d.Percentage.Fraction().Numerator > 0 {
		out.Delay = &ir.Delay{Duration: time.Duration(d.Value), Fraction: d.Percentage.Fraction()}
	}
	if b := f.ResponseBandwidth; b != nil && b.kibps() > 0 && b.Percentage.Fraction().Numerator > 0 {
		out.Slow = &ir.Slow{KBps: b.kibps(), Fraction: b.Percentage.Fraction()}
	}
	return out, out.Abort != nil || out.Delay != nil || out.Slow != nil
}

// kibps is the limit in the unit of Envoy. As everywhere this policy is known,
// 1kbps is one of Envoy's units, which are 1024 bytes per second. 0 is what
// cannot be expressed.
func (b *Bandwidth) kibps() uint64 {
	m := bandwidths.FindStringSubmatch(b.Limit)
	if m == nil {
		return 0
	}
	n, err := strconv.ParseUint(m[1], 10, 64)
	if err != nil || n == 0 || n > 1_000_000_000 {
		return 0
	}
	switch m[2] {
	case "Gbps":
		n *= 1_000_000
	case "Mbps":
		n *= 1000
	}
	return n
}
