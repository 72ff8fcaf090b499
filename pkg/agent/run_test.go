package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/atoll-mesh/atoll/test/ports"
)

// envoyBinary finds the real Envoy.
func envoyBinary(t *testing.T) string {
	t.Helper()
	if p := os.Getenv("ENVOY"); p != "" {
		return p
	}
	if p, err := exec.LookPath("envoy"); err == nil {
		return p
	}
	p, err := filepath.Abs(filepath.Join("..", "..", "build", "envoy", "envoy"))
	if err == nil {
		_, err = os.Stat(p)
	}
	if err != nil {
		t.Fatal("no Envoy: run make tools")
	}
	return p
}

// freePort returns a port that was free a moment ago.
func freePort(t *testing.T, host string) uint32 {
	t.Helper()
	list, err := ports.Free(host, 1)
	if err != nil {
		t.Fatal(err)
	}
	return uint32(list[0])
}

// controlPlane answers bootstrap requests with a static Envoy that has one
// listener answering "hello".
type controlPlane struct {
	*httptest.Server
	mu       sync.Mutex
	answers  []int // statuses to give before the document
	requests []bootstrapRequest
	address  string // of the Dataplane
	port     uint32
}

func newControlPlane(t *testing.T, address string) *controlPlane {
	cp := &controlPlane{address: address, port: freePort(t, address)}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /bootstrap", cp.serve)
	cp.Server = httptest.NewUnstartedServer(mux)
	cp.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	cp.StartTLS()
	t.Cleanup(cp.Close)
	return cp
}

func (cp *controlPlane) serve(w http.ResponseWriter, r *http.Request) {
	var req bootstrapRequest
	if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	cp.mu.Lock()
	cp.requests = append(cp.requests, req)
	status := http.StatusOK
	if len(cp.answers) > 0 {
		status, cp.answers = cp.answers[0], cp.answers[1:]
	}
	cp.mu.Unlock()
	if status != http.StatusOK {
		w.WriteHeader(status)
		if status != http.StatusNotFound {
			fmt.Fprint(w, "because")
		}
		return
	}
	answer := bootstrapAnswer{Bootstrap: []byte(fmt.Sprintf(`
node: {id: shop.cart-1, cluster: cart}
admin: {address: {pipe: {path: %s/kuma-envoy-admin.sock}}}
static_resources:
  listeners:
  - name: hello
    address: {socket_address: {address: %s, port_value: %d}}
    filter_chains:
    - filters:
      - name: hcm
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: hello
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes: [{match: {prefix: /}, direct_response: {status: 200, body: {inline_string: hello}}}]
          http_filters:
          - name: router
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
`, req.Workdir, cp.address, cp.port))}
	answer.Sidecar.Networking.Address = cp.address
	json.NewEncoder(w).Encode(answer)
}

func (cp *controlPlane) ca() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cp.Certificate().Raw}))
}

// running is an agent under test.
type running struct {
	t       *testing.T
	c       Config
	signals chan os.Signal
	log     *buffer
	done    chan error
	ready   string
}

type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func (cp *controlPlane) config(t *testing.T, log io.Writer) Config {
	c := Defaults()
	c.ControlPlane.Address, c.ControlPlane.CA = cp.URL, cp.ca()
	c.ControlPlane.RetryBackoff = 10 * time.Millisecond
	c.Dataplane = "type: Dataplane\nmesh: shop\nname: cart-1\nnetworking: {address: " + cp.address + "}\n"
	c.Token = "aa.bb.cc"
	c.WorkDir = filepath.Join(t.TempDir(), "work")
	c.ReadinessPort = freePort(t, cp.address)
	c.Envoy.Binary, c.Envoy.Concurrency, c.Envoy.LogLevel = envoyBinary(t), 1, "warning"
	c.Log = slog.New(slog.NewTextHandler(log, nil))
	return c
}

func start(t *testing.T, cp *controlPlane, change func(*Config)) *running {
	t.Helper()
	r := &running{t: t, signals: make(chan os.Signal, 4), log: &buffer{}, done: make(chan error, 1)}
	r.c = cp.config(t, r.log)
	if change != nil {
		change(&r.c)
	}
	r.ready = fmt.Sprintf("http://%s/ready", net.JoinHostPort(cp.address, fmt.Sprint(r.c.ReadinessPort)))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		r.done <- Run(ctx, r.c, r.signals, Streams{Out: r.log, Err: r.log})
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
		if t.Failed() {
			t.Log(r.log.String())
		}
	})
	return r
}

func (r *running) waitReady() {
	r.t.Helper()
	err := Wait(r.t.Context(), WaitConfig{
		URL: r.ready, Timeout: 20 * time.Second, CheckFrequency: 10 * time.Millisecond, RequestTimeout: time.Second,
	})
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *running) end() error {
	r.t.Helper()
	select {
	case err := <-r.done:
		return err
	case <-time.After(20 * time.Second):
		r.t.Fatal("the agent does not end")
		return nil
	}
}

// child returns the process id of the Envoy that runs from this work folder.
func (r *running) child() int {
	r.t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		r.t.Fatal(err)
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		cmd, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if strings.Contains(string(cmd), r.c.WorkDir+"/bootstrap.yaml") {
			return pid
		}
	}
	return 0
}

func get(url string) (int, string, error) {
	client := http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(url)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

func TestEnvoyThatDiesIsStartedAgain(t *testing.T) {
	cp := newControlPlane(t, "127.0.0.1")
	cp.answers = []int{http.StatusNotFound, http.StatusServiceUnavailable} // both are asked again
	r := start(t, cp, nil)
	r.waitReady()
	cp.mu.Lock()
	if n := len(cp.requests); n != 3 {
		t.Errorf("%d requests, want 3", n)
	}
	req := cp.requests[0]
	cp.mu.Unlock()
	if req.Mesh != "shop" || req.Name != "cart-1" || req.DataplaneToken != "aa.bb.cc" || !strings.Contains(req.DataplaneResource, `"Dataplane"`) {
		t.Errorf("request %+v", req)
	}
	for _, name := range []string{"bootstrap.yaml", "cart-1"} {
		info, err := os.Stat(filepath.Join(r.c.WorkDir, name))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	pid := r.child()
	if pid == 0 {
		t.Fatal("no Envoy runs")
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	killed := time.Now()
	address := fmt.Sprintf("http://%s:%d/", cp.address, cp.port)
	for {
		if _, body, err := get(address); err == nil && body == "hello" && r.child() != pid {
			break
		}
		if time.Since(killed) > 3*time.Second {
			t.Fatal("no answer 3 s after Envoy was killed")
		}
	}
	t.Logf("served again after %s", time.Since(killed))
	r.signals <- syscall.SIGTERM
	r.signals <- syscall.SIGTERM
	if err := r.end(); err != nil {
		t.Error(err)
	}
	if r.child() != 0 {
		t.Error("Envoy outlives its agent")
	}
}

func TestSignalDrains(t *testing.T) {
	cp := newControlPlane(t, "127.0.0.1")
	r := start(t, cp, func(c *Config) { c.DrainTime = time.Second })
	r.waitReady()
	address := fmt.Sprintf("http://%s:%d/", cp.address, cp.port)
	sent := time.Now()
	r.signals <- syscall.SIGTERM
	for { // the announcement
		status, body, err := get(r.ready)
		if err == nil && status == http.StatusServiceUnavailable && body == "TERMINATING" {
			break
		}
		if time.Since(sent) > 5*time.Second {
			t.Fatalf("readiness says %d %q, %v", status, body, err)
		}
	}
	if _, body, err := get(address); err != nil || body != "hello" {
		t.Errorf("a draining proxy does not serve: %q, %v", body, err)
	}
	if err := r.end(); err != nil {
		t.Error(err)
	}
	if took := time.Since(sent); took < time.Second {
		t.Errorf("ended after %s, before the drain time", took)
	}
	if _, _, err := get(address); err == nil {
		t.Error("still served after the end")
	}
}

func TestDrainInboundKeepsEnvoy(t *testing.T) {
	cp := newControlPlane(t, "127.0.0.1")
	r := start(t, cp, nil)
	r.waitReady()
	r.signals <- syscall.SIGUSR2
	for begun := time.Now(); !strings.Contains(r.log.String(), "inbound listeners drain"); {
		if time.Since(begun) > 5*time.Second {
			t.Fatal("not drained")
		}
		if _, _, err := get(r.ready); err != nil {
			t.Fatal(err)
		}
	}
	if r.child() == 0 {
		t.Error("Envoy ended")
	}
	r.signals <- syscall.SIGTERM // at once, though the drain time is 30 s
	if err := r.end(); err != nil {
		t.Error(err)
	}
}

// TestSideBySide runs two agents on the same ports of different addresses.
func TestSideBySide(t *testing.T) {
	one, two := newControlPlane(t, "127.0.0.2"), newControlPlane(t, "127.0.0.3")
	a := start(t, one, nil)
	b := start(t, two, func(c *Config) { c.ReadinessPort = a.c.ReadinessPort })
	a.waitReady()
	b.waitReady()
	for _, cp := range []*controlPlane{one, two} {
		if _, body, err := get(fmt.Sprintf("http://%s:%d/", cp.address, cp.port)); err != nil || body != "hello" {
			t.Errorf("%s: %q, %v", cp.address, body, err)
		}
	}
	for _, r := range []*running{a, b} {
		r.signals <- syscall.SIGTERM
		r.signals <- syscall.SIGTERM
		if err := r.end(); err != nil {
			t.Error(err)
		}
	}
}

func TestErrorsSayWhatToDo(t *testing.T) {
	cp := newControlPlane(t, "127.0.0.1")
	elsewhere := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(elsewhere.Close)
	for name, c := range map[string]struct {
		answers []int
		change  func(*Config)
		want    string
	}{
		"refused":    {answers: []int{http.StatusUnprocessableEntity}, want: "because"},
		"no trust":   {change: func(c *Config) { c.ControlPlane.CA = "" }, want: "--ca-cert-file"},
		"wrong port": {change: func(c *Config) { c.ControlPlane.Address = elsewhere.URL }, want: "5678"},
		"no Envoy":   {change: func(c *Config) { c.Envoy.Binary = "no-such-envoy" }, want: "--binary-path"},
		"no token":   {change: func(c *Config) { c.Token = "x" }, want: "generate dataplane-token"},
		"gave up": {
			answers: []int{404, 404, 404, 404, 404, 404, 404, 404, 404, 404, 404, 404, 404, 404, 404, 404},
			change:  func(c *Config) { c.ControlPlane.RetryMax = 50 * time.Millisecond },
			want:    "gave up after 50ms: the Dataplane does not exist yet",
		},
		"cannot run": {change: func(c *Config) { c.Envoy.ComponentLogLevel = "nonsense" }, want: "envoy cannot run"},
	} {
		t.Run(name, func(t *testing.T) {
			cp.mu.Lock()
			cp.answers = c.answers
			cp.mu.Unlock()
			r := start(t, cp, c.change)
			if err := r.end(); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
}
