package policy

import (
	"maps"
	"slices"
	"strings"

	"github.com/atoll-mesh/atoll/pkg/resource"
)

// location is what of a proxy decides which policies may reach it at all. Thousands
// of proxies have the same.
type location struct {
	origin, zone, namespace string
	shadow                  bool // policies with the effect "shadow" count
}

// reaching is the policies that reach a location: those that select every proxy there,
// and those that ask for more, found by a label that they ask for.
type reaching struct {
	all     set
	any     []*parsed // that ask for no label
	byLabel map[label][]*parsed
}

type label struct{ key, value string }

// Match returns the policies that select a proxy of the mesh of the Index. It looks
// at those that name one of its labels only, so that it costs the same with ten
// policies for other proxies, or for all, as with a thousand.
func (ix *Index) Match(p *Proxy, opts Options) *Matched {
	l := p.Meta.Labels
	at := ix.reaching(location{l[resource.LabelOrigin], l[resource.LabelZone], l[resource.LabelNamespace], opts.Shadow})
	m := &Matched{ix: ix, proxy: p, set: slices.Clone(at.all)}
	look := func(list []*parsed) {
		for _, pol := range list {
			if pol.names(p) {
				m.set.add(pol.bit)
			}
		}
	}
	look(at.any)
	if len(at.byLabel) > 0 {
		look(at.byLabel[label{resource.LabelDisplayName, p.Meta.DisplayName()}])
		for k, v := range l {
			if k != resource.LabelDisplayName {
				look(at.byLabel[label{k, v}])
			}
		}
	}
	m.out = ix.outbound(m.set)
	return m
}

func (ix *Index) reaching(at location) *reaching {
	if r, ok := ix.reached.Load(at); ok {
		return r.(*reaching)
	}
	r := &reaching{all: newSet(ix.bits), byLabel: map[label][]*parsed{}}
	var asking []*parsed
	for _, di := range ix.defs {
		for _, pol := range di.policies {
			switch {
			case !pol.reaches(at):
			case pol.target.Kind == Mesh:
				r.all.add(pol.bit)
			case pol.target.Kind == Dataplane && len(pol.target.Labels) == 0:
				r.any = append(r.any, pol)
			case pol.target.Kind == Dataplane:
				asking = append(asking, pol)
			}
		}
	}
	asked := map[label]int{}
	for _, pol := range asking {
		for k, v := range pol.target.Labels {
			asked[label{k, v}]++
		}
	}
	for _, pol := range asking {
		l := rarest(pol.target.Labels, asked)
		r.byLabel[l] = append(r.byLabel[l], pol)
	}
	got, _ := ix.reached.LoadOrStore(at, r)
	return got.(*reaching)
}

// rarest is the label of a selector that the fewest policies ask for.
func rarest(selector map[string]string, asked map[label]int) label {
	keys := slices.Sorted(maps.Keys(selector))
	key := slices.MinFunc(keys, func(a, b string) int {
		if d := asked[label{a, selector[a]}] - asked[label{b, selector[b]}]; d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
	return label{key, selector[key]}
}

// reaches tells whether a policy may select proxies of a location: only where their
// effect is asked for do shadow policies, and but for those of producers, policies
// of a zone stay in their zone and those of a namespace in it.
func (pol *parsed) reaches(at location) bool {
	if pol.shadow && !at.shadow {
		return false
	}
	if pol.role == RoleProducer {
		return true
	}
	own := pol.obj.Labels
	if own[resource.LabelOrigin] == resource.OriginZone && at.origin == resource.OriginZone &&
		own[resource.LabelZone] != "" && at.zone != "" && own[resource.LabelZone] != at.zone {
		return false
	}
	if pol.role == RoleConsumer || pol.role == RoleWorkloadOwner {
		ns := own[resource.LabelNamespace]
		return ns != "" && ns == at.namespace
	}
	return true
}

// names tells whether a policy that reaches a proxy, and selects Dataplanes, selects
// this one.
func (pol *parsed) names(p *Proxy) bool {
	return p.Meta.Matches(pol.target.Labels) &&
		(p.Gateway || pol.target.SectionName == "" || p.has(pol.target.SectionName))
}

func (p *Proxy) has(section string) bool {
	for i := range p.Sections {
		if p.Sections[i].Name == section {
			return true
		}
	}
	return false
}
