// Package telemetry proves what can be seen of a mesh with real parts only: a
// control plane, agents, Envoys, a Prometheus and an OpenTelemetry collector.
package telemetry

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/atoll-mesh/atoll/test/cluster"
	"github.com/atoll-mesh/atoll/test/cluster/clustertest"
	"github.com/atoll-mesh/atoll/test/ports"
)

const (
	mesh = "shop"
	// Ports of Dataplanes and of the client's outbounds to them.
	httpPort, bytesPort       = 8080, 8081
	callHTTP, callBytes       = 10080, 10081
	callZones, callOutside    = 10082, 10083
	patience                  = 45 * time.Second // the machine may do much else
	metricsPort, securedPort  = 5670, 5671
	workload, clientOfMetrics = "web", "secured"
)

// world is a zone with a service and a client.
type world struct {
	*cluster.Cluster
	zone        *cluster.ControlPlane
	web, client *cluster.Proxy
	appPort     int // of the application of the service
}

func start(t *testing.T) *world {
	t.Helper()
	w := &world{Cluster: clustertest.New(t)}
	var err error
	if w.zone, err = w.Zone(t.Context(), "east"); err != nil {
		t.Fatal(err)
	}
	w.apply(t, "type: Mesh\nname: "+mesh)
	w.apply(t, `type: MeshMultiZoneService
mesh: shop
name: everywhere
spec: {selector: {meshService: {matchLabels: {kuma.io/display-name: web}}}, ports: [{port: 8080, name: main, appProtocol: http}]}
---
type: MeshExternalService
mesh: shop
name: outside
spec: {match: {type: HostnameGenerator, port: 80, protocol: http}, endpoints: [{address: 127.0.0.1, port: 9}]}`)
	app := httptest.NewServer(application())
	t.Cleanup(app.Close)
	w.appPort = app.Listener.Addr().(*net.TCPAddr).Port
	w.web = w.proxy(t, "web-1", workload, certificate(t), fmt.Sprintf(`  inbound:
  - {port: %d, servicePort: %d, serviceAddress: 127.0.0.1, protocol: http, name: main}
  - {port: %d, servicePort: %d, serviceAddress: 127.0.0.1, protocol: tcp, name: bytes}`, httpPort, w.appPort, bytesPort, greeter(t)))
	w.client = w.proxy(t, "client-1", "client", nil, outbounds())
	must(t, cluster.WaitAnswer(t.Context(), patience, w.client.URL(callHTTP)))
	return w
}

// outbounds are those of clients; %s is the address of the proxy.
func outbounds() string {
	return fmt.Sprintf(`  inbound:
  - {port: 49151}
  outbound:
  - {address: %%s, port: %d, backendRef: {kind: MeshService, name: %s, port: %d}}
  - {address: %%s, port: %d, backendRef: {kind: MeshService, name: %[2]s, port: %[5]d}}
  - {address: %%s, port: %[6]d, backendRef: {kind: MeshMultiZoneService, name: everywhere, port: 8080}}
  - {address: %%s, port: %[7]d, backendRef: {kind: MeshExternalService, name: outside}}`,
		callHTTP, workload, httpPort, callBytes, bytesPort, callZones, callOutside)
}

func (w *world) proxy(t *testing.T, name, workload string, env []string, networking string) *cluster.Proxy {
	t.Helper()
	p, err := w.Proxy(t.Context(), w.zone, w.zone, cluster.ProxySpec{
		Mesh: mesh, Name: name, Labels: map[string]string{"kuma.io/workload": workload, "app": name},
		Networking: networking, Env: append([]string{"ATOLL_DATAPLANE_RUNTIME_DYNAMIC_CONFIGURATION_REFRESH_INTERVAL=50ms"}, env...),
	})
	must(t, err)
	return p
}

// apply writes resources, separated by ---, and notes which fields they set.
func (w *world) apply(t *testing.T, docs string) {
	t.Helper()
	for doc := range strings.SplitSeq(docs, "\n---\n") {
		applied.Applied(t, doc)
	}
	if out, errOut, code := clustertest.Ctl(t, w.Cluster, w.zone.URL, docs, "apply", "-f", "-"); code != 0 {
		t.Fatalf("atollctl apply: exit code %d\n%s%s", code, out, errOut)
	}
}

func (w *world) remove(t *testing.T, plural, name string) {
	t.Helper()
	must(t, w.zone.Do(t.Context(), http.MethodDelete, "/meshes/"+mesh+"/"+plural+"/"+name, nil, nil))
}

// call sends a request through both Envoys.
func (w *world) call(t *testing.T, headers ...string) {
	t.Helper()
	callURL(t, w.client.URL(callHTTP), headers...)
}

func callURL(t *testing.T, url string, headers ...string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	must(t, err)
	req.Header.Set("Connection", "close") // listeners that change serve old connections as before
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return // whoever waits for a trace of the call calls again
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
}

// connect opens a connection of bytes through both Envoys and reads its greeting.
func (w *world) connect() {
	c, err := net.DialTimeout("tcp", fmt.Sprintf("%s:%d", w.client.Spec.Address, callBytes), 5*time.Second)
	if err != nil {
		return
	}
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	_, _ = bufio.NewReader(c).ReadString('\n')
	_ = c.Close()
}

// application answers everything with 200, and has metrics.
func application() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "web") })
	mux.HandleFunc("/metrics", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		_, _ = io.WriteString(w, "# TYPE app_jobs_total counter\napp_jobs_total{kind=\"a\"} 7\n# TYPE app_load gauge\napp_load 0.5\n")
	})
	mux.HandleFunc("/more", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/openmetrics-text; version=1.0.0")
		_, _ = io.WriteString(w, "# TYPE app_more counter\napp_more_total 3 # {trace_id=\"x\"} 1\n# EOF\n")
	})
	return mux
}

// greeter greets every connection with a line.
func greeter(t *testing.T) int {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, "hello\n")
			_ = c.Close()
		}
	}()
	return l.Addr().(*net.TCPAddr).Port
}

// lines collects what connections send, line by line.
type lines struct {
	port int
	mu   sync.Mutex
	all  []string
}

func takeLines(t *testing.T) *lines {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { _ = l.Close() })
	x := &lines{port: l.Addr().(*net.TCPAddr).Port}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				for s := bufio.NewScanner(c); s.Scan(); {
					x.mu.Lock()
					x.all = append(x.all, s.Text())
					x.mu.Unlock()
				}
			}()
		}
	}()
	return x
}

// has tells whether a line has all of the parts.
func (l *lines) has(parts ...string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.all {
		if hasAll(line, parts...) {
			return true
		}
	}
	return false
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.all, "\n")
}

func hasAll(text string, parts ...string) bool {
	for _, p := range parts {
		if !strings.Contains(text, p) {
			return false
		}
	}
	return true
}

// until repeats a check until it holds.
func until(t *testing.T, what string, check func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err := cluster.Until(ctx, what, func(context.Context) error {
		if !check() {
			return fmt.Errorf("not yet")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// tool is a program that "make tools" has put into build/, unless the variable
// names another.
func tool(t *testing.T, variable, name string) string {
	t.Helper()
	if p := os.Getenv(variable); p != "" {
		return p
	}
	root, err := cluster.Repository()
	must(t, err)
	p := filepath.Join(root, "build", name, name)
	if _, err := os.Stat(p); err != nil {
		t.Fatalf("%s is missing: run make tools, or set %s to its binary", name, variable)
	}
	return p
}

func free(t *testing.T, n int) []int {
	t.Helper()
	list, err := ports.Free("127.0.0.1", n)
	must(t, err)
	return list
}

func getJSON(ctx context.Context, url string, out any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	return json.NewDecoder(resp.Body).Decode(out)
}

// while is longer than several intervals of what is pushed here.
const while = 1500 * time.Millisecond

// waitFor tells whether a check holds within a while, for what must not happen or
// may take several rounds.
func waitFor(t *testing.T, check func() bool) bool {
	ctx, cancel := context.WithTimeout(t.Context(), while)
	defer cancel()
	return cluster.Until(ctx, "", func(context.Context) error {
		if !check() {
			return fmt.Errorf("not yet")
		}
		return nil
	}) == nil
}
