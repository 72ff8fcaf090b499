package compile

import (
	"cmp"
	"encoding/json"
	"slices"
	"strings"

	"github.com/zeebo/xxh3"

	"github.com/atoll-mesh/atoll/pkg/ir"
	"github.com/atoll-mesh/atoll/pkg/topology"
)

// placementDigest identifies a placement; zero is the one without policies.
func placementDigest(p *ir.Placement) digest {
	if p == nil {
		return digest{}
	}
	b, err := json.Marshal(p)
	if err != nil {
		panic("a placement cannot be encoded: " + err.Error())
	}
	return xxh3.Hash128(b).Bytes()
}

// buildLoad makes the endpoints of a cluster, arranged for clients in zone. A
// port that has none gets an empty assignment, so that Envoy need not wait. Where
// policies leave out all that serve, those that should not must.
func buildLoad(cluster, zone string, place *ir.Placement, e *topology.Endpoints) *ir.ClusterLoad {
	if place == nil {
		place = &ir.Placement{}
	}
	l := &ir.ClusterLoad{Cluster: cluster, Overprovisioning: place.Overprovisioning}
	if e == nil {
		return l
	}
	if arrange(l, zone, place, e.List); len(l.Localities) == 0 {
		out := slices.Clone(e.Out)
		for i := range out {
			out[i].Away = 0
		}
		arrange(l, zone, place, out)
	}
	return l
}

// arrange fills the localities of a load.
func arrange(l *ir.ClusterLoad, zone string, place *ir.Placement, list []topology.Endpoint) {
	type where struct {
		zone, subZone string
		priority      uint32
	}
	at := map[where]int{}
	cedes := false
	for i := range list {
		ep := &list[i]
		loc, ok := locality(place, zone, ep)
		if !ok {
			continue
		}
		key := where{loc.Zone, loc.SubZone, loc.Priority}
		n, seen := at[key]
		if !seen {
			n = len(l.Localities)
			at[key] = n
			l.Localities = append(l.Localities, loc)
		}
		l.Localities[n].Endpoints = append(l.Localities[n].Endpoints, ir.Endpoint{
			Address: ep.Address, Port: ep.Port, Weight: ep.Weight, Away: ep.Away, Labels: kept(place.Keep, ep.Labels),
		})
		cedes = cedes || ep.Away > 0
	}
	if place.Grouped {
		slices.SortStableFunc(l.Localities, func(a, b ir.Locality) int {
			return cmp.Or(cmp.Compare(a.Priority, b.Priority), strings.Compare(a.Zone+a.SubZone, b.Zone+b.SubZone))
		})
	}
	if place.Weighted {
		weigh(l.Localities)
	}
	closeGaps(l.Localities)
	if l.Overprovisioning == 0 && slices.ContainsFunc(l.Localities, func(x ir.Locality) bool { return x.Priority > 0 }) {
		l.Overprovisioning = stayOverprovisioning
	}
	if cedes {
		cede(l.Localities, place.Weighted)
	}
}

// locality is where an endpoint belongs; ok is false when it gets no traffic.
func locality(place *ir.Placement, zone string, ep *topology.Endpoint) (loc ir.Locality, ok bool) {
	loc.Zone = ep.Zone
	local := ep.Zone == "" || ep.Zone == zone
	switch {
	case place.Flat:
	case !place.Grouped && !local:
		loc.Priority = 1
	case place.Grouped && local:
		for _, a := range place.Affinity {
			if ep.Labels[a.Key] == a.Value {
				loc.SubZone, loc.Weight = a.Key+"="+a.Value, a.Weight
				return loc, true
			}
		}
		if place.Weighted {
			loc.Weight = 1
		}
	case place.Grouped:
		for _, s := range place.Steps {
			if slices.Contains(s.Zones, ep.Zone) != s.Except {
				loc.Priority = s.Priority
				return loc, true
			}
		}
		return loc, false
	}
	return loc, true
}

// kept is the labels that Envoy is told. Others stay behind: Envoy would use
// them for nothing, and they are nine tenths of the bytes.
func kept(keys []string, labels map[string]string) map[string]string {
	var out map[string]string
	for _, k := range keys {
		if v, ok := labels[k]; ok {
			if out == nil {
				out = map[string]string{}
			}
			out[k] = v
		}
	}
	return out
}

// weigh gives localities without a weight that of their endpoints: where weights
// count, none means no traffic.
func weigh(list []ir.Locality) {
	for i := range list {
		if list[i].Weight != 0 {
			continue
		}
		for _, e := range list[i].Endpoints {
			list[i].Weight += max(e.Weight, 1)
		}
	}
}

// closeGaps renumbers priorities, which begin with 0 and follow each other.
func closeGaps(list []ir.Locality) {
	var used []uint32
	for i := range list {
		used = append(used, list[i].Priority)
	}
	slices.Sort(used)
	used = slices.Compact(used)
	for i := range list {
		n, _ := slices.BinarySearch(used, list[i].Priority)
		list[i].Priority = uint32(n)
	}
}
