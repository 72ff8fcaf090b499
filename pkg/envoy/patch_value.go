package envoy

import (
	"fmt"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/proto"

	"github.com/atoll-mesh/atoll/pkg/ir"
)

// CheckPatchValue tells what is wrong with the value of a patch whose target is
// one of the ir.Patch constants. One that is added has to obey the constraints of
// its message; one that is merged may be a part of it.
func CheckPatchValue(target, value string, added bool) error {
	var m proto.Message
	switch target {
	case ir.PatchCluster:
		m = &clusterv3.Cluster{}
	case ir.PatchListener:
		m = &listenerv3.Listener{}
	case ir.PatchNetworkFilter:
		m = &listenerv3.Filter{}
	case ir.PatchHTTPFilter:
		m = &hcmv3.HttpFilter{}
	case ir.PatchVirtualHost:
		m = &routev3.VirtualHost{}
	default:
		return fmt.Errorf("there is no target %q", target)
	}
	if err := parse(value, m); err != nil {
		return err
	}
	if !added {
		return nil
	}
	return check(m)
}
