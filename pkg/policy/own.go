package policy

import (
	"strings"

	"github.com/atoll-mesh/atoll/pkg/ir"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// Facts are what policies may read of the proxy that they configure. They are
// there for its own layer only, never for what it shares with other proxies.
type Facts struct {
	Mesh, Zone, Name string
	KRI              resource.KRI // of the Dataplane
	Address          string
	Labels           map[string]string
	// Redirected: connections of the workload reach the proxy's passthrough
	// listeners.
	Redirected bool
	// ZoneProxyOnly: no workload is behind it.
	ZoneProxyOnly bool
	// LogPipe is where the agent takes lines for TCP backends; empty: nowhere.
	LogPipe string
	// MetricsSocket is where the agent answers with metrics; empty: nowhere.
	MetricsSocket string
	// ConfigSocket is where the agent asks for its part of configuration.
	ConfigSocket string
	// MetricsCert and MetricsKey are files of the proxy.
	MetricsCert, MetricsKey string
	// NodeAddress is where a collector on the proxy's node listens.
	NodeAddress string
	// Role is what the proxy is for: one of those below.
	Role string
	// OTLPFolder is where the agent has sockets that take what is for collectors;
	// empty: it has none, and Envoy sends to collectors itself.
	OTLPFolder string
	// OTLPEnv is what of the OTEL_* variables the agent has.
	OTLPEnv OTLPEnv
}

// Roles of proxies.
const (
	RoleSidecar     = "sidecar"
	RoleGateway     = "gateway"
	RoleZoneIngress = "zone-ingress"
	RoleZoneEgress  = "zone-egress"
	RoleZoneProxy   = "zone-proxy" // ingress and egress
)

// Workload is the label of that name.
func (f *Facts) Workload() string { return f.Labels[resource.LabelWorkload] }

// WorkloadKRI identifies the Workload; empty without one.
func (f *Facts) WorkloadKRI() string { return WorkloadKRI(f.KRI, f.Workload()) }

// WorkloadKRI identifies a workload beside the Dataplane or destination given.
func WorkloadKRI(beside resource.KRI, workload string) string {
	if workload == "" {
		return ""
	}
	beside.Short, beside.Name, beside.Section = "wl", workload, ""
	return beside.String()
}

// Own is the layer that only one proxy has.
type Own struct {
	*ir.Config
	*Facts
	exports []*export
}

// Passthrough yields the listeners for destinations that the mesh does not know.
func (o *Own) Passthrough() []*ir.Listener {
	var out []*ir.Listener
	for _, l := range o.Listeners {
		if strings.HasPrefix(l.Name, "self_transparentproxy_passthrough_outbound_") {
			out = append(out, l)
		}
	}
	return out
}

// collectors resolves references of the confs of one policy. What was found is
// part of who the policy is.
type collectors struct {
	all  []*resource.Object
	seen *hash
}

func (c *collectors) find(ref *CollectorRef) *Collector {
	got := FindCollector(ref, c.all)
	if got == nil {
		c.seen.text("")
	} else {
		c.seen.bytes(encode(got))
	}
	return got
}

// resolve replaces references in the confs of a policy.
func (d *Def) resolveRefs(p *parsed, all []*resource.Object) {
	if d.resolve == nil {
		return
	}
	c := &collectors{all: all, seen: new(hash).digest(p.who)}
	for i := range p.body.to {
		p.body.to[i].conf = d.resolve(p.body.to[i].conf, c.find)
	}
	for i := range p.body.rules {
		p.body.rules[i].conf = d.resolve(p.body.rules[i].conf, c.find)
	}
	if p.body.def != nil {
		p.body.def = d.resolve(p.body.def, c.find)
	}
	p.who = c.seen.sum()
}

const collectorKind = kind.MeshOpenTelemetryBackend
