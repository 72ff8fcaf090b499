package meshtrace

import (
	"cmp"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/atoll-mesh/atoll/pkg/ir"
	"github.com/atoll-mesh/atoll/pkg/policy"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

const connectTimeout = 5 * time.Second

// labels of clients are in their spans, so that only those share configuration
// which have the same.
func labels(c Conf) policy.Labels {
	if len(c.Backends) == 0 {
		return policy.Labels{}
	}
	return policy.Labels{Client: []string{resource.LabelWorkload, resource.LabelZone, resource.LabelNamespace}}
}

func outbound(c Conf, o *policy.Outbound) {
	if o.Dest.Kind == policy.MeshExternalService {
		return // the egress traces it
	}
	name := o.Client[resource.LabelWorkload]
	zone := o.Client[resource.LabelZone]
	beside := resource.KRI{Mesh: o.Dest.KRI.Mesh, Zone: zone, Namespace: o.Client[resource.LabelNamespace]}
	w := who{
		mesh: o.Dest.KRI.Mesh, zone: zone, workload: policy.WorkloadKRI(beside, name),
		service: cmp.Or(name, "unknown"), split: "_OUTBOUND_" + o.Dest.KRI.Name,
	}
	c.write(w, o.Listener)
}

func served(c Conf, in *policy.Inbound) {
	f := in.Facts
	if f == nil {
		return
	}
	w := who{mesh: f.Mesh, zone: f.Zone, workload: f.WorkloadKRI(), service: cmp.Or(f.Workload(), "unknown")}
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
		{Name: "kuma.mesh", Value: w.mesh}, {Name: "kuma.zone", Value: w.zone}, {Name: "kuma.workload", Value: w.workload},
	} {
		given := slices.ContainsFunc(c.Tags, func(t Tag) bool { return t.Name == x.Name })
		if x.Value != "" && !given {
			t.Tags = append(t.Tags, x)
		}
	}
	c.Backends[0].write(w, t)
	return t
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
		t.OTLP = &ir.OTLPTracer{Cluster: to.name, Service: w.service}
		if c := b.OpenTelemetry.Collector; c.HTTP {
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
	if to := c.Backends[0].collector(o.NodeAddress); to != nil {
		o.Clusters = append(o.Clusters, to.cluster())
	}
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
