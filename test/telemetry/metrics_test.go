package telemetry

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// certificate makes files for those who read metrics, and the settings of an
// agent that has them.
func certificate(t *testing.T) []string {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	x := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "metrics"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"metrics"},
	}
	cert, err := x509.CreateCertificate(rand.Reader, x, x, key.Public(), key)
	must(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	dir := t.TempDir()
	files := []string{filepath.Join(dir, "metrics.crt"), filepath.Join(dir, "metrics.key")}
	must(t, os.WriteFile(files[0], pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), 0o600))
	must(t, os.WriteFile(files[1], pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600))
	return []string{
		"ATOLL_DATAPLANE_RUNTIME_METRICS_CERT_PATH=" + files[0],
		"ATOLL_DATAPLANE_RUNTIME_METRICS_KEY_PATH=" + files[1],
	}
}

// prometheus is a real one, which finds proxies by the control plane.
type prometheus struct {
	t   *testing.T
	url string
}

func startPrometheus(t *testing.T, w *world) *prometheus {
	t.Helper()
	binary, sd := tool(t, "PROMETHEUS", "prometheus"), tool(t, "KUMASD", "kumasd")
	dir := t.TempDir()
	server := fmt.Sprintf("http://127.0.0.1:%d", w.zone.MADSPort)
	jobs := ""
	for job, client := range map[string]string{"default": "prometheus.example", clientOfMetrics: clientOfMetrics} {
		file := filepath.Join(dir, job+".json")
		must(t, w.Process("kumasd-"+job, nil, sd, server, client, file).Start())
		jobs += fmt.Sprintf(`
- job_name: %s
  tls_config: {insecure_skip_verify: true}
  file_sd_configs: [{files: [%s], refresh_interval: 1s}]
  relabel_configs:
  - {source_labels: [__meta_kuma_service], target_label: service}
  - {source_labels: [__meta_kuma_dataplane], target_label: dataplane}`, job, file)
	}
	config := filepath.Join(dir, "prometheus.yml")
	must(t, os.WriteFile(config, []byte("global: {scrape_interval: 700ms, scrape_timeout: 700ms}\nscrape_configs:"+jobs), 0o600))
	p := &prometheus{t: t, url: fmt.Sprintf("http://127.0.0.1:%d", free(t, 1)[0])}
	must(t, w.Process("prometheus", nil, binary, "--config.file="+config, "--storage.tsdb.path="+filepath.Join(dir, "data"),
		"--web.listen-address="+p.url[len("http://"):]).Start())
	return p
}

// query returns the labels of what a query finds now.
func (p *prometheus) query(q string) []map[string]string {
	var answer struct {
		Data struct {
			Result []struct{ Metric map[string]string }
		}
	}
	if getJSON(p.t.Context(), p.url+"/api/v1/query?query="+url.QueryEscape(q), &answer) != nil {
		return nil
	}
	var out []map[string]string
	for _, r := range answer.Data.Result {
		out = append(out, r.Metric)
	}
	return out
}

// finds waits until a query has an answer.
func (p *prometheus) finds(t *testing.T, q string) map[string]string {
	t.Helper()
	var got []map[string]string
	until(t, "Prometheus has nothing for "+q, func() bool {
		got = p.query(q)
		return len(got) > 0
	})
	return got[0]
}

// scrape reads metrics as Prometheus does.
func (w *world) scrape(t *testing.T, port int, path string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("http://%s:%d%s", w.web.Spec.Address, port, path), nil)
	must(t, err)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return ""
	}
	return body(resp)
}

// becomes waits until metrics have and lack parts.
func (w *world) becomes(t *testing.T, what string, port int, path string, has, lacks []string) {
	t.Helper()
	until(t, what, func() bool {
		got := w.scrape(t, port, path)
		if got == "" || !hasAll(got, has...) {
			return false
		}
		for _, x := range lacks {
			if hasAll(got, x) {
				return false
			}
		}
		return true
	})
}

// serveMetrics has a real Prometheus find a proxy and read its metrics and those
// of its application, and shows what each field changes.
func serveMetrics(t *testing.T, w *world) {
	p := startPrometheus(t, w)
	w.apply(t, fmt.Sprintf(`type: MeshMetric
mesh: shop
name: metrics
spec:
  targetRef: {kind: Dataplane, labels: {app: web-1}}
  default:
    applications: [{name: jobs, path: /metrics, address: 127.0.0.1, port: %d}, {path: /more, address: 127.0.0.1, port: %[1]d}]
    backends:
    - {type: Prometheus, prometheus: {port: %d, path: /metrics}}
    - {type: Prometheus, prometheus: {clientId: %s, port: %d, path: /secured, tls: {mode: ProvidedTLS}}}`, w.appPort, metricsPort, clientOfMetrics, securedPort))
	w.call(t)
	begun := time.Now()
	got := p.finds(t, `up{job="default"} == 1`)
	t.Logf("Prometheus scrapes %s after the policy was applied", time.Since(begun).Round(time.Millisecond))
	if got["service"] != workload || got["dataplane"] != "web-1" || got["instance"] != "web-1" {
		t.Errorf("target %v", got)
	}
	p.finds(t, `up{job="secured"} == 1`)
	// What was counted, with labels of the mesh.
	got = p.finds(t, `envoy_http_downstream_rq_total{envoy_http_conn_manager_prefix="self_inbound_dp_main"} >= 1`)
	for k, v := range map[string]string{"mesh": mesh, "zone": "east", "kuma_workload": workload, "kuma_proxy_role": "sidecar"} {
		if got[k] != v {
			t.Errorf("label %s is %q, want %q", k, got[k], v)
		}
	}
	// Applications: one with a name, one that speaks OpenMetrics.
	if got := p.finds(t, `app_jobs_total == 7`); got["application"] != "jobs" || got["kind"] != "a" || got["kuma_workload"] != workload {
		t.Errorf("metrics of the application: %v", got)
	}
	p.finds(t, `app_more_total == 3`)
	if len(p.query(`{__name__=~"envoy_.+",envoy_cluster_name=~"system_.*"}`)) > 0 {
		t.Error("the profile Basic has what the mesh is made of")
	}

	policy := func(sidecar string) {
		w.apply(t, fmt.Sprintf("type: MeshMetric\nmesh: shop\nname: metrics\nspec: {targetRef: {kind: Dataplane, labels: {app: web-1}}, default: {sidecar: %s, backends: [{type: Prometheus, prometheus: {port: %d, path: /metrics, tls: {mode: Disabled}}}]}}", sidecar, metricsPort))
	}
	becomes := func(what string, has, lacks []string) {
		t.Helper()
		w.becomes(t, what, metricsPort, "/metrics", has, lacks)
	}
	const basic, internal, unused = "envoy_http_downstream_rq_total", `envoy_cluster_name="system_meshmetric`, "envoy_cluster_upstream_rq_cancelled"
	policy("{profiles: {appendProfiles: [{name: None}]}}")
	until(t, "the profile None has metrics of Envoy", func() bool { return w.scrape(t, metricsPort, "/metrics") == "" })
	policy("{profiles: {appendProfiles: [{name: None}], include: [{type: Prefix, match: envoy_http_downstream_rq_t}, {type: Exact, match: envoy_server_live}]}}")
	becomes("included metrics", []string{basic, "envoy_server_live"}, []string{"envoy_server_uptime"})
	policy("{profiles: {appendProfiles: [{name: Basic}], exclude: [{type: Contains, match: downstream_rq_total}, {type: Regex, match: \"envoy_server_upt.*\"}]}}")
	becomes("excluded metrics", []string{"envoy_server_live"}, []string{basic + "{", "envoy_server_uptime{", internal, "app_jobs"})
	policy("{profiles: {appendProfiles: [{name: All}], exclude: [{type: Prefix, match: envoy_}], include: [{type: Contains, match: server_live}, {type: Regex, match: \"^envoy_http_downstream_rq_tot.*\"}]}}")
	becomes("included metrics of what is excluded", []string{basic, "envoy_server_live"}, []string{"envoy_server_uptime"})
	policy("{profiles: {appendProfiles: [{name: Basic}], exclude: [{type: Exact, match: envoy_server_live}]}}")
	becomes("all but an excluded one", []string{basic}, []string{"envoy_server_live{"})
	policy("{profiles: {appendProfiles: [{name: Basic}, {name: All}]}, includeUnused: false}")
	becomes("the profile All", []string{basic, internal}, []string{unused + "{"})
	policy("{profiles: {appendProfiles: [{name: All}]}, includeUnused: true}")
	becomes("unused metrics", []string{basic, unused + "{"}, nil)
	w.apply(t, `type: MeshMetric
mesh: shop
name: metrics
spec: {targetRef: {kind: Mesh}, default: {backends: [{type: Prometheus, prometheus: {port: 5673, path: /x, tls: {mode: ActiveMTLSBackend}}}]}}`)
	w.becomes(t, "another port and path", 5673, "/x", []string{basic}, nil)
	if w.scrape(t, metricsPort, "/metrics") != "" {
		t.Error("the old port still serves")
	}
	w.remove(t, "meshmetrics", "metrics")
	until(t, "metrics are served after removal", func() bool { return w.scrape(t, 5673, "/x") == "" })
	until(t, "Prometheus keeps a target", func() bool { return len(p.query("up")) == 0 })
}
