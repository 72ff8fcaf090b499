package failover

import "slices"

// Drain is a zone, or with a name one service of it, that shall get no traffic.
type Drain struct{ Zone, Mesh, Service string }

// Breaks lists the gaps that would let requests fail without it, in a stable
// order. What is drained already does not count as who takes its requests: two
// drains of the same service would leave each other what both shall lose.
func Breaks(in Inputs, d Drain) ([]Gap, error) {
	r, err := Check(in, Query{Zone: d.Zone, Mesh: d.Mesh})
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(r.Gaps, func(g Gap) bool {
		return g.Severity != Error && !r.onlyDrained(g) || d.Service != "" && g.Service != "" && g.Service != d.Service
	}), nil
}

// onlyDrained tells of a gap that it is about a drained zone, when no other than
// drained ones would serve.
func (r *Report) onlyDrained(g Gap) bool {
	if g.Code != IsDraining {
		return false
	}
	return slices.ContainsFunc(r.Losses, func(l Loss) bool {
		return l.Mesh == g.Mesh && l.Service == g.Service && l.Zone == g.Zone && len(l.Serves) > 0 &&
			!slices.ContainsFunc(l.Serves, func(s Server) bool { return !s.Drained })
	})
}

// String is a gap in one line.
func (g Gap) String() string {
	s := g.Code + " "
	switch {
	case g.Service != "":
		s += "service " + g.Service + " of mesh " + g.Mesh + ": "
	case g.Mesh != "":
		s += "mesh " + g.Mesh + ": "
	}
	return s + g.Message + "; " + g.Remedy
}
