package meshaccesslog

import (
	"slices"

	"github.com/atoll-mesh/atoll/pkg/ir"
	"github.com/atoll-mesh/atoll/pkg/policy"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// labels of clients that are in what they write, or decide where it goes.
func labels(c Conf) policy.Labels {
	var l policy.Labels
	for i := range c.Backends {
		switch b := &c.Backends[i]; b.Type {
		case TCP:
			l.Client = append(l.Client, policy.SaysLogPipe)
		case OpenTelemetry:
			l.Client = append(l.Client, resource.LabelZone)
			if b.OpenTelemetry != nil && b.OpenTelemetry.Collector != nil && b.OpenTelemetry.Collector.HTTP {
				l.Client = append(l.Client, policy.SaysOTLP)
			}
		}
	}
	return l
}

func outbound(c Conf, o *policy.Outbound) {
	l := ofClients(o)
	for _, chain := range o.Listener.Chains {
		c.toChain(chain, l, chain.HTTP != nil, o.Client[policy.SaysLogPipe])
	}
}

func route(c Conf, o *policy.Outbound, r *ir.Route) {
	r.Logs = c.logs(ofClients(o), true, o.Client[policy.SaysLogPipe])
}

func ofClients(o *policy.Outbound) line {
	l := shared(o.Dest)
	l.knownZone, l.agent = o.Client[resource.LabelZone], o.Client[policy.SaysOTLP] != ""
	return l
}

func (c Conf) toChain(chain *ir.Chain, l line, http bool, pipe string) {
	if chain.HTTP != nil {
		chain.HTTP.Logs = append(chain.HTTP.Logs, c.logs(l, http, pipe)...)
	}
	if chain.TCP != nil {
		chain.TCP.Logs = append(chain.TCP.Logs, c.logs(l, http, pipe)...)
	}
}

// inbound adds the logs of every rule, each for its clients.
func inbound(rules policy.InboundRules[Conf], in *policy.Inbound) {
	if in.Facts == nil {
		return
	}
	l := own(in.Facts, "INBOUND")
	if in.ZoneProxy {
		l.direction = "UNSPECIFIED"
	} else {
		l.destination = orUnknown(in.Facts.Workload())
		if in.Section != "" && !isNumber(in.Section) {
			l.destination = in.Facts.KRI.WithSection(in.Section).String()
		}
	}
	for _, r := range rules.List {
		if r.Match != nil && r.Match.IsEmpty() {
			continue // it matches nobody
		}
		for _, chain := range in.Listener.Chains {
			client := clientOf(r.Match)
			add := r.Conf.logs(l, chain.HTTP != nil && !in.ZoneProxy, in.Facts.LogPipe)
			for i := range add {
				add[i].Client = client
			}
			if chain.HTTP != nil {
				chain.HTTP.Logs = append(chain.HTTP.Logs, add...)
			}
			if chain.TCP != nil {
				chain.TCP.Logs = append(chain.TCP.Logs, add...)
				chain.TCP.LogConnected = in.ZoneProxy // connections between proxies stay
			}
			in.Listener.InspectTLS = in.Listener.InspectTLS || client != nil && client.ServerName != ""
		}
	}
}

func isNumber(s string) bool {
	return !slices.ContainsFunc([]byte(s), func(c byte) bool { return c < '0' || c > '9' })
}

func clientOf(m *policy.Match) *ir.Client {
	if m == nil {
		return nil
	}
	c := &ir.Client{}
	if m.SpiffeID != nil {
		c.SpiffeID = &ir.ValueMatch{Kind: m.SpiffeID.Type, Value: m.SpiffeID.Value}
	}
	if m.SNI != nil {
		c.ServerName = m.SNI.Value
	}
	return c
}

// unknown logs what goes to destinations that the mesh does not know.
func unknown(c Conf, o *policy.Own) {
	l := own(o.Facts, "OUTBOUND")
	l.source, l.destination = orUnknown(o.Facts.Workload()), "external"
	for _, x := range o.Passthrough() {
		for _, chain := range x.Chains {
			c.toChain(chain, l, chain.HTTP != nil, o.LogPipe)
		}
	}
}

// needs adds the clusters of collectors.
func needs(c Conf, o *policy.Own) {
	for i := range c.Backends {
		t := c.Backends[i].OpenTelemetry
		if t == nil || t.Collector == nil {
			continue
		}
		name := clusterName(t.Collector)
		if slices.ContainsFunc(o.Clusters, func(x *ir.Cluster) bool { return x.Name == name }) {
			continue
		}
		if socket, ok := o.Export(t.Collector, policy.Logs, 0); ok {
			o.Clusters = append(o.Clusters, policy.AgentCluster(name, socket))
		} else {
			o.Clusters = append(o.Clusters, o.CollectorCluster(name, t.Collector))
		}
	}
}

// resolve looks collectors up.
func resolve(c Conf, find func(*policy.CollectorRef) *policy.Collector) Conf {
	c.Backends = slices.Clone(c.Backends)
	for i := range c.Backends {
		if t := c.Backends[i].OpenTelemetry; t != nil {
			copied := *t
			copied.Collector = find(t.BackendRef)
			c.Backends[i].OpenTelemetry = &copied
		}
	}
	return c
}
