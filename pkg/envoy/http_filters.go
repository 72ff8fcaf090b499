package envoy

import (
	grpcstatsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/grpc_stats/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/atoll-mesh/atoll/pkg/ir"
)

// httpFilters are the HTTP filters in the order in which requests pass them.
// The router ends every list. A filter that is not needed gives nil.
var httpFilters = []struct {
	name   string
	config func(*ir.HTTP) *anypb.Any
}{
	{requestRBAC, httpRBAC},
	{"envoy.filters.http.grpc_stats", grpcStats},
	{faultFilters, nil}, // any number, each with its own name
	{localRateLimit, requestLimit},
	{"envoy.filters.http.router", router},
}

func grpcStats(h *ir.HTTP) *anypb.Any {
	if !h.GRPCStats {
		return nil
	}
	return pack(&grpcstatsv3.FilterConfig{
		EmitFilterState: true,
		PerMethodStatSpecifier: &grpcstatsv3.FilterConfig_StatsForAllMethods{
			StatsForAllMethods: wrapperspb.Bool(true),
		},
	})
}

func router(*ir.HTTP) *anypb.Any { return pack(&routerv3.Router{}) }
