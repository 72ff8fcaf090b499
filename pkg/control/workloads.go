package control

import (
	"log/slog"

	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// workloads keeps one Workload for each group of Dataplanes, for as long as
// there are any. It touches none that somebody else manages.
type workloads struct {
	*members
	site resource.Site
	log  *slog.Logger
}

func (j *workloads) plan(p *pass) {
	for _, g := range j.dirty {
		id := resource.ID{Type: kind.Workload, Mesh: g.mesh, Name: g.name}
		cur := p.get(id)
		ours := cur != nil && cur.Labels[resource.LabelManagedBy] == ManagedByWorkloads && j.site.LocallyOriginated(cur.Labels)
		switch used := len(j.of[g]) > 0; {
		case ours && !used:
			p.remove(id)
		case cur != nil, !used, p.get(resource.ID{Type: kind.Mesh, Name: g.mesh}) == nil:
		case !resource.IsDNS1035Label(g.name):
			j.log.Warn("a Workload is not generated: the label kuma.io/workload is no RFC 1035 label; change it on the Dataplanes",
				"mesh", g.mesh, "workload", g.name)
		default:
			// The API shows generated Workloads without the labels of the others.
			labels := map[string]string{
				resource.LabelMesh: g.mesh, resource.LabelEnv: j.site.Env,
				resource.LabelManagedBy: ManagedByWorkloads,
			}
			if j.site.Zone != "" {
				labels[resource.LabelZone] = j.site.Zone
			}
			p.put(newObject(p.kind(kind.Workload), resource.Meta{ID: id, Labels: labels}, &kind.WorkloadSpec{}, nil))
		}
	}
}

// workloadStatus counts the proxies of Workloads, whoever made them.
type workloadStatus struct{ *members }

func (j *workloadStatus) plan(p *pass) {
	due := map[group]bool{}
	for _, g := range j.dirty {
		due[g] = true
	}
	for id := range insightOwners(p) {
		if g, ok := groupOf(p.now.Get(id)); ok {
			due[g] = true
		}
	}
	for g := range due {
		cur := p.get(resource.ID{Type: kind.Workload, Mesh: g.mesh, Name: g.name})
		if cur == nil {
			continue
		}
		var n kind.WorkloadProxies
		for id := range j.of[g] {
			dp := p.get(id)
			if dp == nil {
				continue
			}
			n.Total++
			if connected(p, id) {
				n.Connected++
			}
			if hasReadyInbound(kind.NetworkingOf(dp)) {
				n.Healthy++
			}
		}
		p.put(changedObject(cur, cur.Labels, cur.Spec, &kind.WorkloadStatus{DataplaneProxies: n}))
	}
}

func hasReadyInbound(n *kind.Networking) bool {
	for _, in := range n.GetInbound() {
		if kind.InboundReady(in) {
			return true
		}
	}
	return false
}
