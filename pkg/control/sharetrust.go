package control

import (
	"maps"

	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

const (
	// labelShareTrust on a Mesh is "false" where zones shall not learn by
	// themselves whom the others trust.
	labelShareTrust = "atoll.mesh/share-trust"
	// labelKeptHome marks MeshTrusts that stay in their zone because of it, so that
	// those which a user keeps there are left alone.
	labelKeptHome = "atoll.mesh/kept-home"
)

// sharedTrust keeps the MeshTrusts of this zone from the global, and so from all
// other zones, while their Mesh says so.
type sharedTrust struct{ site resource.Site }

func (j *sharedTrust) plan(p *pass) {
	due := map[resource.ID]bool{}
	for id := range p.touched(kind.MeshTrust) {
		due[id] = true
	}
	for id := range p.touched(kind.Mesh) {
		for o := range p.now.List(kind.MeshTrust, id.Name) {
			due[o.ID] = true
		}
	}
	for id := range p.wanted { // made in this pass
		if id.Type == kind.MeshTrust {
			due[id] = true
		}
	}
	for id := range due {
		if o := p.get(id); o != nil && j.site.LocallyOriginated(o.Labels) {
			j.reconcile(p, o)
		}
	}
}

func (j *sharedTrust) reconcile(p *pass, o *resource.Object) {
	mesh := p.get(resource.ID{Type: kind.Mesh, Name: o.Mesh})
	stays := mesh != nil && mesh.Labels[labelShareTrust] == "false"
	kept := o.Labels[labelKeptHome] == "true"
	labels := maps.Clone(o.Labels)
	switch {
	case stays && o.Labels[resource.LabelKDSSync] != "disabled":
		labels[resource.LabelKDSSync], labels[labelKeptHome] = "disabled", "true"
	case !stays && kept:
		delete(labels, resource.LabelKDSSync)
		delete(labels, labelKeptHome)
	default:
		return
	}
	p.put(changedObject(o, labels, o.Spec, o.Status))
}
