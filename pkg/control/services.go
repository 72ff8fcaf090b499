package control

import (
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// Values of resource.LabelManagedBy that this package writes.
const (
	ManagedByServices  = "meshservice-generator"
	ManagedByWorkloads = "workload-generator"
)

// services keeps one MeshService for each group of Dataplanes that serve
// something. It touches none that somebody else manages.
type services struct {
	*members
	site   resource.Site
	grace  time.Duration
	log    *slog.Logger
	ending map[group]time.Time // without Dataplanes: when to delete
	differ map[group]string    // the Dataplane whose ports were last complained of
}

func (j *services) plan(p *pass) {
	if p.full {
		j.ending, j.differ = map[group]time.Time{}, map[group]string{}
	}
	for _, g := range j.dirty {
		j.settle(p, g)
	}
	for g, t := range j.ending {
		if !t.After(p.time) {
			j.settle(p, g)
		}
	}
	for _, t := range j.ending {
		p.at(t)
	}
}

func (j *services) settle(p *pass, g group) {
	delete(j.ending, g)
	id := resource.ID{Type: kind.MeshService, Mesh: g.mesh, Name: g.name}
	cur := p.get(id)
	dps := slices.DeleteFunc(j.dataplanes(p, g), func(o *resource.Object) bool {
		return !kind.ServesInbounds(kind.NetworkingOf(o)) || len(portsOf(o)) == 0
	})
	switch {
	case cur != nil && cur.Labels[resource.LabelManagedBy] != ManagedByServices:
		if len(dps) > 0 {
			j.log.Debug("a MeshService is not generated: there is one that is managed otherwise", "service", id.String())
		}
	case cur != nil && !j.site.LocallyOriginated(cur.Labels):
	case len(dps) == 0:
		if cur != nil {
			j.end(p, g, cur)
		}
	case !resource.IsDNS1035Label(g.name):
		j.log.Warn("a MeshService is not generated: the label kuma.io/workload is no RFC 1035 label; change it on the Dataplanes",
			"mesh", g.mesh, "workload", g.name, "dataplane", dps[0].Name)
	case p.get(resource.ID{Type: kind.Mesh, Name: g.mesh}) != nil:
		p.put(j.generate(p, g, cur, dps))
	}
}

// end marks a service whose Dataplanes are gone, and deletes it when the mark
// is old enough. Clients keep its name and address over a restart of everything.
func (j *services) end(p *pass, g group, cur *resource.Object) {
	started, err := time.Parse(time.RFC3339, cur.Labels[resource.LabelGraceStarted])
	if err != nil {
		started = p.time
		labels := maps.Clone(cur.Labels)
		labels[resource.LabelGraceStarted] = started.UTC().Format(time.RFC3339)
		p.put(changedObject(cur, labels, cur.Spec, cur.Status))
	}
	if end := started.Add(j.grace); end.After(p.time) {
		j.ending[g] = end
		return
	}
	p.remove(cur.ID)
}

func (j *services) generate(p *pass, g group, cur *resource.Object, dps []*resource.Object) *resource.Object {
	k := p.kind(kind.MeshService)
	meta := resource.Meta{ID: resource.ID{Type: k.Type, Mesh: g.mesh, Name: g.name}}
	spec := kind.MeshServiceSpec{State: kind.ServiceUnavailable}
	var status any
	if cur != nil {
		meta, spec, status = cur.Meta, *resource.SpecOf[kind.MeshServiceSpec](cur), cur.Status
		meta.Modified = time.Time{}
	}
	labels := j.site.ComputeLabels(k, g.name, g.mesh, meta.Labels)
	labels[resource.LabelManagedBy] = ManagedByServices
	delete(labels, resource.LabelGraceStarted)
	meta.Labels = labels
	spec.Selector = kind.MeshServiceSelector{
		DataplaneLabels: &kind.DataplaneLabels{MatchLabels: map[string]string{resource.LabelWorkload: g.name}},
	}
	spec.Ports = j.ports(g, spec.Ports, dps)
	return newObject(k, meta, &spec, status)
}

// ports is the shape of the service: that of the oldest Dataplane, but a shape
// that it has already stays while any Dataplane has it.
func (j *services) ports(g group, have []kind.MeshServicePort, dps []*resource.Object) []kind.MeshServicePort {
	has := func(dp *resource.Object, shape []kind.MeshServicePort) bool {
		return slices.EqualFunc(portsOf(dp), shape, equalPorts)
	}
	shape := portsOf(dps[0])
	if slices.ContainsFunc(dps, func(dp *resource.Object) bool { return has(dp, have) }) {
		shape = have
	}
	odd := slices.IndexFunc(dps, func(dp *resource.Object) bool { return !has(dp, shape) })
	if odd < 0 {
		delete(j.differ, g)
		return shape
	}
	if name := dps[odd].Name; j.differ[g] != name {
		j.differ[g] = name
		j.log.Warn("Dataplanes of one workload have different inbounds; the MeshService keeps the ports that it has, or takes those of the oldest",
			"mesh", g.mesh, "workload", g.name, "differs", name)
	}
	return shape
}

func portsOf(dp *resource.Object) []kind.MeshServicePort {
	var ports []kind.MeshServicePort
	for _, in := range kind.NetworkingOf(dp).GetInbound() {
		port := kind.MeshServicePort{
			Name: kind.InboundSection(in), Port: int32(in.GetPort()),
			TargetPort:  &kind.IntOrString{Int: int32(in.GetPort())},
			AppProtocol: kind.ServiceProtocol(in.GetProtocol()),
		}
		taken := slices.ContainsFunc(ports, func(q kind.MeshServicePort) bool { return q.Name == port.Name || q.Port == port.Port })
		if in.GetPort() != kind.ServicelessPort && !taken {
			ports = append(ports, port)
		}
	}
	return ports
}

func equalPorts(a, b kind.MeshServicePort) bool {
	if (a.TargetPort == nil) != (b.TargetPort == nil) || a.TargetPort != nil && *a.TargetPort != *b.TargetPort {
		return false
	}
	return a.Name == b.Name && a.Port == b.Port && a.AppProtocol == b.AppProtocol
}
