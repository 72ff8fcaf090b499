package failover

import "slices"

// Drain is a zone, or with a name one service of it, that shall get no traffic.
type Drain struct{ Zone, Mesh, Service string }

// Breaks lists the gaps that would let requests fail without it, in a stable
// order.
func Breaks(in Inputs, d Drain) ([]Gap, error) {
	r, err := Check(in, Query{Zone: d.Zone, Mesh: d.Mesh})
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(r.Gaps, func(g Gap) bool {
		return g.Severity != Error || d.Service != "" && g.Service != "" && g.Service != d.Service
	}), nil
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
