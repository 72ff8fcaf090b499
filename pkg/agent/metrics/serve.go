package metrics

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"google.golang.org/protobuf/proto"
)

// applicationLabel says which application a metric is of, when it has a name.
const applicationLabel = "application"

// Path is where metrics are served.
const Path = "/meshmetric"

// ServeHTTP answers Prometheus with everything in one document.
func (g *Gatherer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	timeout := DefaultTimeout
	if s, err := strconv.ParseFloat(r.Header.Get("X-Prometheus-Scrape-Timeout-Seconds"), 64); err == nil && s > 0 && s < 3600 {
		timeout = time.Duration(s * 0.95 * float64(time.Second)) // the rest is for the way
	}
	ctx, cancel := context.WithTimeout(r.Context(), timeout)
	defer cancel()
	groups := g.Gather(ctx)
	t := g.current()
	if t == nil {
		http.Error(w, "the control plane has said nothing about metrics yet", http.StatusServiceUnavailable)
		return
	}
	format := expfmt.NewFormat(expfmt.TypeTextPlain)
	w.Header().Set("Content-Type", string(format))
	enc := expfmt.NewEncoder(w, format)
	for _, m := range merge(groups, t.Labels) {
		if err := enc.Encode(m); err != nil {
			return // the other side is gone
		}
	}
}

// merge joins families of the same name and adds labels to all metrics.
func merge(groups []Group, labels map[string]string) []*dto.MetricFamily {
	byName := map[string]*dto.MetricFamily{}
	for _, g := range groups {
		extra := labels
		if g.Name != "" {
			extra = maps.Clone(labels)
			if extra == nil {
				extra = map[string]string{}
			}
			extra[applicationLabel] = g.Name
		}
		pairs := labelPairs(extra)
		for _, m := range g.Families {
			for _, x := range m.Metric {
				x.Label = withLabels(x.Label, pairs)
			}
			have := byName[m.GetName()]
			switch {
			case have == nil:
				byName[m.GetName()] = m
			case have.GetType() == m.GetType():
				have.Metric = append(have.Metric, m.Metric...)
			}
			// Two meanings of one name cannot be in one document: the first counts.
		}
	}
	return slices.SortedFunc(maps.Values(byName), func(a, b *dto.MetricFamily) int { return strings.Compare(a.GetName(), b.GetName()) })
}

func labelPairs(labels map[string]string) []*dto.LabelPair {
	var out []*dto.LabelPair
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		out = append(out, &dto.LabelPair{Name: proto.String(labelName(k)), Value: proto.String(labels[k])})
	}
	return out
}

// withLabels adds labels that are not there yet: a metric knows best.
func withLabels(own, add []*dto.LabelPair) []*dto.LabelPair {
	out := slices.Clip(own)
	for _, p := range add {
		if !slices.ContainsFunc(own, func(l *dto.LabelPair) bool { return l.GetName() == p.GetName() }) {
			out = append(out, p)
		}
	}
	return out
}

// labelName is a name as Prometheus has them.
func labelName(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '_' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' {
			return r
		}
		return '_'
	}, s)
}
