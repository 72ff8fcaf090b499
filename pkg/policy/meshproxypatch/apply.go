package meshproxypatch

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/atoll-mesh/atoll/pkg/ir"
	"github.com/atoll-mesh/atoll/pkg/policy"
)

// Names that listeners had before, and have now.
var renamed = map[string]string{
	"outbound:passthrough:ipv4": "self_transparentproxy_passthrough_outbound_ipv4",
	"outbound:passthrough:ipv6": "self_transparentproxy_passthrough_outbound_ipv6",
	"inbound:passthrough:ipv4":  "self_transparentproxy_passthrough_inbound_ipv4",
	"inbound:passthrough:ipv6":  "self_transparentproxy_passthrough_inbound_ipv6",
}

// egress begins the names of listeners of zone egresses.
const egress = "self_zoneegress_"

// origins are what made a resource, by how its name begins.
var origins = []struct{ prefix, origin string }{
	{"self_inbound_", "inbound"},
	{"self_transparentproxy_", "transparent"},
	{"self_zoneingress_", "ingress"},
	{egress, "egress"},
	{"system_envoy_admin", "admin"},
	{"system_probe_readiness", "admin"},
	{"system_dynamicconfig", "dynamic-config"},
	{"system_meshmetric_prometheus", "prometheus"},
	{"system_meshmetric_otel", "open-telemetry"},
	{"system_meshtrace_", "mesh-trace"},
	{"system_meshaccesslog_", "meshaccesslog"},
	{"system_identity_", "IdentityBundled"},
	{"meshpassthrough_", "meshpassthrough"},
	{"direct_access_", "direct-access"},
	{"kri_", "outbound"},
}

func originOf(name string) string {
	for _, o := range origins {
		if strings.HasPrefix(name, o.prefix) {
			return o.origin
		}
	}
	return ""
}

// is compares what a match asks for, which is everything when it is not set.
func is(want *string, got string) bool { return want == nil || *want == "" || *want == got }

func isListener(want *string, got string) bool {
	return is(want, got) || renamed[*want] == got || renamed[got] == *want && renamed[got] != ""
}

func hasTags(tags, want map[string]string) bool {
	for k, v := range want {
		if got, ok := tags[k]; !ok || v != "*" && got != v {
			return false
		}
	}
	return true
}

func (m *Match) matches(name, origin string) bool {
	return m == nil || is(m.Origin, origin) && is(m.Name, name)
}

func (m *ListenerMatch) matches(l *ir.Listener) bool {
	return m == nil || is(m.Origin, originOf(l.Name)) && isListener(m.Name, l.Name) && hasTags(l.Tags, m.Tags)
}

func (m *FilterMatch) matches(l *ir.Listener) bool {
	return m == nil || is(m.Origin, originOf(l.Name)) && isListener(m.ListenerName, l.Name) && hasTags(l.Tags, m.ListenerTags)
}

func (m *FilterMatch) name() string {
	if m == nil || m.Name == nil {
		return ""
	}
	return *m.Name
}

func (m *HostMatch) matches(rc *ir.RouteConfig, origin string) bool {
	return is(m.Origin, origin) && is(m.RouteConfigurationName, rc.Name)
}

func patch(i int, target, operation, name string, c *Change) *ir.Patch {
	p := &ir.Patch{
		Source: fmt.Sprintf("MeshProxyPatch modification %d (%s %s)", i, target, operation),
		Target: target, Operation: operation, Name: name,
	}
	if c.Value != nil {
		p.Value = *c.Value
	}
	for _, j := range c.JSONPatches {
		op := ir.JSONOperation{Op: j.Op, Path: j.Path}
		if j.From != nil {
			op.From = *j.From
		}
		if j.Value != nil {
			op.Value = json.RawMessage(*j.Value)
		}
		p.JSON = append(p.JSON, op)
	}
	return p
}

// forListener adds the modifications that are about a listener.
func (c Conf) forListener(l *ir.Listener) {
	for i := range c.AppendModifications {
		m := &c.AppendModifications[i]
		switch {
		case m.Listener != nil && m.Listener.Operation != Add && m.Listener.Match.matches(l):
			if m.Listener.Operation == Remove {
				l.Removed = true
				return
			}
			l.Patches = append(l.Patches, patch(i, ir.PatchListener, m.Listener.Operation, "", &m.Listener.Change))
		case m.NetworkFilter != nil && m.NetworkFilter.Match.matches(l):
			l.Patches = append(l.Patches, patch(i, ir.PatchNetworkFilter, m.NetworkFilter.Operation, m.NetworkFilter.Match.name(), &m.NetworkFilter.Change))
		case m.HTTPFilter != nil && m.HTTPFilter.Match.matches(l):
			l.Patches = append(l.Patches, patch(i, ir.PatchHTTPFilter, m.HTTPFilter.Operation, m.HTTPFilter.Match.name(), &m.HTTPFilter.Change))
		}
	}
}

// inline puts routes into the listener when a patch looks for them there. They
// travel by themselves otherwise, so that changing them drains no connections.
func (c Conf) inline(l *ir.Listener, routes []*ir.RouteConfig) {
	looks := slices.ContainsFunc(l.Patches, func(p *ir.Patch) bool {
		if strings.Contains(p.Value, "routeConfig") || strings.Contains(p.Value, "route_config") {
			return true
		}
		return slices.ContainsFunc(p.JSON, func(j ir.JSONOperation) bool {
			return strings.Contains(j.Path, "/routeConfig") || strings.Contains(j.From, "/routeConfig")
		})
	})
	if !looks {
		return
	}
	for _, chain := range l.Chains {
		for _, rc := range routes {
			if chain.HTTP != nil && rc != nil && chain.HTTP.RouteConfig == rc.Name {
				chain.HTTP.Inline = rc
				l.Patches = append(slices.Clip(rc.Patches), l.Patches...)
			}
		}
	}
}

func (c Conf) forRoutes(rc *ir.RouteConfig, origin string) {
	for i := range c.AppendModifications {
		m := c.AppendModifications[i].VirtualHost
		if m == nil || !m.Match.matches(rc, origin) {
			continue
		}
		name := ""
		if m.Match.Name != nil {
			name = *m.Match.Name
		}
		rc.Patches = append(rc.Patches, patch(i, ir.PatchVirtualHost, m.Operation, name, &m.Change))
	}
}

func (c Conf) forCluster(x *ir.Cluster, origin string) {
	for i := range c.AppendModifications {
		m := c.AppendModifications[i].Cluster
		if m == nil || m.Operation == Add || !m.Match.matches(x.Name, origin) {
			continue
		}
		if m.Operation == Remove {
			x.Removed = true
			return
		}
		x.Patches = append(x.Patches, patch(i, ir.PatchCluster, m.Operation, "", &m.Change))
	}
}

func outbound(c Conf, o *policy.Outbound) {
	if o.Routes != nil {
		c.forRoutes(o.Routes, originOf(o.Routes.Name))
	}
	c.forListener(o.Listener)
	c.inline(o.Listener, []*ir.RouteConfig{o.Routes})
}

// cluster: the one by which a zone egress calls what is outside is named as the
// one by which clients call the egress, which finds its endpoints another way.
func cluster(c Conf, _ policy.Dest, x *ir.Cluster) {
	origin := originOf(x.Name)
	if x.Type != ir.EDS {
		origin = originOf(egress)
	}
	c.forCluster(x, origin)
}

// served is for the listeners of zone proxies. Inbounds are part of what proxy
// finds.
func served(c Conf, in *policy.Inbound) {
	if !in.ZoneProxy {
		return
	}
	for _, rc := range in.Routes {
		c.forRoutes(rc, originOf(in.Listener.Name))
	}
	c.forListener(in.Listener)
	c.inline(in.Listener, in.Routes)
}

func proxy(c Conf, o *policy.Own) {
	for _, rc := range o.Routes {
		c.forRoutes(rc, originOf(rc.Name))
	}
	for _, l := range o.Listeners {
		c.forListener(l)
		c.inline(l, o.Routes)
	}
	for _, x := range o.Clusters {
		c.forCluster(x, originOf(x.Name))
	}
	for i := range c.AppendModifications {
		m := &c.AppendModifications[i]
		if m.Cluster != nil && m.Cluster.Operation == Add {
			o.Added = append(o.Added, patch(i, ir.PatchCluster, Add, "", &m.Cluster.Change))
		}
		if m.Listener != nil && m.Listener.Operation == Add {
			o.Added = append(o.Added, patch(i, ir.PatchListener, Add, "", &m.Listener.Change))
		}
	}
}
