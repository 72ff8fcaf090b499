package compile

import (
	"github.com/atoll-mesh/atoll/pkg/policy"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// Features of an agent that let proxies share what would otherwise tell them
// apart.
const (
	// FeatureLogDescriptor: the pipe for access logs is Envoy's descriptor 3.
	FeatureLogDescriptor = "atoll-access-log-descriptor"
	// FeatureNames: Envoy's environment says whose it is, see policy.AgentNames.
	FeatureNames = "atoll-names-in-environment"
)

// logDescriptor is how Envoy opens its descriptor 3.
const logDescriptor = "/proc/self/fd/3"

// logPipe is where the agent takes lines for TCP backends; empty: nowhere.
func (i *ProxyInfo) logPipe(dp *resource.Object) string {
	switch {
	case i.Workdir == "" || !i.has(FeatureLogPipe):
		return ""
	case i.has(FeatureLogDescriptor):
		return logDescriptor
	}
	return policy.SocketPath(i.Workdir, "kuma-al-"+dp.Name+"-"+dp.Mesh)
}

// proxyOf is what policies match, with what its agent can do.
func proxyOf(i *ProxyInfo, dp *resource.Object) *policy.Proxy {
	p := policy.ProxyOf(dp)
	p.Says = map[string]string{}
	if pipe := i.logPipe(dp); pipe != "" {
		p.Says[policy.SaysLogPipe] = pipe
	}
	if i.Workdir != "" && i.has(FeatureOTLP) {
		p.Says[policy.SaysOTLP] = "true"
	}
	switch workload := dp.Labels[resource.LabelWorkload]; {
	case i.has(FeatureNames):
		p.Says[policy.SaysService] = policy.AgentNames
	case workload != "":
		p.Says[policy.SaysService] = workload + "\x00" + policy.WorkloadKRI(dp.KRI(), workload)
	}
	return p
}
