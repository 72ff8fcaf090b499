package cp

import (
	"github.com/atoll-mesh/atoll/pkg/control"
	"github.com/atoll-mesh/atoll/pkg/policy"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// collectorRefs reads the references to collectors out of every kind of policy
// that can have some.
func collectorRefs(policies []*policy.Def) map[resource.Type]func(*resource.Object) []control.CollectorRef {
	all := map[resource.Type]func(*resource.Object) []control.CollectorRef{}
	for _, d := range policies {
		if !d.Refers() {
			continue
		}
		all[d.Kind().Type] = func(o *resource.Object) []control.CollectorRef {
			var refs []control.CollectorRef
			for _, ref := range d.CollectorRefs(o) {
				refs = append(refs, control.CollectorRef{Labels: ref.Labels})
			}
			return refs
		}
	}
	return all
}
