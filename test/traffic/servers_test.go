package traffic_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/atoll-mesh/atoll/test/traffic"
)

// TestServers shows, one by one, what policies make the Envoy of a server do,
// and what both Envoys write about it.
func TestServers(t *testing.T) {
	t.Parallel()
	m := traffic.Start(t)
	m.Client(t)
	web := traffic.Serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/big" {
			_, _ = w.Write(make([]byte, 64<<10))
			return
		}
		_, _ = fmt.Fprint(w, "web ", r.Header.Get("x-patched"))
	})
	in, tcp := traffic.Dead(t), traffic.Dead(t)
	m.Apply(t, fmt.Sprintf(`
type: Dataplane
name: server
labels: {app: server, kuma.io/workload: web}
networking:
  address: 127.0.0.1
  inbound:
  - {port: %d, name: web, servicePort: %d, protocol: http}
  - {port: %d, name: tcp, servicePort: %d, protocol: tcp}`, in, web.Port, tcp, traffic.ServeTCP(t, "hello")))
	m.Envoy("server")
	m.Listening(t, in)
	m.Listening(t, tcp)
	s := &served{
		Mesh: m, in: in, direct: fmt.Sprintf("http://127.0.0.1:%d/", in), tcp: fmt.Sprintf("127.0.0.1:%d", tcp),
		outbound: "http://" + m.Service(t, "web", "http", nil, in) + "/",
	}
	for _, c := range []struct {
		name string
		run  func(*testing.T, *served)
	}{
		{"MeshRateLimit/http", limitRequests},
		{"MeshRateLimit/tcp", limitConnections},
		{"MeshFaultInjection", injectFaults},
		{"MeshProxyPatch", patchMessages},
		{"MeshAccessLog", logRequests},
		{"MeshTrace", traceRequests},
	} {
		if !t.Run(c.name, func(t *testing.T) { c.run(t, s) }) {
			break // others would show the same
		}
	}
}

// served is a service behind an Envoy: what calls it directly, and through the
// Envoy of the client.
type served struct {
	*traffic.Mesh
	direct, outbound, tcp string
	in                    int // the port of direct
}

func limitRequests(t *testing.T, s *served) {
	s.Apply(t, `
type: MeshRateLimit
name: limit
spec:
  targetRef: {kind: Dataplane, labels: {app: server}, sectionName: web}
  rules: [{default: {local: {http: {requestRate: {num: 2, interval: 1h}, onRateLimit: {status: 503, headers: {set: [{name: x-limited, value: "yes"}], add: [{name: x-more, value: "1"}]}}}}}}]`)
	for i := range 4 {
		got := traffic.Get(t, s.outbound)
		if want := i < 2; (got.Status == 200) != want {
			t.Errorf("request %d: %d", i, got.Status)
		}
		if i >= 2 && (got.Status != 503 || got.Header.Get("x-limited") != "yes" || got.Header.Get("x-more") != "1") {
			t.Errorf("request %d: %d %v", i, got.Status, got.Header)
		}
	}
	s.Apply(t, `
type: MeshRateLimit
name: limit
spec:
  targetRef: {kind: Dataplane}
  rules: [{default: {local: {http: {requestRate: {num: 1, interval: 1h}}}}}]`)
	if a, b := traffic.Get(t, s.direct), traffic.Get(t, s.direct); a.Status != 200 || b.Status != 429 {
		t.Errorf("without a status of its own: %d, %d", a.Status, b.Status)
	}
	s.Apply(t, `
type: MeshRateLimit
name: limit
spec:
  targetRef: {kind: Dataplane}
  rules: [{default: {local: {http: {disabled: true, requestRate: {num: 1, interval: 1h}}}}}]`)
	for range 3 {
		if got := traffic.Get(t, s.direct); got.Status != 200 {
			t.Errorf("disabled: %d", got.Status)
		}
	}
	s.Remove(t, "MeshRateLimit", "limit")
}

func limitConnections(t *testing.T, s *served) {
	s.Apply(t, `
type: MeshRateLimit
name: limit
spec:
  targetRef: {kind: Dataplane, sectionName: tcp}
  rules: [{default: {local: {tcp: {connectionRate: {num: 2, interval: 1h}}}}}]`)
	// Envoy's workers change over a moment after it has said so.
	passed := 0
	traffic.Until(t, "connections are not limited", func() bool {
		got := traffic.Connect(t, s.tcp)
		if got == "hello" {
			passed++
		}
		return got == ""
	})
	if passed < 2 {
		t.Errorf("%d connections passed, want 2", passed)
	}
	s.Remove(t, "MeshRateLimit", "limit")
	traffic.Until(t, "connections are limited after removal", func() bool { return traffic.Connect(t, s.tcp) == "hello" })
}

func injectFaults(t *testing.T, s *served) {
	fault := func(faults string) {
		s.Apply(t, "type: MeshFaultInjection\nname: fault\nspec: {targetRef: {kind: Dataplane, labels: {app: server}}, rules: [{default: {http: "+faults+"}}]}")
	}
	fault("[{abort: {httpStatus: 418, percentage: 100}}]")
	if got := traffic.Get(t, s.outbound); got.Status != 418 {
		t.Errorf("abort: %d", got.Status)
	}
	fault("[{abort: {httpStatus: 418, percentage: 0}}, {delay: {value: 300ms, percentage: 100}}]")
	begun := time.Now()
	if got := traffic.Get(t, s.direct); got.Status != 200 || time.Since(begun) < 290*time.Millisecond {
		t.Errorf("delay: %d after %v", got.Status, time.Since(begun))
	}
	fault(`[{responseBandwidth: {limit: 128kbps, percentage: "100"}}]`)
	begun = time.Now()
	if got := traffic.Get(t, s.direct+"big"); len(got.Body) != 64<<10 || time.Since(begun) < 300*time.Millisecond {
		t.Errorf("64 KiB at 128 KiB/s: %d bytes after %v", len(got.Body), time.Since(begun))
	}
	s.Remove(t, "MeshFaultInjection", "fault")
	if got := traffic.Get(t, s.direct); got.Status != 200 {
		t.Errorf("after removal: %d", got.Status)
	}
}

func patchMessages(t *testing.T, s *served) {
	lua := `
type: MeshProxyPatch
name: patch
spec:
  targetRef: {kind: Dataplane, labels: {app: %s}}
  default:
    appendModifications:
    - httpFilter:
        operation: AddBefore
        match: {origin: %s, name: envoy.filters.http.router}
        value: |
          name: envoy.filters.http.lua
          typedConfig:
            '@type': type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua
            defaultSourceCode: {inlineString: "function envoy_on_request(h) h:headers():add('x-patched', '%[2]s') end"}
    - virtualHost: {operation: Patch, match: {origin: %[2]s}, value: "responseHeadersToAdd: [{header: {key: x-host, value: patched}}]"}
    - networkFilter:
        operation: Patch
        match: {origin: %[2]s, name: envoy.filters.network.http_connection_manager}
        jsonPatches: [{op: add, path: /serverName, value: patched}]
    - cluster: {operation: Patch, match: {origin: %[2]s}, value: "noSuchField: 1"}
    - cluster: {operation: Patch, match: {origin: %[2]s}, value: "connectTimeout: 3s"}`
	for _, side := range []struct{ app, origin, url string }{{"server", "inbound", s.direct}, {"client", "outbound", s.outbound}} {
		app, origin := side.app, side.origin
		s.Apply(t, fmt.Sprintf(lua, app, origin))
		traffic.Until(t, app+" is not patched", func() bool {
			got := traffic.Get(t, side.url, "Connection", "close")
			return got.Body == "web "+origin && got.Header.Get("x-host") == "patched" && got.Header.Get("server") != ""
		})
	}
	s.Remove(t, "MeshProxyPatch", "patch")
	traffic.Until(t, "patches stay after removal", func() bool {
		got := traffic.Get(t, s.outbound, "Connection", "close")
		return got.Body == "web " && got.Header.Get("x-host") == ""
	})
}

func logRequests(t *testing.T, s *served) {
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	s.Apply(t, fmt.Sprintf(`
type: MeshAccessLog
name: in
spec:
  targetRef: {kind: Dataplane, labels: {app: server}}
  rules:
  - default:
      backends:
      - {type: File, file: {path: %s, format: {type: Plain, plain: "%%RESPONSE_CODE%% %%KUMA_MESH%% %%KUMA_ZONE%% %%KUMA_DESTINATION_SERVICE%% %%KUMA_SOURCE_SERVICE%% %%KUMA_TRAFFIC_DIRECTION%% %%KUMA_SOURCE_ADDRESS%%"}}}
      - {type: File, file: {path: %s, format: {type: Json, json: [{key: code, value: "%%RESPONSE_CODE%%"}, {key: mesh, value: "%%KUMA_MESH%%"}]}}}
---
type: MeshAccessLog
name: out
spec:
  targetRef: {kind: Dataplane, labels: {app: client}}
  to:
  - targetRef: {kind: MeshService, labels: {app: web}}
    default: {backends: [{type: File, file: {path: %s}}]}`, file("plain"), file("json"), file("default")))
	for name, want := range map[string]string{
		"plain":   "200 default east kri_dp_default_east__server_web unknown INBOUND 127.0.0.1:0\n",
		"json":    `{"code":200,"mesh":"default"}` + "\n",
		"default": `] default "GET /path HTTP/1.1" 200 - `,
	} {
		var got string
		traffic.Until(t, name+" is not written", func() bool {
			// On new connections: logs are part of listeners.
			traffic.Get(t, s.direct, "Connection", "close")
			traffic.Get(t, s.outbound+"path", "Connection", "close")
			b, err := os.ReadFile(file(name))
			got = string(b)
			return err == nil && strings.HasSuffix(got, "\n")
		})
		if !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
		if name == "default" && !strings.Contains(got, `"tested" "web" "127.0.0.1"`) {
			t.Errorf("what the node knows: %q", got)
		}
	}
	s.Remove(t, "MeshAccessLog", "in")
	s.Remove(t, "MeshAccessLog", "out")
}
