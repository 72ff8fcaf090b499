package cp

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/atoll-mesh/atoll/pkg/compile"
)

// measureView exports what the memory view holds.
func (p *plane) measureView() {
	p.metrics.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "atoll_view_revision", Help: "Revision of the newest snapshot.",
	}, func() float64 { return float64(p.view.Snapshot().Revision()) }))
	p.metrics.MustRegister(resources{p, prometheus.NewDesc("atoll_resources", "Resources by kind.", []string{"kind"}, nil)})
}

// resources counts what there is when somebody asks.
type resources struct {
	p    *plane
	desc *prometheus.Desc
}

// Describe implements prometheus.Collector.
func (r resources) Describe(ch chan<- *prometheus.Desc) { ch <- r.desc }

// Collect implements prometheus.Collector.
func (r resources) Collect(ch chan<- prometheus.Metric) {
	s := r.p.view.Snapshot()
	for k := range r.p.kinds.All() {
		ch <- prometheus.MustNewConstMetric(r.desc, prometheus.GaugeValue, float64(s.Count(k.Type, "")), string(k.Type))
	}
}

// measureCompiler exports how much is compiled, and whether it is right.
func (p *plane) measureCompiler(e *compile.Engine) {
	gauge := func(name, help string, get func(compile.Stats) float64) {
		p.metrics.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "atoll_compile_" + name, Help: help},
			func() float64 { return get(e.Stats()) }))
	}
	counter := func(name, help string, get func(compile.Stats) uint64) {
		p.metrics.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "atoll_compile_" + name, Help: help},
			func() float64 { return float64(get(e.Stats())) }))
	}
	gauge("revision", "Revision that every connected proxy's configuration is compiled for.",
		func(compile.Stats) float64 { return float64(e.Revision()) })
	gauge("proxies", "Proxies that are connected.", func(s compile.Stats) float64 { return float64(s.Proxies) })
	gauge("audiences", "Groups of proxies that share their outbound configuration.", func(s compile.Stats) float64 { return float64(s.Audiences) })
	gauge("endpoint_rows", "Ports of destinations with their endpoints.", func(s compile.Stats) float64 { return float64(s.Rows) })
	counter("matches_total", "Times that a proxy was matched with policies.", func(s compile.Stats) uint64 { return s.Matches })
	counter("own_total", "Layers of single proxies that were compiled.", func(s compile.Stats) uint64 { return s.OwnCompiled })
	counter("audiences_total", "Layers of audiences that were compiled.", func(s compile.Stats) uint64 { return s.AudiencesCompiled })
	counter("outbounds_total", "Listeners with their routes that were compiled.", func(s compile.Stats) uint64 { return s.OutboundsCompiled })
	counter("clusters_total", "Clusters that were compiled.", func(s compile.Stats) uint64 { return s.ClustersCompiled })
	counter("endpoints_total", "Endpoint assignments that were compiled.", func(s compile.Stats) uint64 { return s.EndpointsCompiled })
	counter("published_total", "Configurations given to proxies.", func(s compile.Stats) uint64 { return s.Published })
	counter("full_total", "Times that everything was compiled anew; not near zero is a fault.",
		func(s compile.Stats) uint64 { return s.FullLagged + s.FullRestored })
	counter("bugs_total", "Crashes while compiling; must be zero.", func(s compile.Stats) uint64 { return s.Bugs })
	counter("checks_total", "Proxies that were compiled from nothing for comparison.", func(s compile.Stats) uint64 { return s.Checks })
	counter("mismatches_total", "Comparisons that found a difference; must be zero.", func(s compile.Stats) uint64 { return s.Mismatches })
}
