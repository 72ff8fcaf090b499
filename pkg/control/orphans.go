package control

import (
	"slices"

	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// orphans deletes what belonged to something that was deleted: everything in a
// Mesh, on a global everything that came from a Zone, and the insights of both
// Dataplanes and Zones.
//
// During a run it acts on deletions that it sees, never on mere absence: sync
// brings kinds in any order, a policy perhaps before its Mesh. At start it looks
// for what a crash may have left.
type orphans struct {
	kinds *resource.Kinds
	site  resource.Site
}

func (j *orphans) plan(p *pass) {
	meshes, zones := map[string]bool{}, map[string]bool{} // gone
	for id := range p.touched(kind.Mesh) {
		if p.get(id) == nil && p.before(id) != nil {
			meshes[id.Name] = true
		}
	}
	for id := range p.touched(kind.Zone) {
		if p.get(id) == nil && p.before(id) != nil {
			zones[id.Name] = true
			p.remove(resource.ID{Type: kind.ZoneInsight, Name: id.Name})
		}
	}
	if !j.site.Global {
		zones = nil
		j.insights(p)
	}
	if p.old == nil {
		j.atStart(p)
		return
	}
	if len(meshes)+len(zones) == 0 {
		return
	}
	for k := range j.kinds.All() {
		if k.Scope == resource.ScopeMesh {
			for mesh := range meshes {
				for o := range p.now.List(k.Type, mesh) {
					p.remove(o.ID)
				}
			}
		}
		if len(zones) > 0 && k.Flows.Has(resource.ZoneToGlobal) {
			for o := range p.now.List(k.Type, "") {
				if zones[o.Zone()] && !j.site.LocallyOriginated(o.Labels) {
					p.remove(o.ID)
				}
			}
		}
	}
}

// insights deletes those of Dataplanes that are gone. On a global they come and
// go by themselves.
func (j *orphans) insights(p *pass) {
	for _, t := range []resource.Type{kind.Dataplane, kind.DataplaneInsight} {
		for id := range p.touched(t) {
			id.Type = kind.Dataplane
			if p.get(id) != nil {
				continue
			}
			id.Type = kind.DataplaneInsight
			p.remove(id)
		}
	}
}

// atStart deletes what lacks its Mesh, and on a global what lacks its Zone. A
// zone with a global leaves to sync what came by sync.
func (j *orphans) atStart(p *pass) {
	for k := range j.kinds.All() {
		for o := range p.now.List(k.Type, "") {
			lost := k.Scope == resource.ScopeMesh && p.get(resource.ID{Type: kind.Mesh, Name: o.Mesh}) == nil
			if j.site.Federated && !j.site.LocallyOriginated(o.Labels) {
				lost = false
			}
			if j.site.Global && k.Flows.Has(resource.ZoneToGlobal) && !j.site.LocallyOriginated(o.Labels) && o.Zone() != "" {
				lost = lost || p.get(resource.ID{Type: kind.Zone, Name: o.Zone()}) == nil
			}
			if k.Type == kind.ZoneInsight {
				lost = p.get(resource.ID{Type: kind.Zone, Name: o.Name}) == nil
			}
			if lost {
				p.remove(o.ID)
			}
		}
	}
}

func sortedIDs(ids []resource.ID) []resource.ID {
	slices.SortFunc(ids, resource.ID.Compare)
	return slices.Compact(ids)
}
