package observe

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// NewRegistry returns a registry of metrics that already has those of the
// process, of the Go runtime and the version.
func NewRegistry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	b := ReadBuild()
	info := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "atoll_build_info",
		Help: "Always 1; the labels say what this process was built from.",
		ConstLabels: prometheus.Labels{
			"version": b.Version, "commit": b.Commit, "api_version": APIVersion, "go": b.Go,
		},
	}, func() float64 { return 1 })
	r.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		info,
	)
	return r
}
