package policy

import "github.com/atoll-mesh/atoll/pkg/resource"

// Refers tells whether policies of this kind can name collectors of telemetry.
func (d *Def) Refers() bool { return d.resolve != nil }

// CollectorRefs returns every reference to a collector that a policy of this
// kind holds, in order.
func (d *Def) CollectorRefs(o *resource.Object) []*CollectorRef {
	if d.resolve == nil {
		return nil
	}
	var refs []*CollectorRef
	note := func(conf any) {
		d.resolve(conf, func(ref *CollectorRef) *Collector {
			if ref != nil {
				refs = append(refs, ref)
			}
			return nil
		})
	}
	b := d.bodies(o.Spec)
	for i := range b.to {
		note(b.to[i].conf)
	}
	for i := range b.rules {
		note(b.rules[i].conf)
	}
	if b.def != nil {
		note(b.def)
	}
	return refs
}
