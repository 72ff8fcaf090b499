package cp

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/liveness"
)

// links exports what zones say of each other when somebody asks.
type links struct {
	p                               *plane
	up, withdrawn, rtt, loss, flaps *prometheus.Desc
	lost                            *prometheus.Desc
}

// measureLinks exports the matrix of zones.
func (p *plane) measureLinks() {
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("atoll_zone_link_"+name, help, []string{"observer", "observed"}, nil)
	}
	p.metrics.MustRegister(links{
		p:         p,
		up:        desc("up", "1 if proxies of the observer reach the observed zone."),
		withdrawn: desc("withdrawn", "1 if the observer sends the observed zone no traffic that others can serve."),
		rtt:       desc("round_trip_seconds", "Median time of recent probes, connection and TLS included."),
		loss:      desc("loss_ratio", "Share of recent probes that were not answered."),
		flaps:     desc("flaps", "Times that the zone went away within the time that damping remembers."),
		lost:      prometheus.NewDesc("atoll_zone_lost", "1 if others say together that the zone is lost.", []string{"zone"}, nil),
	})
}

// Describe implements prometheus.Collector.
func (l links) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{l.up, l.withdrawn, l.rtt, l.loss, l.flaps, l.lost} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (l links) Collect(ch chan<- prometheus.Metric) {
	m := liveness.MatrixOf(l.p.view.Snapshot(), l.p.site.Global, func(string) bool { return true })
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	for i := range m.Links {
		x := &m.Links[i]
		if x.State != kind.LinkUnknown {
			gauge(l.up, number(x.State != kind.LinkDown), x.Observer, x.Observed)
			gauge(l.loss, x.Loss, x.Observer, x.Observed)
		}
		if x.RTTMillis > 0 {
			gauge(l.rtt, x.RTTMillis/1000, x.Observer, x.Observed)
		}
		gauge(l.withdrawn, number(x.Withdrawn), x.Observer, x.Observed)
		gauge(l.flaps, float64(x.Flaps), x.Observer, x.Observed)
	}
	for i := range m.Zones {
		gauge(l.lost, number(m.Zones[i].Lost), m.Zones[i].Name)
	}
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
