package control

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// generators creates, at start, the HostnameGenerators that are missing. What a
// user changed stays as it is.
type generators struct{ defaults Defaults }

func (j *generators) plan(p *pass) {
	if p.old != nil {
		return
	}
	for _, t := range kind.DefaultGenerators(j.defaults.Site) {
		id := resource.ID{Type: kind.HostnameGenerator, Name: t.Name}
		if p.get(id) == nil {
			p.put(j.defaults.own(id, &t.Spec))
		}
	}
}

// hostnames gives the destinations that this zone knows their names. Within the
// destinations of one kind and mesh a name is unique: the generators of the zone
// come before others, and older ones before younger; so do destinations.
type hostnames struct {
	site   resource.Site
	groups map[nameGroup]map[resource.ID]*named
}

type nameGroup struct {
	kind resource.Type
	mesh string
}

// named is a destination as it was when its group was decided.
type named struct {
	labels  map[string]string
	created time.Time
	names   hostnameStatus
}

// hostnameStatus is what a destination's status says about its names.
type hostnameStatus struct {
	addresses  []kind.HostnameAddress
	generators []kind.HostnameGeneratorStatus
}

// namedKinds are those that generators select.
var namedKinds = []resource.Type{kind.MeshService, kind.MeshMultiZoneService, kind.MeshExternalService}

func (j *hostnames) plan(p *pass) {
	all := p.full
	if p.full {
		j.groups = map[nameGroup]map[resource.ID]*named{}
	}
	for range p.touched(kind.HostnameGenerator) {
		all = true
		break
	}
	dirty := map[nameGroup]bool{}
	var repair []resource.ID // only their status is not as decided
	for _, t := range namedKinds {
		if p.kind(t) == nil {
			continue
		}
		for id := range p.touched(t) {
			g := nameGroup{t, id.Mesh}
			o, was := p.now.Get(id), j.groups[g][id]
			switch {
			case o == nil && was == nil:
			case o == nil, was == nil, !was.created.Equal(o.Created), !maps.Equal(was.labels, o.Labels):
				dirty[g] = true
			case !all:
				repair = append(repair, id)
			}
		}
		if all {
			for o := range p.now.List(t, "") {
				dirty[nameGroup{t, o.Mesh}] = true
			}
		}
	}
	var order []*resource.Object
	if len(dirty) > 0 {
		order = j.generators(p)
	}
	for g := range dirty {
		j.decide(p, g, order)
	}
	for _, id := range repair {
		if g := (nameGroup{id.Type, id.Mesh}); !dirty[g] {
			j.state(p, id, j.groups[g][id].names)
		}
	}
}

// generators returns all generators in order of precedence.
func (j *hostnames) generators(p *pass) []*resource.Object {
	list := slices.Collect(p.now.List(kind.HostnameGenerator, ""))
	foreign := func(o *resource.Object) int {
		if j.site.LocallyOriginated(o.Labels) {
			return 0
		}
		return 1
	}
	slices.SortFunc(list, func(a, b *resource.Object) int {
		return cmp.Or(cmp.Compare(foreign(a), foreign(b)), a.Created.Compare(b.Created), strings.Compare(a.Name, b.Name))
	})
	return list
}

// decide names all destinations of a group anew.
func (j *hostnames) decide(p *pass, g nameGroup, order []*resource.Object) {
	list := slices.Collect(p.now.List(g.kind, g.mesh))
	slices.SortFunc(list, func(a, b *resource.Object) int {
		return cmp.Or(a.Created.Compare(b.Created), strings.Compare(a.Name, b.Name))
	})
	rows := make(map[resource.ID]*named, len(list))
	for _, o := range list {
		rows[o.ID] = &named{labels: o.Labels, created: o.Created}
	}
	owner := map[string]resource.ID{}
	for _, gen := range order {
		spec := resource.SpecOf[kind.HostnameGeneratorSpec](gen)
		for _, o := range list {
			if !spec.Selects(o.Type, o.Labels) {
				continue
			}
			names := &rows[o.ID].names
			ref := kind.GeneratorRef{CoreName: gen.Name}
			verdict := kind.Condition{Type: kind.ConditionGenerated, Status: "True", Reason: kind.ConditionGenerated}
			host, err := spec.HostnameOf(o, j.site.Zone)
			by, taken := owner[host]
			switch {
			case err != nil:
				verdict.Status, verdict.Reason, verdict.Message = "False", kind.ReasonTemplateError, err.Error()
			case taken && by != o.ID:
				verdict.Status, verdict.Reason = "False", kind.ReasonCollision
				verdict.Message = host + " is the name of " + by.Name
			case !taken:
				owner[host] = o.ID
				names.addresses = append(names.addresses, kind.HostnameAddress{
					Hostname: host, Origin: kind.OriginOfGeneratedDNS, HostnameGeneratorRef: &ref,
				})
			}
			names.generators = append(names.generators, kind.HostnameGeneratorStatus{
				HostnameGeneratorRef: ref, Conditions: []kind.Condition{verdict},
			})
		}
	}
	j.groups[g] = rows
	for _, o := range list {
		names := &rows[o.ID].names
		slices.SortFunc(names.addresses, func(a, b kind.HostnameAddress) int {
			return strings.Compare(a.HostnameGeneratorRef.CoreName, b.HostnameGeneratorRef.CoreName)
		})
		slices.SortFunc(names.generators, func(a, b kind.HostnameGeneratorStatus) int {
			return strings.Compare(a.HostnameGeneratorRef.CoreName, b.HostnameGeneratorRef.CoreName)
		})
		j.state(p, o.ID, *names)
	}
}

// state wants the names in the destination's status.
func (j *hostnames) state(p *pass, id resource.ID, names hostnameStatus) {
	o := p.get(id)
	if o == nil {
		return
	}
	var next any
	switch o.Type {
	case kind.MeshService:
		s := status[kind.MeshServiceStatus](o)
		s.Addresses, s.HostnameGenerators = names.addresses, names.generators
		next = s
	case kind.MeshMultiZoneService:
		s := status[kind.MeshMultiZoneServiceStatus](o)
		s.Addresses, s.HostnameGenerators = names.addresses, names.generators
		next = s
	case kind.MeshExternalService:
		s := status[kind.MeshExternalServiceStatus](o)
		s.Addresses, s.HostnameGenerators = names.addresses, names.generators
		next = s
	}
	if o.Status == nil && len(names.generators) == 0 {
		return
	}
	p.put(changedObject(o, o.Labels, o.Spec, next))
}
