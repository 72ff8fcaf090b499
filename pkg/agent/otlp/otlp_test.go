package otlp

import (
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

func env(pairs ...string) *Env {
	m := map[string]string{}
	for i := 0; i+1 < len(pairs); i += 2 {
		m[prefix+pairs[i]] = pairs[i+1]
	}
	return ReadEnv(func(k string) string { return m[k] })
}

// TestMerge shows what counts of what the control plane and the variables say.
func TestMerge(t *testing.T) {
	shared := []string{"ENDPOINT", "https://shared.example/base/", "PROTOCOL", "http/protobuf"}
	own := append(shared, "METRICS_ENDPOINT", "http://own.example:9/all", "METRICS_HEADERS", "A=b%20c, x = y")
	for _, c := range []struct {
		name, policy string
		env          *Env
		want         string // address, TLS, HTTP, path
	}{
		{"explicit", `"mode": "Optional", "precedence": "EnvFirst", "allowSignalOverrides": true`, env(), "policy:1 false false /in/v1/metrics"},
		{"env first", `"mode": "Optional", "precedence": "EnvFirst", "allowSignalOverrides": true`, env(shared...), "shared.example:443 true true /base/v1/metrics"},
		{"signal", `"mode": "Optional", "precedence": "EnvFirst", "allowSignalOverrides": true`, env(own...), "own.example:9 false true /all"},
		{"no overrides", `"mode": "Optional", "precedence": "EnvFirst"`, env(own...), "shared.example:443 true true /base/v1/metrics"},
		{"explicit first", `"mode": "Optional", "precedence": "ExplicitFirst", "allowSignalOverrides": true`, env(own...), "policy:1 false false /in/v1/metrics"},
		{"disabled", `"mode": "Disabled", "allowSignalOverrides": true`, env(own...), "policy:1 false false /in/v1/metrics"},
		{"host and port", `"allowSignalOverrides": true`, env("ENDPOINT", "plain.example:7"), "plain.example:7 true false /v1/metrics"},
		{"insecure", `"allowSignalOverrides": true`, env("ENDPOINT", "plain.example:7", "INSECURE", "true"), "plain.example:7 false false /v1/metrics"},
		{"bad values", `"allowSignalOverrides": true`, env("ENDPOINT", "::", "PROTOCOL", "smoke", "TIMEOUT", "soon", "COMPRESSION", "zip", "INSECURE", "maybe"), "policy:1 false false /in/v1/metrics"},
		{"whole path", `"allowSignalOverrides": true`, env("METRICS_ENDPOINT", "http://own.example:9"), "own.example:9 false false /"},
	} {
		var b Backend
		if err := json.Unmarshal([]byte(`{"endpoint": "policy:1", "path": "/in", "envPolicy": {`+c.policy+`}}`), &b); err != nil {
			t.Fatal(err)
		}
		s := b.settings(Metrics, c.env)
		address, secure := s.target()
		if got := fmt.Sprintf("%s %t %t %s", address, secure, *s.http, s.path); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
		if c.name == "signal" && (s.headers["a"] != "b c" || s.headers["x"] != "y") {
			t.Errorf("headers %v", s.headers)
		}
	}
}

// TestInventory tells what is set, and no value of it.
func TestInventory(t *testing.T) {
	if env().Inventory() != nil {
		t.Error("something is set")
	}
	b, err := json.Marshal(env("ENDPOINT", "http://secret", "HEADERS", "k=secret", "TRACES_CERTIFICATE", "secret", "LOGS_CLIENT_CERTIFICATE", "secret", "LOGS_CLIENT_KEY", "secret", "METRICS_PROTOCOL", "secret").Inventory())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"endpoint":true`, `"authMode":"headers"`, `"authMode":"tls"`, `"authMode":"mtls"`, `"overrideKinds":["certificate"]`, `"validationErrors":["metrics.protocol"]`} {
		if !strings.Contains(string(b), want) {
			t.Errorf("no %s in %s", want, b)
		}
	}
	if strings.Contains(string(b), "secret") {
		t.Errorf("values are told: %s", b)
	}
}

// got is what a collector was sent.
type got struct {
	mu  sync.Mutex
	all []string
}

func (g *got) add(s string) { g.mu.Lock(); g.all = append(g.all, s); g.mu.Unlock() }

func (g *got) has(s string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, x := range g.all {
		if x == s {
			return true
		}
	}
	return false
}

// grpcCollector answers by gRPC with what it was sent, refusing "bad".
func grpcCollector(t *testing.T, g *got) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer(grpc.ForceServerCodecV2(raw{}), grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		var in frame
		if err := stream.RecvMsg(&in); err != nil {
			return err
		}
		method, _ := grpc.MethodFromServerStream(stream)
		md, _ := metadata.FromIncomingContext(stream.Context())
		g.add(method + " " + string(in) + " " + strings.Join(md.Get("x-tenant"), ",") + " " + strings.Join(md.Get("grpc-accept-encoding"), ""))
		if string(in) == "bad" {
			return status.Error(codes.InvalidArgument, "no")
		}
		return stream.SendMsg(&in)
	}))
	go func() { _ = s.Serve(l) }()
	t.Cleanup(s.Stop)
	return l.Addr().String()
}

// send calls the agent as Envoy does.
func send(t *testing.T, socket string, s Signal, body string) (string, error) {
	t.Helper()
	c, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.ForceCodecV2(raw{})))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	in, out := frame(body), frame{}
	err = c.Invoke(t.Context(), methods[s], &in, &out)
	return string(out), err
}

// TestExports passes messages on, by gRPC and by HTTP, and follows what the
// control plane says.
func TestExports(t *testing.T) {
	var byGRPC, byHTTP got
	grpcAt := grpcCollector(t, &byGRPC)
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := io.Reader(r.Body)
		if r.Header.Get("Content-Encoding") == "gzip" {
			body, _ = gzip.NewReader(r.Body)
		}
		b, _ := io.ReadAll(body)
		byHTTP.add(r.URL.Path + " " + string(b) + " " + r.Header.Get("X-Tenant") + " " + r.Header.Get("Content-Type"))
		if string(b) == "bad" {
			w.WriteHeader(http.StatusTooManyRequests)
		}
	}))
	defer web.Close()
	dir := t.TempDir()
	socket := filepath.Join(dir, "a.sock")
	if err := os.WriteFile(socket, nil, 0o600); err != nil { // left behind
		t.Fatal(err)
	}
	var pushed []Push
	e := &Exports{Env: env("HEADERS", "X-Tenant=shop", "COMPRESSION", "gzip"), Log: slog.New(slog.DiscardHandler), Push: func(p []Push) { pushed = p }}
	defer e.Close()
	tell := func(doc string) {
		t.Helper()
		if err := e.Told([]byte(doc)); err != nil {
			t.Fatal(err)
		}
	}
	tell(fmt.Sprintf(`{"backends": [{"name": "a", "socketPath": %q, "endpoint": %q, "traces": {"enabled": true}, "logs": {"enabled": false, "blockedReasons": ["RequiredEnvMissing"]}, "metrics": {"enabled": true, "refreshInterval": "7s"}}]}`, socket, grpcAt))
	if out, err := send(t, socket, Traces, "one"); err != nil || out != "one" {
		t.Errorf("answered %q, %v", out, err)
	}
	if !byGRPC.has(methods[Traces] + " one shop gzip") {
		t.Errorf("the collector got %q", byGRPC.all)
	}
	if _, err := send(t, socket, Traces, "bad"); status.Code(err) != codes.InvalidArgument {
		t.Errorf("what the collector says is not passed on: %v", err)
	}
	if _, err := send(t, socket, Logs, "one"); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("a signal that is blocked: %v", err)
	}
	if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("socket %v, %v", info, err)
	}
	if len(pushed) != 1 || pushed[0].Interval.String() != "7s" {
		t.Errorf("metrics go to %+v", pushed)
	}
	tell(fmt.Sprintf(`{"backends": [{"name": "a", "socketPath": %q, "endpoint": %q, "useHTTP": true, "path": "/in", "logs": {"enabled": true}}]}`, socket, web.Listener.Addr()))
	if _, err := send(t, socket, Logs, "two"); err != nil {
		t.Error(err)
	}
	if !byHTTP.has("/in/v1/logs two shop application/x-protobuf") {
		t.Errorf("the collector got %q", byHTTP.all)
	}
	if _, err := send(t, socket, Logs, "bad"); status.Code(err) != codes.Unavailable {
		t.Errorf("what the collector says is not passed on: %v", err)
	}
	if len(pushed) != 0 {
		t.Errorf("metrics still go to %+v", pushed)
	}
	if err := e.Told(nil); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(socket); err == nil {
		t.Error("the socket is still there")
	}
	if e.Told([]byte("{")) == nil {
		t.Error("what is no document is accepted")
	}
}
