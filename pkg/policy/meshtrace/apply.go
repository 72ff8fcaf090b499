package meshtrace

import (
	"cmp"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/atoll-mesh/atoll/pkg/ir"
	"github.com/atoll-mesh/atoll/pkg/policy"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

const connectTimeout = 5 * time.Second

// labels of clients are in their spans, so that only those share configuration
// which have the same. Where Envoy's environment names the workload, all share.
func labels(c Conf) policy.Labels {
	if len(c.Backends) == 0 {
		return policy.Labels{}
	}
	l := policy.Labels{Client: []string{resource.LabelZone, policy.SaysService}}
	switch b := c.Backends[0]; {
	case b.Type == Datadog: // which takes no name from the environment
		l.Client = append(l.Client, resource.LabelWorkload)
	case b.Type == OpenTelemetry && b.OpenTelemetry != nil && b.OpenTelemetry.Collector != nil && b.OpenTelemetry.Collector.HTTP:
		l.Client = append(l.Client, policy.SaysOTLP)
	}
	return l
}

func outbound(c Conf, o *policy.Outbound) {
	if o.Dest.Kind == policy.MeshExternalService {
		return // the egress traces it
	}
	name := o.Client[policy.SaysService]
	w := who{
		mesh: o.Dest.KRI.Mesh, zone: o.Client[resource.LabelZone], agent: o.Client[policy.SaysOTLP] != "",
		split: "_OUTBOUND_" + o.Dest.KRI.Name,
	}
	if name == policy.AgentNames {
		w.environment = true
		name = o.Client[resource.LabelWorkload]
	} else if workload, kri, ok := strings.Cut(name, "\x00"); ok {
		name, w.workload = workload, kri
	}
	w.service = cmp.Or(name, "unknown")
	c.write(w, o.Listener)
}

func served(c Conf, in *policy.Inbound) {
	f := in.Facts
	if f == nil {
		return
	}
	w := who{mesh: f.Mesh, zone: f.Zone, workload: f.WorkloadKRI(), service: cmp.Or(f.Workload(), "unknown"), agent: f.Exports()}
	if f.ZoneProxyOnly {
		w.service = cmp.Or(f.Workload(), f.Name)
	}
	if !in.ZoneProxy {
		w.split = "_INBOUND"
	}
	c.write(w, in.Listener)
}

// who makes the spans of a listener.
type who struct {
	mesh, zone, workload string
	service              string
	split                string // ends the service where a backend wants several
	// environment: Envoy's own has the workload, and the service for OTLP.
	environment bool
	agent       bool // takes what is for collectors
}

func (c Conf) write(w who, l *ir.Listener) {
	if len(c.Backends) == 0 {
		return
	}
	for _, chain := range l.Chains {
		if chain.HTTP != nil {
			chain.HTTP.Tracing = c.tracing(w)
		}
	}
}

func (c Conf) tracing(w who) *ir.Tracing {
	t := &ir.Tracing{}
	if s := c.Sampling; s != nil {
		t.Client, t.Random, t.Overall = share(s.Client), share(s.Random), share(s.Overall)
	}
	for _, x := range c.Tags {
		tag := ir.TraceTag{Name: x.Name}
		switch {
		case x.Header != nil:
			tag.Header = x.Header.Name
			if x.Header.Default != nil {
				tag.Value = *x.Header.Default
			}
		case x.Literal != nil && *x.Literal != "":
			tag.Value = *x.Literal
		default:
			continue // Envoy has no tags without a value
		}
		t.Tags = append(t.Tags, tag)
	}
	for _, x := range []ir.TraceTag{
		{Name: "kuma.mesh", Value: w.mesh}, {Name: "kuma.zone", Value: w.zone}, w.workloadTag(),
	} {
		given := slices.ContainsFunc(c.Tags, func(t Tag) bool { return t.Name == x.Name })
		if x.Value+x.Env != "" && !given {
			t.Tags = append(t.Tags, x)
		}
	}
	c.Backends[0].write(w, t)
	return t
}

func (w *who) workloadTag() ir.TraceTag {
	if w.environment {
		return ir.TraceTag{Name: "kuma.workload", Env: policy.EnvWorkload}
	}
	return ir.TraceTag{Name: "kuma.workload", Value: w.workload}
}

func share(v *policy.IntOrString) *float64 {
	if v == nil {
		return nil
	}
	f, ok := v.Float()
	if !ok {
		return nil
	}
	return &f
}

// write names the collector; none when its reference leads nowhere.
func (b *Backend) write(w who, t *ir.Tracing) {
	to := b.collector("")
	if to == nil {
		return
	}
	switch b.Type {
	case Zipkin:
		z := b.Zipkin
		t.Zipkin = &ir.ZipkinTracer{
			Cluster: to.name, Host: to.url.Host, Path: to.path(),
			Proto:         z.APIVersion == "httpProto",
			TraceID128Bit: z.TraceID128Bit != nil && *z.TraceID128Bit,
			SharedSpan:    z.SharedSpanContext == nil || *z.SharedSpanContext,
		}
	case Datadog:
		t.Datadog = &ir.DatadogTracer{Cluster: to.name, Service: w.service}
		if s := b.Datadog.SplitService; s != nil && *s {
			t.Datadog.Service += w.split
		}
	case OpenTelemetry:
		t.OTLP = &ir.OTLPTracer{Cluster: to.name, Service: w.service, FromEnv: w.environment}
		if c := b.OpenTelemetry.Collector; c.HTTP && !w.agent {
			t.OTLP.URI = to.url.String()
		}
	}
}

// collector is a cluster that takes spans.
type collector struct {
	name     string
	url      *url.URL
	protocol string
}

// collector is nil when the backend leads nowhere. node is where a collector
// beside the proxy listens.
func (b *Backend) collector(node string) *collector {
	switch {
	case b.Type == Zipkin && b.Zipkin != nil:
		return atURL("zipkin", b.Zipkin.URL)
	case b.Type == Datadog && b.Datadog != nil:
		return atURL("datadog", b.Datadog.URL)
	case b.Type == OpenTelemetry && b.OpenTelemetry != nil && b.OpenTelemetry.Collector != nil:
		c := b.OpenTelemetry.Collector
		out := &collector{name: "system_meshtrace_otel_" + policy.CleanName(c.Name), protocol: ir.HTTP2}
		host := cmp.Or(c.Address, node, "localhost")
		out.url = &url.URL{Scheme: "http", Host: net.JoinHostPort(host, strconv.FormatUint(uint64(c.Port), 10))}
		if c.HTTP {
			out.protocol, out.url.Path = ir.HTTP1, c.Path+"/v1/traces"
			if c.Port == 443 {
				out.url.Scheme = "https"
			}
		}
		return out
	}
	return nil
}

func atURL(kind, text string) *collector {
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" {
		return nil // stored without validation
	}
	return &collector{name: "system_meshtrace_" + kind + "_" + policy.CleanName(text), url: u, protocol: ir.HTTP1}
}

// path of requests; that of Zipkin's API when the URL has none.
func (c *collector) path() string {
	if c.url.Path == "" {
		return "/api/v2/spans"
	}
	return c.url.RequestURI()
}

func (c *collector) cluster() *ir.Cluster {
	host := c.url.Hostname()
	x := &ir.Cluster{
		Name: c.name, Type: ir.StrictDNS, Protocol: c.protocol, ConnectTimeout: new(connectTimeout),
		Endpoints: []ir.Endpoint{{Address: host, Port: 80}},
	}
	_, err := netip.ParseAddr(host)
	if err == nil {
		x.Type = ir.Static
	}
	if c.url.Scheme == "https" {
		x.Endpoints[0].Port = 443
		x.External = &ir.ExternalTLS{}
		if err != nil {
			x.External.ServerName = host
		}
	}
	if port, err := strconv.ParseUint(c.url.Port(), 10, 16); err == nil {
		x.Endpoints[0].Port = uint32(port)
	}
	return x
}

// proxy adds the cluster of the collector.
func proxy(c Conf, o *policy.Own) {
	if len(c.Backends) == 0 {
		return
	}
	to := c.Backends[0].collector(o.NodeAddress)
	if to == nil {
		return
	}
	if t := c.Backends[0].OpenTelemetry; c.Backends[0].Type == OpenTelemetry {
		if socket, ok := o.Export(t.Collector, policy.Traces, 0); ok {
			o.Clusters = append(o.Clusters, policy.AgentCluster(to.name, socket))
			return
		}
	}
	o.Clusters = append(o.Clusters, to.cluster())
}

// resolve looks the collector up.
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
