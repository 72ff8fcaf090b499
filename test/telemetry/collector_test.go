package telemetry

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// collector is a real OpenTelemetry collector, which writes what it gets into
// files.
type collector struct {
	t          *testing.T
	dir        string
	grpc, http int
	seen       map[string]int // bytes of files that are looked at no more
}

func startCollector(t *testing.T, w *world, name string) *collector {
	t.Helper()
	p := free(t, 2)
	c := &collector{t: t, dir: t.TempDir(), grpc: p[0], http: p[1], seen: map[string]int{}}
	config := filepath.Join(c.dir, "config.yaml")
	must(t, os.WriteFile(config, fmt.Appendf(nil, `receivers:
  otlp:
    protocols:
      grpc: {endpoint: "127.0.0.1:%d"}
      http: {endpoint: "127.0.0.1:%d", traces_url_path: /in/v1/traces, logs_url_path: /in/v1/logs, metrics_url_path: /in/v1/metrics}
exporters:
  file/traces: {path: %s/traces}
  file/logs: {path: %[3]s/logs}
  file/metrics: {path: %[3]s/metrics}
service:
  telemetry: {metrics: {level: none}}
  pipelines:
    traces: {receivers: [otlp], exporters: [file/traces]}
    logs: {receivers: [otlp], exporters: [file/logs]}
    metrics: {receivers: [otlp], exporters: [file/metrics]}
`, c.grpc, c.http, c.dir), 0o600))
	must(t, w.Process("otelcol-"+name, nil, tool(t, "OTELCOL", "otelcol"), "--config", config).Start())
	return c
}

// got returns what of a signal arrived since forget, one request per line.
func (c *collector) got(signal string) []string {
	b, err := os.ReadFile(filepath.Join(c.dir, signal))
	if err != nil {
		return nil
	}
	return strings.Split(strings.TrimSpace(string(b[min(c.seen[signal], len(b)):])), "\n")
}

// has tells whether one request has all of the parts.
func (c *collector) has(signal string, parts ...string) bool {
	for _, line := range c.got(signal) {
		if hasAll(line, parts...) {
			return true
		}
	}
	return false
}

// forget looks from now on only at what is new.
func (c *collector) forget() {
	for _, signal := range []string{"traces", "logs", "metrics"} {
		if info, err := os.Stat(filepath.Join(c.dir, signal)); err == nil {
			c.seen[signal] = int(info.Size())
		}
	}
}

// attribute is how the collector writes one.
func attribute(key, value string) string {
	return fmt.Sprintf(`{"key":%q,"value":{"stringValue":%q}}`, key, value)
}

// backends are the collector by gRPC and by HTTP.
func (c *collector) backends() string {
	return fmt.Sprintf(`type: MeshOpenTelemetryBackend
mesh: shop
name: by-grpc
labels: {speaks: grpc}
spec: {endpoint: {address: 127.0.0.1, port: %d}, protocol: grpc}
---
type: MeshOpenTelemetryBackend
mesh: shop
name: by-http
labels: {speaks: http}
spec: {endpoint: {address: 127.0.0.1, port: %d, path: /in}, protocol: http}`, c.grpc, c.http)
}

// observe sends every signal to a backend. mark is in traces and logs.
func observe(speaks, mark string) string {
	return strings.NewReplacer("SPEAKS", speaks, "MARK", mark).Replace(`type: MeshTrace
mesh: shop
name: all
spec:
  default:
    backends: [{type: OpenTelemetry, openTelemetry: {backendRef: {kind: MeshOpenTelemetryBackend, labels: {speaks: SPEAKS}}}}]
    sampling: {overall: 100, client: 100, random: "100"}
    tags: [{name: mark, literal: MARK}, {name: asked, header: {name: x-asked, default: nobody}}]
---
type: MeshAccessLog
mesh: shop
name: out
spec:
  targetRef: {kind: Mesh}
  to:
  - targetRef: {kind: MeshService, labels: {kuma.io/display-name: web}}
    default:
      backends:
      - type: OpenTelemetry
        openTelemetry:
          backendRef: {kind: MeshOpenTelemetryBackend, labels: {speaks: SPEAKS}}
          attributes: [{key: mark, value: MARK}, {key: code, value: "%RESPONSE_CODE%"}]
          body: {kvlistValue: {values: [{key: from, value: {stringValue: "%KUMA_SOURCE_SERVICE%"}}]}}
---
type: MeshAccessLog
mesh: shop
name: in
spec:
  targetRef: {kind: Mesh}
  rules: [{default: {backends: [{type: OpenTelemetry, openTelemetry: {backendRef: {kind: MeshOpenTelemetryBackend, labels: {speaks: SPEAKS}}, attributes: [{key: inbound, value: MARK}], body: "%REQ(:METHOD)% %REQ(:PATH)% %PROTOCOL%"}}]}}]
---
type: MeshMetric
mesh: shop
name: all
spec:
  default:
    sidecar: {includeUnused: false, profiles: {appendProfiles: [{name: All}]}}
    backends: [{type: OpenTelemetry, openTelemetry: {backendRef: {kind: MeshOpenTelemetryBackend, labels: {speaks: SPEAKS}}, refreshInterval: 500ms}}]`)
}

// collect sends traces, access logs and metrics of real Envoys to a real
// collector: through agents and, where an agent does not do that, from Envoy
// itself; by gRPC and by HTTP.
func collect(t *testing.T, w *world) {
	c := startCollector(t, w, "a")
	direct := w.proxy(t, "direct-1", "direct", []string{"ATOLL_DATAPLANE_RUNTIME_OTEL_PIPE_ENABLED=false"}, outbounds())
	w.apply(t, c.backends())
	for _, speaks := range []string{"grpc", "http"} {
		mark := "by-" + speaks
		w.apply(t, observe(speaks, mark))
		calls := func() {
			w.call(t, "x-asked", "me")
			callURL(t, direct.URL(callHTTP))
			w.connect()
		}
		traced := func(service, kind string, more ...string) func() bool {
			return func() bool {
				calls()
				return c.has("traces", append([]string{attribute("service.name", service), attribute("mark", mark), `"kind":` + kind}, more...)...)
			}
		}
		const server, client = "2", "3"
		until(t, "no span of the server by "+speaks, traced("web", server, attribute("asked", "me"), attribute("kuma.mesh", mesh), attribute("kuma.zone", "east"), attribute("kuma.workload", "kri_wl_shop_east__web_")))
		until(t, "no span of the client by "+speaks, traced("client", client, attribute("asked", "me"), attribute("kuma.workload", "kri_wl_shop_east__client_")))
		until(t, "no span without agent by "+speaks, traced("direct", client, attribute("asked", "nobody"), attribute("kuma.workload", "kri_wl_shop_east__direct_")))

		logged := func(parts ...string) func() bool {
			return func() bool { calls(); return c.has("logs", append(parts, attribute("kuma.mesh", mesh))...) }
		}
		from := func(service string) []string {
			return []string{attribute("from", service), attribute("mark", mark), attribute("code", "200"), attribute("kuma.workload", "kri_wl_shop_east__"+service+"_")}
		}
		until(t, "no log of the client by "+speaks, logged(from("client")...))
		until(t, "no log without agent by "+speaks, logged(from("direct")...))
		until(t, "no log of bytes by "+speaks, logged(attribute("from", "client"), attribute("code", "0")))
		until(t, "no log of the server by "+speaks, logged(attribute("inbound", mark), `GET / HTTP/2`, attribute("kuma.workload", "kri_wl_shop_east__web_")))

		c.forget()
		for _, workload := range []string{"web", "client", "direct"} {
			until(t, "no metrics of "+workload+" by "+speaks, func() bool {
				return c.has("metrics", attribute("service.name", workload), `"name":"envoy_server_live"`, `"name":"envoy_cluster_upstream_rq_time"`, attribute("kuma_workload", workload), attribute("mesh", mesh), attribute("kuma_proxy_role", "sidecar"))
			})
		}
	}
	for _, x := range [][2]string{{"meshtraces", "all"}, {"meshaccesslogs", "out"}, {"meshaccesslogs", "in"}, {"meshmetrics", "all"}} {
		w.remove(t, x[0], x[1])
	}
	// Pushes end with the policy: two intervals without any.
	until(t, "metrics are sent after removal", func() bool { return quiet(c) })

	// The first push waits for no interval, nor does the one after a change.
	for _, profile := range []string{"None", "Basic"} {
		c.forget()
		w.apply(t, `type: MeshMetric
mesh: shop
name: rare
spec:
  default:
    sidecar: {profiles: {appendProfiles: [{name: `+profile+`}]}}
    applications: [{name: jobs, port: `+strconv.Itoa(w.appPort)+`, address: 127.0.0.1}]
    backends: [{type: OpenTelemetry, openTelemetry: {backendRef: {kind: MeshOpenTelemetryBackend, labels: {speaks: grpc}}, refreshInterval: 1h}}]`)
		until(t, "no metrics of profile "+profile+" before the interval ends", func() bool {
			return c.has("metrics", `"name":"app_load"`) && c.has("metrics", `"name":"envoy_server_live"`) == (profile == "Basic")
		})
	}
	w.remove(t, "meshmetrics", "rare")
}

// quiet tells whether no metrics arrive while three requests are answered, one
// after another, each of which takes its time.
func quiet(c *collector) bool {
	c.forget()
	return !waitFor(c.t, func() bool { return c.has("metrics", "envoy_server_live") })
}

// collectByVariables shows what OTEL_* variables of agents change.
func collectByVariables(t *testing.T, w *world) {
	a, b := startCollector(t, w, "policy"), startCollector(t, w, "variables")
	to := fmt.Sprintf("http://127.0.0.1:%d", b.grpc)
	const idle = "  inbound:\n  - {port: 49151}"
	w.proxy(t, "shared-1", "shared", []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + to, "OTEL_EXPORTER_OTLP_COMPRESSION=gzip", "OTEL_EXPORTER_OTLP_TIMEOUT=5000", "OTEL_EXPORTER_OTLP_HEADERS=x-tenant=shop"}, idle)
	w.proxy(t, "signal-1", "signal", []string{fmt.Sprintf("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=http://127.0.0.1:%d/in/v1/metrics", b.http), "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL=http/protobuf"}, idle)
	w.apply(t, `type: MeshMetric
mesh: shop
name: all
spec: {default: {backends: [{type: OpenTelemetry, openTelemetry: {backendRef: {kind: MeshOpenTelemetryBackend, labels: {speaks: either}}, refreshInterval: 300ms}}]}}`)
	const policy, variables, nowhere = "policy", "variables", "nowhere"
	for _, x := range []struct {
		env                   string
		shared, signal, plain string // where metrics of each go
	}{
		{"{mode: Optional, precedence: EnvFirst, allowSignalOverrides: true}", variables, variables, policy},
		{"{mode: Optional, precedence: EnvFirst, allowSignalOverrides: false}", variables, policy, policy},
		{"{mode: Optional, precedence: ExplicitFirst}", policy, policy, policy},
		{"{mode: Disabled}", policy, policy, policy},
		{"{mode: Required, allowSignalOverrides: true}", variables, variables, nowhere},
		{"{mode: Required, allowSignalOverrides: false}", variables, nowhere, nowhere},
	} {
		w.apply(t, fmt.Sprintf(`type: MeshOpenTelemetryBackend
mesh: shop
name: either
labels: {speaks: either}
spec: {endpoint: {address: 127.0.0.1, port: %d}, protocol: grpc, env: %s}`, a.grpc, x.env))
		want := map[string]string{"shared": x.shared, "signal": x.signal, "client": x.plain}
		where := func() map[string]string {
			got := map[string]string{}
			for workload := range want {
				got[workload] = nowhere
				for name, c := range map[string]*collector{policy: a, variables: b} {
					if c.has("metrics", attribute("service.name", workload)) {
						got[workload] = name
					}
				}
			}
			return got
		}
		// Until what arrives in a while is as it should be, and only that.
		until(t, fmt.Sprintf("with %s metrics do not go to %v", x.env, want), func() bool {
			a.forget()
			b.forget()
			waitFor(t, func() bool { return false })
			return fmt.Sprint(where()) == fmt.Sprint(want)
		})
	}
	w.remove(t, "meshmetrics", "all")
}
