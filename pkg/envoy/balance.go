package envoy

import (
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/atoll-mesh/atoll/pkg/ir"
)

// balance writes how the cluster chooses among its endpoints.
func balance(out *clusterv3.Cluster, b *ir.Balancer) {
	if b == nil {
		return
	}
	switch b.Kind {
	case ir.LeastRequest:
		out.LbPolicy = clusterv3.Cluster_LEAST_REQUEST
		if b.Choices == nil && b.Bias == nil {
			return
		}
		conf := &clusterv3.Cluster_LeastRequestLbConfig{ChoiceCount: number(b.Choices)}
		if b.Bias != nil {
			conf.ActiveRequestBias = &corev3.RuntimeDouble{DefaultValue: *b.Bias, RuntimeKey: "least_request.active_request_bias"}
		}
		out.LbConfig = &clusterv3.Cluster_LeastRequestLbConfig_{LeastRequestLbConfig: conf}
	case ir.RingHash:
		out.LbPolicy = clusterv3.Cluster_RING_HASH
		conf := &clusterv3.Cluster_RingHashLbConfig{MinimumRingSize: large(b.MinRing), MaximumRingSize: large(b.MaxRing)}
		if b.Murmur {
			conf.HashFunction = clusterv3.Cluster_RingHashLbConfig_MURMUR_HASH_2
		}
		out.LbConfig = &clusterv3.Cluster_RingHashLbConfig_{RingHashLbConfig: conf}
	case ir.Maglev:
		out.LbPolicy = clusterv3.Cluster_MAGLEV
		if b.Table != nil {
			out.LbConfig = &clusterv3.Cluster_MaglevLbConfig_{MaglevLbConfig: &clusterv3.Cluster_MaglevLbConfig{TableSize: large(b.Table)}}
		}
	case ir.Random:
		out.LbPolicy = clusterv3.Cluster_RANDOM
	default:
		out.LbPolicy = clusterv3.Cluster_ROUND_ROBIN
	}
}

func large(v *uint64) *wrapperspb.UInt64Value {
	if v == nil {
		return nil
	}
	return wrapperspb.UInt64(*v)
}

// commonBalance writes what all balancers obey. Failing instead of panicking is
// a setting of zone-aware balancing, which excludes weights of localities: there
// a threshold of zero keeps requests from endpoints that are not healthy.
func commonBalance(c *ir.Cluster) *clusterv3.Cluster_CommonLbConfig {
	panicAt := c.PanicThreshold
	out := &clusterv3.Cluster_CommonLbConfig{}
	switch {
	case c.LocalityWeighted:
		out.LocalityConfigSpecifier = &clusterv3.Cluster_CommonLbConfig_LocalityWeightedLbConfig_{
			LocalityWeightedLbConfig: &clusterv3.Cluster_CommonLbConfig_LocalityWeightedLbConfig{},
		}
		if c.FailOnPanic {
			panicAt = new(float64)
		}
	case c.FailOnPanic:
		out.LocalityConfigSpecifier = &clusterv3.Cluster_CommonLbConfig_ZoneAwareLbConfig_{
			ZoneAwareLbConfig: &clusterv3.Cluster_CommonLbConfig_ZoneAwareLbConfig{FailTrafficOnPanic: true},
		}
	case panicAt == nil && !watched(c):
		return nil
	}
	if watched(c) {
		// Else Envoy keeps back for up to a second what it found out.
		out.UpdateMergeWindow = durationpb.New(0)
	}
	if panicAt != nil {
		out.HealthyPanicThreshold = &typev3.Percent{Value: *panicAt}
	}
	return out
}

// watched tells whether the cluster finds out by itself which endpoints serve.
func watched(c *ir.Cluster) bool { return c.Outliers != nil || len(c.HealthChecks) > 0 }

func routeHashes(list []ir.Hash) []*routev3.RouteAction_HashPolicy {
	var out []*routev3.RouteAction_HashPolicy
	for _, h := range list {
		p := &routev3.RouteAction_HashPolicy{Terminal: h.Terminal}
		switch {
		case h.Header != "":
			p.PolicySpecifier = &routev3.RouteAction_HashPolicy_Header_{Header: &routev3.RouteAction_HashPolicy_Header{HeaderName: h.Header}}
		case h.Cookie != nil:
			p.PolicySpecifier = &routev3.RouteAction_HashPolicy_Cookie_{Cookie: &routev3.RouteAction_HashPolicy_Cookie{
				Name: h.Cookie.Name, Path: h.Cookie.Path, Ttl: duration(h.Cookie.TTL),
			}}
		case h.Query != "":
			p.PolicySpecifier = &routev3.RouteAction_HashPolicy_QueryParameter_{QueryParameter: &routev3.RouteAction_HashPolicy_QueryParameter{Name: h.Query}}
		case h.State != "":
			p.PolicySpecifier = &routev3.RouteAction_HashPolicy_FilterState_{FilterState: &routev3.RouteAction_HashPolicy_FilterState{Key: h.State}}
		case h.SourceIP:
			p.PolicySpecifier = &routev3.RouteAction_HashPolicy_ConnectionProperties_{
				ConnectionProperties: &routev3.RouteAction_HashPolicy_ConnectionProperties{SourceIp: true},
			}
		default:
			continue
		}
		out = append(out, p)
	}
	return out
}

// connectionHash is what a connection without requests can be told apart by.
func connectionHash(h *ir.Hash) []*typev3.HashPolicy {
	switch {
	case h == nil:
		return nil
	case h.State != "":
		return []*typev3.HashPolicy{{PolicySpecifier: &typev3.HashPolicy_FilterState_{FilterState: &typev3.HashPolicy_FilterState{Key: h.State}}}}
	}
	return []*typev3.HashPolicy{{PolicySpecifier: &typev3.HashPolicy_SourceIp_{SourceIp: &typev3.HashPolicy_SourceIp{}}}}
}
