package metrics

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	metricsv1 "go.opentelemetry.io/proto/otlp/metrics/v1"
)

const envoyStats = `# TYPE envoy_http_downstream_rq_total counter
envoy_http_downstream_rq_total{envoy_http_conn_manager_prefix="self_inbound_dp_main"} 3
envoy_http_downstream_rq_total{envoy_http_conn_manager_prefix="system_envoy_admin"} 9
# TYPE envoy_server_live gauge
envoy_server_live{} 1
# TYPE envoy_cluster_lb_zone gauge
envoy_cluster_lb_zone{envoy_cluster_name="system_ads"} 4
# TYPE envoy_cluster_upstream_rq_time histogram
envoy_cluster_upstream_rq_time_bucket{envoy_cluster_name="a",le="1"} 2
envoy_cluster_upstream_rq_time_bucket{envoy_cluster_name="a",le="5"} 3
envoy_cluster_upstream_rq_time_bucket{envoy_cluster_name="a",le="+Inf"} 4
envoy_cluster_upstream_rq_time_sum{envoy_cluster_name="a"} 12
envoy_cluster_upstream_rq_time_count{envoy_cluster_name="a"} 4
`

// envoy answers as Envoy's administration does; unused metrics only when asked.
func envoy(t *testing.T) *http.Client {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/stats" || r.URL.Query().Get("format") != "prometheus" || !r.URL.Query().Has("text_readouts") {
			t.Errorf("asked %s", r.URL)
		}
		_, _ = fmt.Fprint(w, envoyStats)
		if !r.URL.Query().Has("usedonly") {
			_, _ = fmt.Fprint(w, "# TYPE envoy_unused_rq counter\nenvoy_unused_rq{} 0\n")
		}
	}))
	t.Cleanup(s.Close)
	return &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", s.Listener.Addr().String())
	}}}
}

func told(t *testing.T, doc string) *Told {
	t.Helper()
	m, err := Parse([]byte(`{"observability": {"metrics": ` + doc + `}}`))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func serve(g *Gatherer) (int, string) {
	w := httptest.NewRecorder()
	g.ServeHTTP(w, httptest.NewRequest(http.MethodGet, Path, nil))
	return w.Code, w.Body.String()
}

// TestProfiles shows which metrics each choice keeps.
func TestProfiles(t *testing.T) {
	const rq, system, live, zone, hist, unused = `prefix="self_inbound_dp_main"`, `prefix="system_envoy_admin"`, "envoy_server_live", "envoy_cluster_lb_zone", "rq_time_bucket", "envoy_unused_rq"
	all := []string{rq, system, live, zone, hist, unused}
	g := &Gatherer{Envoy: envoy(t), Log: slog.New(slog.DiscardHandler)}
	if code, _ := serve(g); code != http.StatusServiceUnavailable {
		t.Errorf("before it is told anything: %d", code)
	}
	for sidecar, want := range map[string][]string{
		`null`:                    {rq, live, hist},
		`{"includeUnused": true}`: {rq, live, hist, unused},
		`{"profiles": {"appendProfiles": [{"name": "None"}]}}`:                                                                            nil,
		`{"profiles": {"appendProfiles": [{"name": "None"}, {"name": "Basic"}]}}`:                                                         {rq, live, hist},
		`{"profiles": {"appendProfiles": [{"name": "Basic"}, {"name": "All"}, {"name": "None"}]}}`:                                        {rq, system, live, zone, hist},
		`{"profiles": {"exclude": [{"type": "Exact", "match": "envoy_server_live"}, {"type": "Regex", "match": "^envoy_.*_rq_to"}]}}`:     {hist},
		`{"profiles": {"exclude": [{"type": "Prefix", "match": "envoy"}], "include": [{"type": "Contains", "match": "lb_z"}]}}`:           {zone},
		`{"profiles": {"appendProfiles": [{"name": "None"}], "include": [{"type": "Exact", "match": "envoy_http_downstream_rq_total"}]}}`: {rq, system},
	} {
		g.Tell(told(t, `{"sidecar": `+sidecar+`}`))
		_, got := serve(g)
		kept := map[string]bool{}
		for _, x := range want {
			kept[x] = true
		}
		for _, x := range all {
			if strings.Contains(got, x) != kept[x] {
				t.Errorf("%s: kept %s: %t\n%s", sidecar, x, !kept[x], got)
			}
		}
	}
	if _, err := Parse([]byte(`{"observability": {"metrics": {"sidecar": {"profiles": {"include": [{"type": "Regex", "match": "("}]}}}}}`)); err == nil {
		t.Error("a regular expression that is none is accepted")
	}
}

// TestApplications shows how metrics of applications join those of the proxy: in
// both text formats, with labels, and without those that do not answer.
func TestApplications(t *testing.T) {
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/metrics":
			_, _ = fmt.Fprint(w, "# TYPE jobs_total counter\njobs_total{mesh=\"own\"} 7\n# TYPE envoy_server_live gauge\nenvoy_server_live 5\n")
		case "/open":
			w.Header().Set("Content-Type", "application/openmetrics-text; version=1.0.0; charset=utf-8")
			_, _ = fmt.Fprint(w, "# TYPE jobs counter\n# UNIT jobs x\njobs_total{a=\"b } c\"} 2 1520879607.789 # {trace_id=\"KOO\"} 0.67\njobs_created 1520430000.123\n# TYPE state stateset\nstate{state=\"a\"} 1\n# EOF\n")
		default:
			http.NotFound(w, r)
		}
	}))
	defer app.Close()
	port := app.Listener.Addr().(*net.TCPAddr).Port
	var log strings.Builder
	g := &Gatherer{Envoy: envoy(t), Address: "127.0.0.1", Log: slog.New(slog.NewTextHandler(&log, nil))}
	g.Tell(told(t, fmt.Sprintf(`{"applications": [{"name": "one", "port": %d}, {"path": "/open", "address": "127.0.0.1", "port": %[1]d}, {"path": "/none", "port": %[1]d}], "extraLabels": {"mesh": "shop", "kuma.workload": "web"}}`, port)))
	_, got := serve(g)
	for _, want := range []string{
		`jobs_total{mesh="own",application="one",kuma_workload="web"} 7`,
		`jobs_total{a="b } c",kuma_workload="web",mesh="shop"} 2` + "\n",
		`envoy_server_live{kuma_workload="web",mesh="shop"} 1`,
		`envoy_server_live{application="one",kuma_workload="web",mesh="shop"} 5`,
		`state{state="a",kuma_workload="web",mesh="shop"} 1`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s in\n%s", want, got)
		}
	}
	if n := strings.Count(got, "# TYPE jobs_total counter"); n != 1 || strings.Contains(got, "jobs_created") {
		t.Errorf("the type is stated %d times in\n%s", n, got)
	}
	serve(g)
	if n := strings.Count(log.String(), "could not be read"); n != 1 {
		t.Errorf("a failing application is reported %d times:\n%s", n, log.String())
	}
}

// TestOTLP shows the same metrics as a collector gets them.
func TestOTLP(t *testing.T) {
	g := &Gatherer{Envoy: envoy(t), Log: slog.New(slog.DiscardHandler)}
	if g.OTLP(t.Context(), time.Now()) != nil {
		t.Error("something is sent before the control plane said so")
	}
	g.Tell(told(t, `{"extraLabels": {"mesh": "shop", "kuma.workload": "web"}}`))
	d := g.OTLP(t.Context(), time.Unix(1, 0))
	if got := d.ResourceMetrics[0].Resource.Attributes[0]; got.Key != "service.name" || got.Value.GetStringValue() != "web" {
		t.Errorf("resource %v", got)
	}
	byName := map[string]*metricsv1.Metric{}
	for _, m := range d.ResourceMetrics[0].ScopeMetrics[0].Metrics {
		byName[m.Name] = m
	}
	if s := byName["envoy_http_downstream_rq_total"].GetSum(); !s.GetIsMonotonic() || len(s.DataPoints) != 1 || s.DataPoints[0].GetAsDouble() != 3 || s.DataPoints[0].StartTimeUnixNano != 1e9 {
		t.Errorf("counter %v", s)
	}
	if p := byName["envoy_server_live"].GetGauge().GetDataPoints(); len(p) != 1 || len(p[0].Attributes) != 2 || p[0].GetAsDouble() != 1 {
		t.Errorf("gauge %v", p)
	}
	h := byName["envoy_cluster_upstream_rq_time"].GetHistogram().GetDataPoints()[0]
	if fmt.Sprint(h.ExplicitBounds, h.BucketCounts, h.Count, h.GetSum()) != "[1 5] [2 1 1] 4 12" {
		t.Errorf("histogram %v", h)
	}
}

// TestCollectors reads where metrics are sent.
func TestCollectors(t *testing.T) {
	m := told(t, `{"backends": [{"type": "Prometheus", "name": "x"}, {"type": "OpenTelemetry", "name": "y", "openTelemetry": {"endpoint": "/s", "refreshInterval": "5s", "useHTTP": true, "path": "/p"}}]}`)
	if len(m.Collectors) != 1 || m.Collectors[0] != (Collector{Name: "y", Socket: "/s", Interval: 5 * time.Second, HTTP: true, Path: "/p"}) {
		t.Errorf("collectors %+v", m.Collectors)
	}
	if m, err := Parse(nil); err != nil || m.Filter == nil {
		t.Errorf("nothing is %v, %v", m, err)
	}
}
