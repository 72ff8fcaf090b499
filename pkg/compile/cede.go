package compile

import (
	"math"

	"github.com/atoll-mesh/atoll/pkg/ir"
)

// cede gives away what endpoints shall not get. Within a priority their weights sink below those of others. Where
// all of the first priority give away, the next one takes just that, and joins
// it. Weighted says that weights of localities count.
func cede(list []ir.Locality, weighted bool) {
	takers := make([]bool, len(list))
	if allCede(list) {
		for i := range list {
			if list[i].Priority > 0 {
				list[i].Priority--
				takers[i] = list[i].Priority == 0
			}
		}
	}
	for p := uint32(0); ; p++ {
		var at []int
		for i := range list {
			if list[i].Priority == p {
				at = append(at, i)
			}
		}
		if len(at) == 0 {
			return
		}
		shareOut(list, takers, at, weighted)
	}
}

// allCede tells whether every endpoint of the first priority gives away, and
// there is another priority.
func allCede(list []ir.Locality) bool {
	next := false
	for i := range list {
		if list[i].Priority > 0 {
			next = true
			continue
		}
		for _, e := range list[i].Endpoints {
			if e.Away == 0 {
				return false
			}
		}
	}
	return next
}

// shares is the unit of weights that stand for shares: large enough that none of
// thousands of endpoints is rounded away, and their sum fits Envoy's 32 bits.
const shares = 1 << 24

// shareOut weighs the localities of one priority.
func shareOut(list []ir.Locality, takers []bool, at []int, weighted bool) {
	part := make([]float64, len(list)) // of the requests, for a locality
	var all, gone, taking float64
	equal := true
	for _, i := range at {
		kept, total := sums(&list[i])
		equal = equal && kept == total
		w := total
		if weighted {
			w = float64(list[i].Weight)
		}
		part[i] = w * kept / total
		if takers[i] {
			taking += part[i]
			continue
		}
		all += w
		gone += w - part[i]
	}
	if equal {
		return
	}
	var sum float64
	for _, i := range at {
		switch {
		case takers[i]:
			part[i] *= gone / all / taking
		case taking > 0:
			part[i] /= all
		}
		sum += part[i]
	}
	for _, i := range at {
		share := part[i] / sum
		if weighted {
			list[i].Weight = weightOf(share)
			share = 1
		}
		kept, _ := sums(&list[i])
		for j := range list[i].Endpoints {
			e := &list[i].Endpoints[j]
			e.Weight = weightOf(share * remaining(e, e.Away) / kept)
		}
	}
}

func weightOf(share float64) uint32 { return uint32(max(1, math.Round(share*shares))) }

// remaining is what an endpoint still gets, in percent of its weight.
func remaining(e *ir.Endpoint, away uint32) float64 {
	return float64(max(e.Weight, 1)) * float64(100-away)
}

func sums(l *ir.Locality) (kept, total float64) {
	for j := range l.Endpoints {
		kept += remaining(&l.Endpoints[j], l.Endpoints[j].Away)
		total += remaining(&l.Endpoints[j], 0)
	}
	return kept, total
}
