package compile

import (
	mesh_proto "github.com/atoll-mesh/atoll/api/kuma/mesh/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/envoy"
	"github.com/atoll-mesh/atoll/pkg/ir"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/policy"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// FeatureLogPipe: the agent sends on what Envoy writes to the log socket.
const FeatureLogPipe = "feature-tcp-accesslog-via-named-pipe"

// FeatureOTLP: the agent takes OTLP on unix sockets and sends it on.
const FeatureOTLP = "feature-otel-via-kuma-dp"

// factsOf is what policies may read of a proxy.
func factsOf(info *ProxyInfo, dp *resource.Object, n *kind.Networking, redirect *TransparentProxy) *policy.Facts {
	f := &policy.Facts{
		Mesh: dp.Mesh, Zone: dp.Zone(), Name: dp.DisplayName(), KRI: dp.KRI(),
		Address: n.GetAddress(), Labels: dp.Labels,
		Redirected:    redirect != nil && redirect.OutboundPort != 0 && !info.has(FeatureBindOutbounds),
		ZoneProxyOnly: len(n.GetListeners()) > 0 && len(n.GetInbound()) == 0 && !kind.IsDelegatedGateway(n),
		NodeAddress:   "127.0.0.1",
		MetricsCert:   info.MetricsCert, MetricsKey: info.MetricsKey,
		Role: roleOf(n), OTLPEnv: info.OTLPEnv,
	}
	if info.NodeAddress != "" {
		f.NodeAddress = info.NodeAddress
	}
	if info.Workdir != "" {
		f.LogPipe = info.logPipe(dp)
		f.MetricsSocket = policy.SocketPath(info.Workdir, "kuma-mh-"+dp.Name+"-"+dp.Mesh)
		if info.has(FeatureOTLP) {
			f.OTLPFolder = info.Workdir
		}
		f.ConfigSocket = policy.SocketPath(info.Workdir, "kuma-mesh-metric-config")
	}
	return f
}

// roleOf is what a proxy is for.
func roleOf(n *kind.Networking) string {
	var ingress, egress bool
	for _, l := range n.GetListeners() {
		ingress = ingress || l.GetType() == mesh_proto.Dataplane_Networking_Listener_ZoneIngress
		egress = egress || l.GetType() == mesh_proto.Dataplane_Networking_Listener_ZoneEgress
	}
	switch {
	case kind.IsDelegatedGateway(n):
		return policy.RoleGateway
	case ingress && egress:
		return policy.RoleZoneProxy
	case ingress:
		return policy.RoleZoneIngress
	case egress:
		return policy.RoleZoneEgress
	}
	return policy.RoleSidecar
}

// patchProblems warns of patches of the own layer that are left out.
func (o *own) patchProblems(c *ir.Config) {
	warn := func(name string, problems []string) {
		for _, p := range problems {
			o.warn.add(name, "%s", p)
		}
	}
	for _, l := range c.Listeners {
		warn(l.Name, envoy.ListenerProblems(l))
	}
	for _, x := range c.Clusters {
		warn(x.Name, envoy.ClusterProblems(x))
	}
	for _, r := range c.Routes {
		warn(r.Name, envoy.RouteProblems(r))
	}
	warn("MeshProxyPatch", envoy.AddedProblems(c.Added))
}
