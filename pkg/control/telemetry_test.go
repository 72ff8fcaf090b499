package control_test

import (
	"maps"
	"slices"
	"testing"

	"github.com/atoll-mesh/atoll/pkg/control"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// TestTelemetryStatus: policies say which references lead nowhere, and backends
// who refers to them; both follow every change of either side.
func TestTelemetryStatus(t *testing.T) {
	inBubble(t, standalone, func(t *testing.T, p *plane) {
		// The stand-in policy refers to what its labels under "ref/" say.
		p.cfg.CollectorRefs = map[resource.Type]func(*resource.Object) []control.CollectorRef{
			"MeshTimeout": func(o *resource.Object) (refs []control.CollectorRef) {
				for _, key := range slices.Sorted(maps.Keys(o.Labels)) {
					if key == "refers/a" || key == "refers/b" {
						refs = append(refs, control.CollectorRef{Labels: map[string]string{"team": o.Labels[key]}})
					}
				}
				return refs
			},
		}
		policy := func(name, labels string) {
			p.apply("MeshTimeout", `{"mesh": "default", "name": "`+name+`", "labels": {`+labels+`}}`)
			p.settle()
		}
		backend := func(name, team string) {
			p.apply(kind.MeshOpenTelemetryBackend, `{"mesh": "default", "name": "`+name+`", "labels": {"team": "`+team+`"}, "spec": {}}`)
			p.settle()
		}
		of := func(t resource.Type, name string) string {
			return statusOf(p.get(t, "default", name))
		}
		says := func(typ, status, reason, message string) string {
			return `{"conditions":[{"type":"` + typ + `","status":"` + status + `","reason":"` + reason + `","message":"` + message + `"}]}`
		}
		unresolved := func(labels string) string {
			return says("BackendRefsResolved", "False", "UnresolvedBackendRefs", "No MeshOpenTelemetryBackend of the mesh has the labels "+labels)
		}
		allResolved := says("BackendRefsResolved", "True", "AllBackendRefsResolved", "All MeshOpenTelemetryBackend references are resolved")
		unused := says("ReferencedByPolicies", "False", "NotReferenced", "No policy refers to this backend")
		p.apply(kind.Mesh, mesh)
		p.start()
		policy("plain", ``)
		policy("both", `"refers/a": "x", "refers/b": "y"`)
		p.want("without references", of("MeshTimeout", "plain"), says("BackendRefsResolved", "True", "AllBackendRefsResolved", "No MeshOpenTelemetryBackend references configured"))
		p.want("without backends", of("MeshTimeout", "both"), unresolved("{team=x}, {team=y}"))
		backend("first", "x")
		p.want("with one backend", of("MeshTimeout", "both"), unresolved("{team=y}"))
		p.want("the first backend", of(kind.MeshOpenTelemetryBackend, "first"), says("ReferencedByPolicies", "True", "Referenced", "Referenced by MeshTimeout both"))
		backend("again", "x") // the older one stays meant
		backend("other", "y")
		p.want("with both backends", of("MeshTimeout", "both"), allResolved)
		p.want("a second one of the same labels", of(kind.MeshOpenTelemetryBackend, "again"), unused)
		policy("both", `"refers/a": "x"`)
		p.want("the other backend without reference", of(kind.MeshOpenTelemetryBackend, "other"), unused)
		p.delete(resource.ID{Type: kind.MeshOpenTelemetryBackend, Mesh: "default", Name: "first"})
		p.settle()
		p.want("the second takes over", of(kind.MeshOpenTelemetryBackend, "again"), says("ReferencedByPolicies", "True", "Referenced", "Referenced by MeshTimeout both"))
		rev := p.cfg.View.Snapshot().Revision()
		p.stop()
		p.start()
		p.want("revision after a second start", p.cfg.View.Snapshot().Revision(), rev)
	})
}
