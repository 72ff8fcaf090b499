package liveness

import (
	"cmp"
	"iter"
	"slices"

	system_proto "github.com/atoll-mesh/atoll/api/kuma/system/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// Source is where links and zones are read from.
type Source interface {
	List(t resource.Type, mesh string) iter.Seq[*resource.Object]
}

// Matrix is what zones say of each other: all of them in a global, what one zone
// knows in a zone.
type Matrix struct {
	Zones []ZoneView          `json:"zones"`
	Links []kind.ZoneLinkSpec `json:"links"`
}

// ZoneView is a zone as others see it.
type ZoneView struct {
	Name string `json:"name"`
	// Lost: two others have withdrawn it, or one has and its control plane is not
	// connected to the global either.
	Lost bool `json:"lost"`
	// Connected says of its control plane whether it is in contact with the
	// global; absent where that is not known.
	Connected *bool `json:"connected,omitempty"`
	// Open says whether it has an ingress that is ready, by its own word; absent
	// when it said nothing.
	Open *bool `json:"open,omitempty"`
	// WithdrawnBy are the zones that send it no traffic.
	WithdrawnBy []string `json:"withdrawnBy"`
}

// MatrixOf merges the links between zones that are shown, ordered by who observes
// whom. insights tells that ZoneInsights say who is connected: in a global.
func MatrixOf(s Source, insights bool, shown func(zone string) bool) Matrix {
	m := Matrix{Zones: []ZoneView{}, Links: []kind.ZoneLinkSpec{}}
	zones := map[string]*ZoneView{}
	zone := func(name string) *ZoneView {
		if zones[name] == nil {
			zones[name] = &ZoneView{Name: name, WithdrawnBy: []string{}}
		}
		return zones[name]
	}
	for o := range s.List(kind.ZoneLink, "") {
		l := *resource.SpecOf[kind.ZoneLinkSpec](o)
		if l.Observer != o.Zone() || !shown(l.Observer) || !shown(l.Observed) {
			continue // nobody speaks for another zone
		}
		v := zone(l.Observed)
		zone(l.Observer)
		if l.Observer == l.Observed {
			v.Open = new(l.State != kind.LinkDown)
			continue
		}
		if l.Withdrawn {
			v.WithdrawnBy = append(v.WithdrawnBy, l.Observer)
		}
		m.Links = append(m.Links, l)
	}
	if insights {
		for o := range s.List(kind.ZoneInsight, "") {
			i, ok := o.Spec.(*system_proto.ZoneInsight)
			if v := zones[o.Name]; ok && v != nil {
				v.Connected = new(kind.ZoneOnline(i))
			}
		}
	}
	for _, name := range sortedKeys(zones) {
		v := zones[name]
		slices.Sort(v.WithdrawnBy)
		n := len(v.WithdrawnBy)
		v.Lost = n >= 2 || n == 1 && v.Connected != nil && !*v.Connected
		m.Zones = append(m.Zones, *v)
	}
	slices.SortFunc(m.Links, func(a, b kind.ZoneLinkSpec) int {
		if a.Observer != b.Observer {
			return cmp.Compare(a.Observer, b.Observer)
		}
		return cmp.Compare(a.Observed, b.Observed)
	})
	return m
}
