package meshtcproute

import (
	"math"

	"github.com/atoll-mesh/atoll/pkg/ir"
	"github.com/atoll-mesh/atoll/pkg/policy"
)

// outbound shares the connections to a destination. One that speaks HTTP is
// treated as TCP then, unless an HTTP route applies, which goes before.
func outbound(r Rule, o *policy.Outbound) {
	if o.Routed && o.HTTP() {
		return
	}
	chain := &ir.Chain{}
	if clusters := r.clusters(o); len(clusters) > 0 {
		chain.TCP = &ir.TCPProxy{StatPrefix: o.Dest.Name(), Clusters: clusters}
	}
	o.Listener.Chains = []*ir.Chain{chain}
	o.Routes = nil
}

// clusters lists the backends that there are. Without any, connections are
// closed.
func (r Rule) clusters(o *policy.Outbound) []ir.WeightedRef {
	if r.itself {
		return []ir.WeightedRef{{Cluster: o.Dest.Name(), Weight: 1}}
	}
	var out []ir.WeightedRef
	sum := uint64(0)
	for _, ref := range r.Default.BackendRefs {
		if d, ok := o.Backend(ref, r.origin.Policy); ok && ref.Share() > 0 {
			out = append(out, ir.WeightedRef{Cluster: d.Name(), Weight: ref.Share()})
			sum += uint64(ref.Share())
		}
	}
	return fit(out, sum)
}

// fit scales weights down when their sum is more than Envoy takes.
func fit(list []ir.WeightedRef, sum uint64) []ir.WeightedRef {
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

// reads names what outbound looks up.
func reads(r Rule, x *policy.Reads) {
	if r.itself {
		return
	}
	for _, ref := range r.Default.BackendRefs {
		x.Backend(ref, r.origin.Policy)
	}
}
