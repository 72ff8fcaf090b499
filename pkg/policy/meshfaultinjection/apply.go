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
	onRoutes := map[*ir.RouteConfig][]planned{} // several chains may share them
	for _, chain := range in.Listener.Chains {
		if chain.HTTP == nil {
			continue
		}
		at := slices.IndexFunc(in.Routes, func(rc *ir.RouteConfig) bool { return rc.Name == chain.HTTP.RouteConfig })
		if at < 0 {
			continue
		}
		rc := in.Routes[at]
		rest, done := onRoutes[rc]
		if !done {
			rest = place(in, rc, plan(rules, chain))
			onRoutes[rc] = rest
		}
		for _, f := range rest {
			f.Client = clientOf(f.match)
			chain.HTTP.Faults = append(chain.HTTP.Faults, f.Fault)
		}
		chain.HTTP.Disturbed = chain.HTTP.Disturbed || slices.ContainsFunc(rc.Routes, func(r *ir.Route) bool { return r.Fault != nil })
	}
}

// planned is a fault and whose requests it is for; nil: everybody's.
type planned struct {
	ir.Fault
	match *policy.Match
}

func plan(rules policy.InboundRules[Conf], chain *ir.Chain) []planned {
	var out []planned
	for _, r := range rules.List {
		m := r.Match
		if m != nil && m.SNI != nil && len(chain.Match.ServerNames) > 0 {
			if !slices.Contains(chain.Match.ServerNames, m.SNI.Value) {
				continue
			}
			if len(chain.Match.ServerNames) == 1 { // who comes by this chain asked for that name
				m = &policy.Match{SpiffeID: m.SpiffeID}
			}
		}
		if m != nil && m.SpiffeID == nil && m.SNI == nil {
			m = nil
		}
		for _, f := range r.Conf.HTTP {
			if x, ok := f.ir(); ok {
				x.Name = r.Policy.KRI().String()
				out = append(out, planned{x, m})
			}
		}
	}
	return out
}

// place gives faults to routes: there they take effect at once, also on
// connections that exist. Clients that faults are for have copies of the routes.
// A route has one chance for each kind of fault, so what it has already stays,
// and is returned.
func place(in *policy.Inbound, rc *ir.RouteConfig, faults []planned) (rest []planned) {
	if len(faults) == 0 {
		return nil
	}
	copies := divide(in, rc, faults)
	for _, f := range faults {
		if f.match != nil && f.match.SNI != nil {
			rest = append(rest, f) // which routes do not know
			continue
		}
		var to []*ir.Fault
		for _, c := range copies {
			if f.match.Subsumes(c.match) {
				to = append(to, &c.Fault)
			}
		}
		if put(&f.Fault, to); f.Abort != nil || f.Delay != nil || f.Slow != nil {
			rest = append(rest, f)
		}
	}
	for _, r := range rc.Routes {
		if r.Fault != nil && r.Fault.Abort == nil && r.Fault.Delay == nil && r.Fault.Slow == nil {
			r.Fault = nil
		}
	}
	return rest
}

// divide has copies of the routes before them for the clients that faults are
// for, the most specific first, and returns who there is, with the fault that
// their routes have.
func divide(in *policy.Inbound, rc *ir.RouteConfig, faults []planned) []*planned {
	var out []*planned
	for _, f := range faults {
		same := func(c *planned) bool { return c.match.Subsumes(f.match) && f.match.Subsumes(c.match) }
		if f.match != nil && f.match.SNI == nil && !slices.ContainsFunc(out, same) {
			out = append(out, &planned{match: f.match})
		}
	}
	slices.SortStableFunc(out, func(a, b *planned) int { return a.match.Compare(b.match) })
	out = append(out, &planned{}) // everybody else
	for _, c := range out {
		c.Name = faults[0].Name
	}
	var routes []*ir.Route
	for _, r := range rc.Routes {
		for _, c := range out {
			x := r
			if c.match != nil {
				x = in.RouteFor(c.match, r)
			}
			x.Fault = &c.Fault
			routes = append(routes, x)
		}
	}
	rc.Routes = routes
	return out
}

// put moves what all of them can still have from a fault to others. After an
// abort of everything there is nothing to abort.
func put(f *ir.Fault, to []*ir.Fault) {
	var abort, delay, slow bool
	for _, x := range to {
		abort = abort || x.Abort != nil && x.Abort.Fraction.Numerator < x.Abort.Fraction.Denominator
		delay, slow = delay || x.Delay != nil, slow || x.Slow != nil
	}
	for _, x := range to {
		if !abort && x.Abort == nil {
			x.Abort = f.Abort
		}
		if !delay {
			x.Delay = f.Delay
		}
		if !slow {
			x.Slow = f.Slow
		}
	}
	if !abort {
		f.Abort = nil
	}
	if !delay {
		f.Delay = nil
	}
	if !slow {
		f.Slow = nil
	}
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
