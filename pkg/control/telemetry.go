package control

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// CollectorRef names a MeshOpenTelemetryBackend of a policy's mesh by labels.
type CollectorRef struct{ Labels map[string]string }

// Conditions about collectors: of policies that may refer to some, and of
// MeshOpenTelemetryBackends.
const (
	conditionResolved   = "BackendRefsResolved"
	reasonResolved      = "AllBackendRefsResolved"
	reasonUnresolved    = "UnresolvedBackendRefs"
	conditionReferenced = "ReferencedByPolicies"
	reasonReferenced    = "Referenced"
	reasonUnreferenced  = "NotReferenced"
)

// namesShown bounds how many policies a condition names.
const namesShown = 20

// telemetry states of each policy that may refer to collectors whether all its
// references lead to one, and of each collector whether it is referred to. It
// looks at a mesh as a whole: there are few of both.
type telemetry struct {
	refs map[resource.Type]func(*resource.Object) []CollectorRef
}

func (j *telemetry) plan(p *pass) {
	due := map[string]bool{}
	for id := range p.touched(kind.MeshOpenTelemetryBackend) {
		due[id.Mesh] = true
	}
	for t := range j.refs {
		for id := range p.touched(t) {
			due[id.Mesh] = true
		}
	}
	for mesh := range due {
		j.settle(p, mesh)
	}
}

func (j *telemetry) settle(p *pass, mesh string) {
	backends := slices.Collect(p.now.List(kind.MeshOpenTelemetryBackend, mesh))
	users := map[resource.ID][]string{}
	for _, t := range slices.Sorted(maps.Keys(j.refs)) {
		for o := range p.now.List(t, mesh) {
			refs := j.refs[t](o)
			var missing []string
			for _, ref := range refs {
				if b := kind.OTelBackendFor(ref.Labels, backends); b != nil {
					users[b.ID] = append(users[b.ID], fmt.Sprintf("%s %s", t, o.DisplayName()))
				} else {
					missing = append(missing, labelText(ref.Labels))
				}
			}
			if cur := p.get(o.ID); cur != nil {
				s := resource.StatusOf[kind.PolicyStatus](cur)
				p.put(changedObject(cur, cur.Labels, cur.Spec, s.With(conditionResolved, resolved(len(refs), missing))))
			}
		}
	}
	for _, b := range backends {
		if cur := p.get(b.ID); cur != nil {
			s := status[kind.MeshOpenTelemetryBackendStatus](cur)
			s.Conditions = slices.DeleteFunc(slices.Clone(s.Conditions), func(c kind.Condition) bool { return c.Type == conditionReferenced })
			s.Conditions = append(s.Conditions, referenced(users[b.ID]))
			p.put(changedObject(cur, cur.Labels, cur.Spec, s))
		}
	}
}

func resolved(refs int, missing []string) *kind.Condition {
	c := &kind.Condition{Type: conditionResolved, Status: "True", Reason: reasonResolved}
	switch {
	case refs == 0:
		c.Message = "No MeshOpenTelemetryBackend references configured"
	case len(missing) == 0:
		c.Message = "All MeshOpenTelemetryBackend references are resolved"
	default:
		c.Status, c.Reason = "False", reasonUnresolved
		c.Message = "No MeshOpenTelemetryBackend of the mesh has the labels " + shown(missing)
	}
	return c
}

func referenced(by []string) kind.Condition {
	c := kind.Condition{Type: conditionReferenced, Status: "True", Reason: reasonReferenced, Message: "Referenced by " + shown(by)}
	if len(by) == 0 {
		c.Status, c.Reason, c.Message = "False", reasonUnreferenced, "No policy refers to this backend"
	}
	return c
}

// shown lists names in order, each once, as far as there is room.
func shown(names []string) string {
	names = slices.Clone(names)
	slices.Sort(names)
	names = slices.Compact(names)
	if more := len(names) - namesShown; more > 0 {
		names = append(names[:namesShown], fmt.Sprintf("%d more", more))
	}
	return strings.Join(names, ", ")
}

func labelText(labels map[string]string) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		parts = append(parts, k+"="+labels[k])
	}
	return "{" + strings.Join(parts, ", ") + "}"
}
