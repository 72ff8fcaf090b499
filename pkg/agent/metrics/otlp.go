package metrics

import (
	"context"
	"math"
	"time"

	dto "github.com/prometheus/client_model/go"
	commonv1 "go.opentelemetry.io/proto/otlp/common/v1"
	metricsv1 "go.opentelemetry.io/proto/otlp/metrics/v1"
	resourcev1 "go.opentelemetry.io/proto/otlp/resource/v1"
)

// OTLP makes what is sent to a collector of what was gathered at a time: a scope
// for the proxy and one for each application. since is when counting began. It is
// nil when there is nothing to send.
func OTLP(groups []Group, t *Told, since, at time.Time) *metricsv1.MetricsData {
	c := converter{since: uint64(since.UnixNano()), at: uint64(at.UnixNano())}
	for _, p := range labelPairs(t.Labels) {
		c.extra = append(c.extra, attribute(p.GetName(), p.GetValue()))
	}
	service := t.Labels["kuma.workload"]
	if service == "" {
		service = "unknown"
	}
	resource := &resourcev1.Resource{Attributes: []*commonv1.KeyValue{attribute("service.name", service)}}
	rm := &metricsv1.ResourceMetrics{Resource: resource}
	for _, g := range groups {
		scope := &metricsv1.ScopeMetrics{Scope: &commonv1.InstrumentationScope{Name: g.Name}}
		if g.Name == "" {
			scope.Scope.Name = "proxy"
		}
		for _, m := range g.Families {
			if x := c.metric(m); x != nil {
				scope.Metrics = append(scope.Metrics, x)
			}
		}
		if len(scope.Metrics) > 0 {
			rm.ScopeMetrics = append(rm.ScopeMetrics, scope)
		}
	}
	if len(rm.ScopeMetrics) == 0 {
		return nil
	}
	return &metricsv1.MetricsData{ResourceMetrics: []*metricsv1.ResourceMetrics{rm}}
}

type converter struct {
	since, at uint64
	extra     []*commonv1.KeyValue
}

func attribute(k, v string) *commonv1.KeyValue {
	return &commonv1.KeyValue{Key: k, Value: &commonv1.AnyValue{Value: &commonv1.AnyValue_StringValue{StringValue: v}}}
}

func (c *converter) attributes(m *dto.Metric) []*commonv1.KeyValue {
	out := make([]*commonv1.KeyValue, 0, len(m.Label)+len(c.extra))
	has := map[string]bool{}
	for _, l := range m.Label {
		has[l.GetName()] = true
		out = append(out, attribute(l.GetName(), l.GetValue()))
	}
	for _, x := range c.extra {
		if !has[x.Key] {
			out = append(out, x)
		}
	}
	return out
}

func (c *converter) metric(m *dto.MetricFamily) *metricsv1.Metric {
	out := &metricsv1.Metric{Name: m.GetName(), Description: m.GetHelp()}
	switch m.GetType() {
	case dto.MetricType_COUNTER:
		sum := &metricsv1.Sum{IsMonotonic: true, AggregationTemporality: cumulative}
		for _, x := range m.Metric {
			sum.DataPoints = append(sum.DataPoints, c.number(x, x.GetCounter().GetValue()))
		}
		out.Data = &metricsv1.Metric_Sum{Sum: sum}
	case dto.MetricType_GAUGE, dto.MetricType_UNTYPED:
		gauge := &metricsv1.Gauge{}
		for _, x := range m.Metric {
			v := x.GetUntyped().GetValue()
			if x.Gauge != nil {
				v = x.GetGauge().GetValue()
			}
			gauge.DataPoints = append(gauge.DataPoints, c.number(x, v))
		}
		out.Data = &metricsv1.Metric_Gauge{Gauge: gauge}
	case dto.MetricType_HISTOGRAM, dto.MetricType_GAUGE_HISTOGRAM:
		h := &metricsv1.Histogram{AggregationTemporality: cumulative}
		for _, x := range m.Metric {
			h.DataPoints = append(h.DataPoints, c.histogram(x))
		}
		out.Data = &metricsv1.Metric_Histogram{Histogram: h}
	case dto.MetricType_SUMMARY:
		s := &metricsv1.Summary{}
		for _, x := range m.Metric {
			p := &metricsv1.SummaryDataPoint{
				Attributes: c.attributes(x), StartTimeUnixNano: c.since, TimeUnixNano: c.at,
				Count: x.GetSummary().GetSampleCount(), Sum: x.GetSummary().GetSampleSum(),
			}
			for _, q := range x.GetSummary().GetQuantile() {
				p.QuantileValues = append(p.QuantileValues, &metricsv1.SummaryDataPoint_ValueAtQuantile{Quantile: q.GetQuantile(), Value: q.GetValue()})
			}
			s.DataPoints = append(s.DataPoints, p)
		}
		out.Data = &metricsv1.Metric_Summary{Summary: s}
	default:
		return nil
	}
	return out
}

const cumulative = metricsv1.AggregationTemporality_AGGREGATION_TEMPORALITY_CUMULATIVE

func (c *converter) number(m *dto.Metric, v float64) *metricsv1.NumberDataPoint {
	return &metricsv1.NumberDataPoint{
		Attributes: c.attributes(m), StartTimeUnixNano: c.since, TimeUnixNano: c.at,
		Value: &metricsv1.NumberDataPoint_AsDouble{AsDouble: v},
	}
}

// histogram makes counts per bucket of the counts up to each bound.
func (c *converter) histogram(m *dto.Metric) *metricsv1.HistogramDataPoint {
	h := m.GetHistogram()
	p := &metricsv1.HistogramDataPoint{
		Attributes: c.attributes(m), StartTimeUnixNano: c.since, TimeUnixNano: c.at,
		Count: h.GetSampleCount(), Sum: new(h.GetSampleSum()),
	}
	var below uint64
	for _, b := range h.GetBucket() {
		if math.IsInf(b.GetUpperBound(), 1) {
			continue
		}
		p.ExplicitBounds = append(p.ExplicitBounds, b.GetUpperBound())
		p.BucketCounts = append(p.BucketCounts, b.GetCumulativeCount()-min(below, b.GetCumulativeCount()))
		below = b.GetCumulativeCount()
	}
	p.BucketCounts = append(p.BucketCounts, h.GetSampleCount()-min(below, h.GetSampleCount()))
	return p
}

// OTLP gathers what is wanted now.
func (g *Gatherer) OTLP(ctx context.Context, since time.Time) *metricsv1.MetricsData {
	groups := g.Gather(ctx)
	t := g.current()
	if t == nil {
		return nil
	}
	return OTLP(groups, t, since, time.Now())
}
