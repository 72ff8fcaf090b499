package dpserver

import (
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// nodeFacts are what configuration that many proxies share says about the proxy
// which runs it, by expressions over the node: as it was when the proxy started.
func nodeFacts(dp *resource.Object) map[string]any {
	if dp == nil {
		return nil
	}
	source, workload := dp.Labels[resource.LabelWorkload], ""
	if source != "" {
		k := dp.KRI()
		k.Short, k.Name = "wl", source
		workload = k.String()
	} else {
		source = "unknown"
	}
	return map[string]any{
		"atoll.zone":     dp.Zone(),
		"atoll.address":  kind.NetworkingOf(dp).GetAddress(),
		"atoll.source":   source,
		"atoll.workload": workload,
	}
}
