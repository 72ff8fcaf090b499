package failover

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/atoll-mesh/atoll/pkg/compile"
	"github.com/atoll-mesh/atoll/pkg/ir"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/topology"
	"github.com/atoll-mesh/atoll/pkg/view"
)

// Outcomes of a loss for one destination and one zone of clients.
const (
	Unaffected = "unaffected" // the same endpoints as before
	Moves      = "moves"      // others serve
	Lost       = "lost"       // nothing serves any more
	Nothing    = "nothing"    // nothing served before either
)

// Move is where requests for one port of a destination go before and after.
type Move struct {
	Mesh        string `json:"mesh"`
	Destination string `json:"destination"` // KRI with the port
	Kind        string `json:"kind"`
	Name        string `json:"name"`         // as it is shown
	Of          string `json:"of,omitempty"` // the zone whose MeshService it is
	Port        string `json:"port"`         // its name, or its number
	// Zone is where the clients are. Client is one of those whose policies are the
	// same.
	Zone    string   `json:"zone"`
	Client  string   `json:"client"`
	Outcome string   `json:"outcome"`
	Before  []Target `json:"before"`
	After   []Target `json:"after"`
}

// Target is an endpoint as Envoy gets it.
type Target struct {
	Zone     string `json:"zone"`
	Address  string `json:"address"`
	Priority uint32 `json:"priority"`
	// Share of requests, from 0 to 1, when every endpoint is healthy.
	Share float64 `json:"share"`
	// Standing is Drained or OutOfReach when it serves only because nobody else can.
	Standing string `json:"standing,omitempty"`
}

// Simulation is what would follow from a loss, in a stable order.
type Simulation struct {
	Lost  string `json:"lost"`
	Moves []Move `json:"moves"`
}

// Simulate takes the resources of a zone away and says where the requests of
// clients in other zones go before and after. Where only the zone's own clients
// are known, it takes away their workloads. It starts from the world as it is:
// with what is drained, or not reached, now.
func Simulate(in Inputs, lose string, mesh string) (*Simulation, error) {
	w := newWorld(in)
	if !slices.Contains(w.zones, lose) {
		return nil, fmt.Errorf("%q: %w; known are %s", lose, ErrNoZone, strings.Join(w.zones, ", "))
	}
	s := &Simulation{Lost: lose, Moves: []Move{}}
	for _, z := range w.zones {
		if e := w.eyes[z]; e != nil && (z != lose || !in.Site.Global) {
			s.Moves = append(s.Moves, w.moves(e, lose, mesh)...)
		}
	}
	slices.SortStableFunc(s.Moves, func(a, b Move) int {
		return cmp.Or(strings.Compare(a.Mesh, b.Mesh), strings.Compare(a.Name, b.Name),
			strings.Compare(a.Kind, b.Kind), strings.Compare(a.Destination, b.Destination),
			strings.Compare(a.Zone, b.Zone), strings.Compare(a.Client, b.Client))
	})
	return s, nil
}

// moves are those of the clients of a zone.
func (w *world) moves(e *eye, lose, only string) []Move {
	var out []Move
	in := w.compileInputs(e)
	for mesh, clients := range e.clients {
		if only != "" && mesh != only {
			continue
		}
		after := e.without(e.loss(lose, mesh))
		for _, c := range clients {
			was, is := compile.NewBalance(in, e.snap, c), compile.NewBalance(in, after, c)
			for d := range e.snap.Topology().Destinations(mesh) {
				if d.ID.Type == kind.MeshExternalService {
					continue // not of any zone
				}
				for _, p := range d.Ports {
					m := Move{
						Mesh: mesh, Destination: d.KRI.WithSection(p.Section).String(), Kind: string(d.ID.Type), Name: displayName(d), Of: d.Zone, Port: p.Section,
						Zone: e.zone, Client: c.DisplayName(),
						Before: e.standing().mark(d, targets(was.Load(d.ID, p.Section))),
						After:  e.standing().mark(d, targets(is.Load(d.ID, p.Section))),
					}
					m.Outcome = outcome(m.Before, m.After)
					out = append(out, m)
				}
			}
		}
	}
	return out
}

func displayName(d *topology.Destination) string {
	m := resource.Meta{ID: d.ID, Labels: d.Labels}
	return m.DisplayName()
}

// outcome compares. Who cannot be reached serves nothing, though Envoy tries.
func outcome(before, after []Target) string {
	switch {
	case !reached(before):
		return Nothing
	case !reached(after):
		return Lost
	case slices.Equal(serving(before), serving(after)):
		return Unaffected
	}
	return Moves
}

func reached(list []Target) bool {
	return slices.ContainsFunc(list, func(t Target) bool { return t.Standing != OutOfReach })
}

// serving are the targets that get requests.
func serving(list []Target) []Target {
	return slices.DeleteFunc(slices.Clone(list), func(t Target) bool { return t.Share == 0 })
}

// targets are the endpoints of a load and the share that each has: all of the
// first priority, by weight of its locality where those count, and then by its
// own.
func targets(l *ir.ClusterLoad) []Target {
	out := []Target{}
	if l == nil {
		return out
	}
	var weights, all float64
	for _, loc := range l.Localities {
		if loc.Priority == 0 {
			weights += float64(loc.Weight)
			all += weightOf(loc)
		}
	}
	for _, loc := range l.Localities {
		whole := weightOf(loc)
		for _, ep := range loc.Endpoints {
			t := Target{Zone: loc.Zone, Address: fmt.Sprintf("%s:%d", ep.Address, ep.Port), Priority: loc.Priority}
			w := float64(max(ep.Weight, 1))
			switch {
			case loc.Priority != 0:
			case weights > 0:
				t.Share = float64(loc.Weight) / weights * w / whole
			default:
				t.Share = w / all
			}
			out = append(out, t)
		}
	}
	slices.SortFunc(out, func(a, b Target) int {
		return cmp.Or(cmp.Compare(a.Priority, b.Priority), strings.Compare(a.Zone, b.Zone), strings.Compare(a.Address, b.Address))
	})
	return out
}

func weightOf(loc ir.Locality) float64 {
	sum := 0.0
	for _, ep := range loc.Endpoints {
		sum += float64(max(ep.Weight, 1))
	}
	return sum
}

// endpointsOf is who serves a port, whatever policies say.
func endpointsOf(s *view.Snapshot, id resource.ID, section string) []topology.Endpoint {
	if e := s.Topology().Endpoints(topology.EndpointsKey{Destination: id, Section: section}); e != nil {
		return e.List
	}
	return nil
}
