package fields

import "github.com/atoll-mesh/atoll/pkg/resource"

// exception is a field without a golden or without a test with traffic, and why.
type exception struct {
	golden, traffic string
}

var exceptions = map[resource.Type]map[Field]exception{
	"MeshHTTPRoute": {
		"spec.to[].hostnames[]": both("reserved: must be empty"),
		"spec.to[].rules[].default.filters[].urlRewrite.hostToBackendHostname": both("reserved: must not be true"),
	},
}

func both(why string) exception { return exception{why, why} }
