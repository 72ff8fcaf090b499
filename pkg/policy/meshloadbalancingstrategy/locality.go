package meshloadbalancingstrategy

import (
	"math"
	"slices"

	"github.com/atoll-mesh/atoll/pkg/ir"
	"github.com/atoll-mesh/atoll/pkg/policy"
)

// locality is what is said about the zones of a backend; nil when there is no
// choice among zones: external services are in none, and the service of another
// zone is only there.
func (c Conf) locality(backend policy.Dest) *LocalityAwareness {
	if backend.Kind == policy.MeshExternalService || backend.Kind == policy.MeshService && !backend.Local {
		return nil
	}
	return c.LocalityAwareness
}

func (l *LocalityAwareness) off() bool { return l.Disabled != nil && *l.Disabled }

func (l *LocalityAwareness) tags() []AffinityTag {
	if l.LocalZone == nil {
		return nil
	}
	return l.LocalZone.AffinityTags
}

// labels are those that clients and endpoints are compared by.
func labels(c Conf) policy.Labels {
	var out policy.Labels
	if c.LocalityAwareness != nil {
		for _, t := range c.LocalityAwareness.tags() {
			out.Client = append(out.Client, t.Key)
		}
	}
	return out
}

func place(c Conf, p *policy.Placing) {
	l := c.locality(p.Dest)
	switch {
	case l == nil:
		return
	case l.off():
		p.Flat = true
		return
	case l.LocalZone == nil && l.CrossZone == nil:
		return
	}
	p.Grouped = true
	p.Overprovisioning = defaultOverprovisioning
	p.Weighted = len(l.tags()) > 0
	p.Affinity = affinities(l.tags(), p.Client)
	if l.CrossZone == nil {
		return
	}
	if t := l.CrossZone.FailoverThreshold; t != nil {
		p.Overprovisioning = overprovisioning(t.Percentage)
	}
	for i, f := range l.CrossZone.Failover {
		if f.From != nil && !slices.Contains(f.From.Zones, p.Zone) {
			continue
		}
		if f.To.Type == None {
			continue
		}
		// A step without zones and with Except takes all.
		p.Steps = append(p.Steps, ir.Step{
			Zones: f.To.Zones, Except: f.To.Type != Only, Priority: min(uint32(i+1), lastPriority),
		})
	}
}

// lastPriority is the highest number that Envoy takes.
const lastPriority = 128

// affinities are the tags that a client has, with their weights: as given, or
// each nine tenths of what the ones before it leave.
func affinities(tags []AffinityTag, client map[string]string) []ir.Affinity {
	var out []ir.Affinity
	for i, t := range tags {
		v, ok := client[t.Key]
		if !ok {
			continue
		}
		a := ir.Affinity{Key: t.Key, Value: v}
		if t.Weight != nil {
			a.Weight = *t.Weight
		} else {
			a.Weight = generated(i, len(tags))
		}
		out = append(out, a)
	}
	return fit(out)
}

// generated is 9 × 10ⁿ⁻¹⁻ⁱ for the i-th of n tags; of more than nine tags the
// last ones get 1, so that the sum stays in range.
func generated(i, n int) uint32 {
	exponent := min(n, 9) - 1 - i
	if exponent < 0 {
		return 1
	}
	return 9 * uint32(math.Pow10(exponent))
}

// fit scales weights down when their sum, with the 1 of endpoints that share no
// tag, is more than Envoy takes.
func fit(list []ir.Affinity) []ir.Affinity {
	sum := uint64(1)
	for _, a := range list {
		sum += uint64(a.Weight)
	}
	by := (sum + math.MaxUint32 - 1) / math.MaxUint32
	if by <= 1 {
		return list
	}
	by++ // room for weights rounded up to 1
	for i := range list {
		list[i].Weight = max(list[i].Weight/uint32(by), 1)
	}
	return list
}

const (
	// defaultOverprovisioning leaves a zone when less than half of it is healthy.
	defaultOverprovisioning = 200
	maxOverprovisioning     = 1_000_000
)

// overprovisioning makes traffic leave a priority when less than that percentage
// of it is healthy.
func overprovisioning(percentage policy.IntOrString) uint32 {
	p, ok := percentage.Float()
	if !ok || p <= 0 {
		return defaultOverprovisioning
	}
	return uint32(min(math.Ceil(10_000/p), maxOverprovisioning))
}
