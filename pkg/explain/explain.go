// Package explain walks the way of a request through the mesh, from a proxy to
// what it calls, and says what happens at each step, because of which policies,
// and where it first goes wrong. It uses what compilation gives the proxies, and
// is a pure function of a snapshot.
package explain

import (
	"fmt"

	meshv1 "github.com/atoll-mesh/atoll/api/kuma/mesh/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/compile"
	"github.com/atoll-mesh/atoll/pkg/identity"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/policy"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/topology"
	"github.com/atoll-mesh/atoll/pkg/view"
)

// Inputs are what the answer depends on besides a snapshot and the question.
type Inputs struct {
	Compile compile.Inputs
	// Info is what a proxy said about itself when it connected.
	Info func(dataplane resource.ID, insight *meshv1.DataplaneInsight) compile.ProxyInfo
	// Sees tells whether whoever asks may read a resource. What they may not is
	// as if it were not there, or is not named. Nil: everything.
	Sees func(*resource.Object) bool
}

// Query is who calls whom.
type Query struct {
	Mesh string
	From string // a Dataplane, or a service, of which the first proxy is taken
	To   string // a hostname, virtual address, service or KRI, with :port where there are several
}

// State is how a step went.
type State string

// States of a step.
const (
	OK      State = "ok"
	Warning State = "warning" // it works, though perhaps not as meant
	Broken  State = "broken"
	Unknown State = "unknown" // it is decided elsewhere
)

// Step is one part of the way.
type Step struct {
	Name     string   `json:"name"`
	State    State    `json:"state"`
	Text     string   `json:"text"`
	Details  []string `json:"details,omitempty"`
	Policies []Source `json:"policies,omitempty"`
	Remedy   string   `json:"remedy,omitempty"`
}

// Source is one field of a policy that has a part in a step.
type Source struct {
	Kind   resource.Type `json:"kind"`
	Policy string        `json:"policy,omitempty"` // KRI; empty: of no single one, or of one that may not be read
	Index  int           `json:"ruleIndex"`
	Field  string        `json:"field"`
	Value  any           `json:"value"`
}

// Report is the whole way.
type Report struct {
	Mesh  string `json:"mesh"`
	From  string `json:"from"`
	To    string `json:"to"`
	OK    bool   `json:"ok"` // no step is broken
	Steps []Step `json:"steps"`
	// Broken is the name of the first step that is broken, with its remedy in it.
	Broken string `json:"broken,omitempty"`
}

// walk is one explanation under way.
type walk struct {
	in     *Inputs
	s      *view.Snapshot
	q      Query
	steps  []Step
	dp     *resource.Object
	info   compile.ProxyInfo
	result *compile.Result
	ids    *identity.Mesh
	dest   *topology.Destination
	port   topology.Port
	name   string // of the listener and the cluster of the destination

	refusals []refusal // of servers
}

// Explain answers a question from a snapshot.
func Explain(in Inputs, s *view.Snapshot, q Query) *Report {
	if in.Sees == nil {
		in.Sees = func(*resource.Object) bool { return true }
	}
	w := &walk{in: &in, s: s, q: q}
	for _, step := range []func() bool{w.caller, w.destination, w.address, w.listener, w.route, w.endpoints, w.rejections} {
		if !step() {
			break // nothing can be said about what follows
		}
	}
	r := &Report{Mesh: q.Mesh, From: q.From, To: q.To, OK: true, Steps: w.steps}
	if w.dp != nil {
		r.From = w.dp.Name
	}
	if w.name != "" {
		r.To = w.name
	}
	for _, st := range w.steps {
		if st.State == Broken {
			r.OK, r.Broken = false, st.Name
			break
		}
	}
	return r
}

func (w *walk) add(name string, state State, format string, args ...any) *Step {
	w.steps = append(w.steps, Step{Name: name, State: state, Text: fmt.Sprintf(format, args...)})
	return &w.steps[len(w.steps)-1]
}

func (s *Step) detail(format string, args ...any) {
	s.Details = append(s.Details, fmt.Sprintf(format, args...))
}

// fix says what to do about a broken step.
func (s *Step) fix(format string, args ...any) *Step {
	s.Remedy = fmt.Sprintf(format, args...)
	return s
}

// because adds the fields of policies.
func (w *walk) because(s *Step, list []policy.Applied) {
	for _, a := range list {
		for _, f := range a.Fields() {
			src := Source{Kind: a.Type, Field: f.Path, Value: f.Value, Index: -1}
			if f.Policy != nil && w.in.Sees(f.Policy) {
				src.Policy, src.Index = f.Policy.KRI().String(), f.Index
			}
			s.Policies = append(s.Policies, src)
		}
	}
}

// insight is that of a Dataplane, an empty one if there is none.
func (w *walk) insight(id resource.ID) *meshv1.DataplaneInsight {
	if o := w.s.Get(resource.ID{Type: kind.DataplaneInsight, Mesh: id.Mesh, Name: id.Name}); o != nil {
		return resource.SpecOf[meshv1.DataplaneInsight](o)
	}
	return &meshv1.DataplaneInsight{}
}

// dest is a port of a destination as policies see it.
func destOf(d *topology.Destination, section string) (policy.Dest, bool) {
	p := &policy.Destination{Kind: d.ID.Type, KRI: d.KRI, Labels: d.Labels, Created: d.Created, Local: d.Local}
	at := -1
	for i, x := range d.Ports {
		p.Ports = append(p.Ports, resource.Port{Section: x.Section, Number: x.Number, Protocol: x.Protocol})
		if x.Section == section {
			at = i
		}
	}
	if at < 0 {
		return policy.Dest{}, false
	}
	return policy.Dest{Destination: p, Port: p.Ports[at]}, true
}
