package meshmetric

import (
	"cmp"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"time"

	"github.com/atoll-mesh/atoll/pkg/ir"
	"github.com/atoll-mesh/atoll/pkg/policy"
)

const (
	connectTimeout  = 5 * time.Second
	defaultInterval = 60 * time.Second
	defaultPort     = 5670
	defaultPath     = "/metrics"
	// DefaultClient is the client of a Prometheus backend that names none.
	DefaultClient = "_kuma-default-client"
)

// agentPath is what the agent answers with metrics.
const agentPath = "/meshmetric"

// told is what the agent needs to know.
type told struct {
	Observability struct {
		Metrics metrics `json:"metrics"`
	} `json:"observability"`
}

type metrics struct {
	Applications []Application     `json:"applications"`
	Backends     []toldBackend     `json:"backends"`
	Sidecar      *Sidecar          `json:"sidecar,omitempty"`
	ExtraLabels  map[string]string `json:"extraLabels,omitempty"`
}

type toldBackend struct {
	Type          string    `json:"type"`
	Name          string    `json:"name"`
	OpenTelemetry *toldOTel `json:"openTelemetry,omitempty"`
}

// toldOTel is a collector behind a unix socket of Envoy.
type toldOTel struct {
	Endpoint        string `json:"endpoint"`
	RefreshInterval string `json:"refreshInterval"`
	HTTP            bool   `json:"useHTTP,omitempty"`
	Path            string `json:"path,omitempty"`
}

// proxy makes what serves or sends metrics, and tells the agent which.
func proxy(c Conf, o *policy.Own) {
	if o.Facts == nil {
		return
	}
	m := metrics{Sidecar: c.Sidecar, ExtraLabels: extraLabels(o.Facts)}
	served := false
	for i := range c.Backends {
		b := &c.Backends[i]
		switch {
		case b.Type == Prometheus && b.Prometheus != nil:
			if name := b.Prometheus.serve(o); name != "" {
				m.Backends = append(m.Backends, toldBackend{Type: Prometheus, Name: name})
			}
		case b.Type == OpenTelemetry && b.OpenTelemetry != nil && b.OpenTelemetry.Collector != nil:
			to := b.OpenTelemetry
			interval := *to.RefreshInterval.Or(defaultInterval)
			if _, ok := o.Export(to.Collector, policy.Metrics, interval); ok {
				served = true // the agent was told with all that is for the collector
			} else if t := to.pass(o, interval); t != nil {
				m.Backends = append(m.Backends, toldBackend{Type: OpenTelemetry, Name: to.Collector.Name, OpenTelemetry: t})
			}
		}
	}
	if len(m.Backends) == 0 && !served {
		return
	}
	if !o.ZoneProxyOnly {
		m.Applications = slices.Clone(c.Applications)
		for i := range m.Applications {
			if m.Applications[i].Path == nil {
				m.Applications[i].Path = new(defaultPath)
			}
		}
	}
	var t told
	t.Observability.Metrics = m
	o.Configure(agentPath[1:], t)
}

func extraLabels(f *policy.Facts) map[string]string {
	labels := map[string]string{"mesh": f.Mesh, "zone": f.Zone, "kuma.proxy_role": f.Role}
	if !f.ZoneProxyOnly {
		labels["kuma.workload"] = f.Workload()
	}
	for k, v := range labels {
		if v == "" {
			delete(labels, k)
		}
	}
	return labels
}

// Client is who finds the proxies of the backend.
func (b *PrometheusBackend) Client() string {
	if b.ClientID == nil || *b.ClientID == "" {
		return DefaultClient
	}
	return *b.ClientID
}

// Where is the port and path that serve metrics.
func (b *PrometheusBackend) Where() (port uint32, path string) {
	return cmp.Or(uint32(b.Port), defaultPort), cmp.Or(b.Path, defaultPath)
}

// Secured tells whether metrics are served with TLS by a proxy that has these
// files.
func (b *PrometheusBackend) Secured(cert, key string) bool {
	return b.TLS != nil && b.TLS.Mode == ProvidedTLS && cert != "" && key != ""
}

// serve makes a listener that leads to the agent. Empty: there can be none.
func (b *PrometheusBackend) serve(o *policy.Own) (name string) {
	if o.MetricsSocket == "" {
		return ""
	}
	if _, err := netip.ParseAddr(o.Address); err != nil {
		return ""
	}
	port, path := b.Where()
	name = "default-backend"
	if b.ClientID != nil && *b.ClientID != "" {
		name = *b.ClientID
	}
	resource := "system_meshmetric_prometheus_" + name
	for _, l := range o.Listeners {
		if l.Address == o.Address && l.Port == port {
			return "" // Envoy can listen there once
		}
		if l.Name == resource { // of the same client, on another port
			resource = fmt.Sprintf("system_meshmetric_prometheus_%s_%d", name, port)
		}
	}
	chain := &ir.Chain{HTTP: &ir.HTTP{StatPrefix: resource, RouteConfig: resource, InternalCIDRs: []string{"127.0.0.1/32"}}}
	if b.Secured(o.MetricsCert, o.MetricsKey) {
		chain.Files = &ir.CertificateFiles{Certificate: o.MetricsCert, Key: o.MetricsKey}
	}
	o.Listeners = append(o.Listeners, &ir.Listener{
		Name: resource, Direction: ir.Inbound, Address: o.Address, Port: port, Chains: []*ir.Chain{chain},
	})
	o.Routes = append(o.Routes, &ir.RouteConfig{
		Name: resource, VirtualHost: resource,
		Routes: []*ir.Route{{
			Match: ir.RouteMatch{Path: path},
			Forward: &ir.Forward{
				Clusters:    []ir.WeightedRef{{Cluster: resource, Weight: 1}},
				PathRewrite: &ir.PathRewrite{Full: new(agentPath)},
			},
		}},
	})
	o.Clusters = append(o.Clusters, &ir.Cluster{
		Name: resource, Type: ir.Static, Protocol: ir.HTTP1, ConnectTimeout: new(connectTimeout), Socket: o.MetricsSocket,
	})
	return name
}

// pass lets an agent that calls no collectors itself reach one through Envoy.
func (b *OTelBackend) pass(o *policy.Own, interval time.Duration) *toldOTel {
	if o.ConfigSocket == "" {
		return nil
	}
	name := "system_meshmetric_otel_" + policy.CleanName(b.Collector.Name)
	socket := policy.SocketPath(filepath.Dir(o.ConfigSocket), "kuma-mesh-metric-otel-"+policy.CleanName(b.Collector.Name))
	if !slices.ContainsFunc(o.Listeners, func(l *ir.Listener) bool { return l.Name == name }) {
		o.Listeners = append(o.Listeners, &ir.Listener{Name: name, Socket: socket, Chains: []*ir.Chain{{
			TCP: &ir.TCPProxy{StatPrefix: name, Clusters: []ir.WeightedRef{{Cluster: name, Weight: 1}}},
		}}})
		o.Clusters = append(o.Clusters, o.CollectorCluster(name, b.Collector))
	}
	return &toldOTel{Endpoint: socket, RefreshInterval: interval.String(), HTTP: b.Collector.HTTP, Path: b.Collector.Path}
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
