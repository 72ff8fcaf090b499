package fields

import (
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/policy/all"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// Subject is a kind whose fields are looked after, in the order of its schema.
type Subject struct {
	Kind   *resource.Kind
	Fields []Field
}

// Policies are those with an effect on traffic, in order of application.
func Policies() (out []Subject) {
	for _, d := range all.Policies() {
		if !observing[d.Kind().Type] {
			out = append(out, Subject{d.Kind(), of(d.Kind(), d.Destinations())})
		}
	}
	return out
}

// Observing are the kinds that say what is seen of a mesh: policies in order of
// application, and where they may send it.
func Observing() (out []Subject) {
	for _, d := range all.Policies() {
		if observing[d.Kind().Type] {
			out = append(out, Subject{d.Kind(), of(d.Kind(), d.Destinations())})
		}
	}
	for _, k := range kind.All() {
		if k.Type == kind.MeshOpenTelemetryBackend {
			out = append(out, Subject{k, of(k, nil)})
		}
	}
	return out
}

// All are Policies and Observing.
func All() []Subject { return append(Policies(), Observing()...) }

var observing = map[resource.Type]bool{"MeshMetric": true, "MeshTrace": true, "MeshAccessLog": true}

// of lists the fields of a kind, whose destinations are of these kinds.
func of(k *resource.Kind, to []resource.Type) []Field {
	w := walker{kind: k.Type, to: to}
	w.walk(k.Schema, "spec")
	return w.out
}
