package compile

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/grpc"

	"github.com/atoll-mesh/atoll/pkg/envoy/envoytest"
	"github.com/atoll-mesh/atoll/pkg/xds"
	"github.com/atoll-mesh/atoll/test/ports"
)

// TestTraffic sends HTTP of both versions and plain TCP through two real Envoys,
// the proxy of a client and that of a service, and changes the route and the
// timeout between them.
func TestTraffic(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	m := startMesh(ctx, t)
	web := serveHTTP(t, "v1")
	next := serveHTTP(t, "v2")
	echo := serveEcho(t)
	in, out := freePorts(t, "127.0.0.1", 5), freePorts(t, "127.0.0.1", 3)
	m.apply(fmt.Sprintf(`
type: Dataplane
mesh: default
name: server
labels: {app: server}
networking:
  address: 127.0.0.1
  inbound:
  - {port: %d, name: http, servicePort: %d, protocol: http}
  - {port: %d, name: next, servicePort: %d, protocol: http}
  - {port: %d, name: h2, servicePort: %d, protocol: http2}
  - {port: %d, name: echo, servicePort: %d, protocol: tcp}
---
type: MeshService
mesh: default
name: server
spec:
  selector: {dataplaneLabels: {matchLabels: {app: server}}}
  ports:
  - {port: 80, name: http, targetPort: http, appProtocol: http}
  - {port: 81, name: next, targetPort: next, appProtocol: http}
  - {port: 82, name: h2, targetPort: h2, appProtocol: http2}
  - {port: 9, name: echo, targetPort: echo, appProtocol: tcp}
---
type: Dataplane
mesh: default
name: client
networking:
  address: 127.0.0.1
  inbound: [{port: %d, protocol: tcp}]
  outbound:
  - {port: %d, backendRef: {kind: MeshService, name: server, port: 80}}
  - {port: %d, backendRef: {kind: MeshService, name: server, port: 9}}
  - {port: %d, backendRef: {kind: MeshService, name: server, port: 82}}
`, in[0], web, in[1], next, in[2], web, in[3], echo, in[4], out[0], out[1], out[2]))
	m.start("server")
	m.start("client")
	m.live(ctx)
	for _, port := range append(in[:4], out...) {
		listening(ctx, t, port)
	}

	url := fmt.Sprintf("http://127.0.0.1:%d/", out[0])
	if status, body := get(t, http.DefaultClient, url+"x/y/../z"); status != 200 || body != "v1 HTTP/1.1 /x/z" {
		t.Errorf("HTTP/1.1: %d %q", status, body)
	}
	h2 := &http.Client{Transport: &http.Transport{Protocols: h2c()}}
	if status, body := get(t, h2, fmt.Sprintf("http://127.0.0.1:%d/", out[2])); status != 200 || body != "v1 HTTP/2.0 /" {
		t.Errorf("HTTP/2: %d %q", status, body)
	}
	checkEcho(t, out[1])
	checkUpgrade(t, out[0])

	m.apply(`
type: MeshHTTPRoute
mesh: default
name: move
spec:
  to:
  - targetRef: {kind: MeshService, labels: {kuma.io/display-name: server}, sectionName: http}
    rules:
    - matches: [{path: {type: PathPrefix, value: /new}}]
      default:
        filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /moved}}}]
        backendRefs: [{kind: MeshService, labels: {kuma.io/display-name: server}, sectionName: next}]
`)
	m.live(ctx)
	if _, body := get(t, http.DefaultClient, url+"new/x"); body != "v2 HTTP/1.1 /moved/x" {
		t.Errorf("routed by prefix: %q", body)
	}
	if _, body := get(t, http.DefaultClient, url+"newer"); body != "v1 HTTP/1.1 /newer" {
		t.Errorf("not routed: %q", body)
	}

	m.apply(`
type: MeshTimeout
mesh: default
name: short
spec: {to: [{targetRef: {kind: Mesh}, default: {http: {requestTimeout: 50ms}}}]}
`)
	m.live(ctx)
	if status, _ := get(t, http.DefaultClient, url+"slow"); status != http.StatusGatewayTimeout {
		t.Errorf("a slow answer: %d, want %d", status, http.StatusGatewayTimeout)
	}
	checkEcho(t, out[1])
}

// meshUnderTest is an engine behind an ADS server, and the Envoys it serves.
type meshUnderTest struct {
	*world
	port int

	mu      sync.Mutex
	moved   chan struct{} // closed and replaced when a proxy reported
	proxies map[string]*session
}

type session struct {
	*Proxy
	m        *meshUnderTest
	reported xds.Report // guarded by m.mu
}

func startMesh(ctx context.Context, t *testing.T) *meshUnderTest {
	m := &meshUnderTest{world: newWorld(t), moved: make(chan struct{}), proxies: map[string]*session{}}
	var wg sync.WaitGroup
	t.Cleanup(wg.Wait)
	ctx, cancel := context.WithCancel(ctx)
	t.Cleanup(cancel)
	wg.Go(func() { _ = m.e.Run(ctx) })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	xds.NewServer(m, xds.Options{}).Register(s)
	wg.Go(func() { _ = s.Serve(l) })
	t.Cleanup(s.Stop)
	m.port = l.Addr().(*net.TCPAddr).Port
	return m
}

func (m *meshUnderTest) Open(_ context.Context, node *core.Node, _ bool) (xds.Session, error) {
	_, name, _ := strings.Cut(node.GetId(), ".")
	s := &session{Proxy: m.e.Attach(dataplane(name)), m: m}
	m.mu.Lock()
	m.proxies[name] = s
	m.mu.Unlock()
	return s, nil
}

func (s *session) Close(error) { s.Detach() }

func (s *session) Delivered(r xds.Report) {
	s.m.mu.Lock()
	s.reported = r
	close(s.m.moved)
	s.m.moved = make(chan struct{})
	s.m.mu.Unlock()
}

func (m *meshUnderTest) start(name string) {
	m.mu.Lock()
	m.proxies[name] = nil // expected
	m.mu.Unlock()
	envoytest.Start(m.t, "default."+name, "127.0.0.1", m.port)
}

// live waits until every Envoy has acknowledged all that was written.
func (m *meshUnderTest) live(ctx context.Context) {
	m.t.Helper()
	if err := m.e.Wait(ctx, m.rev); err != nil {
		m.t.Fatal(err)
	}
	for {
		m.mu.Lock()
		moved, waiting := m.moved, ""
		for name, s := range m.proxies {
			switch {
			case s == nil || s.Set() == nil || s.reported.Revision < s.Set().Revision:
				waiting = name
			case len(s.reported.Rejections) > 0:
				m.t.Errorf("Envoy %s refuses: %+v", name, s.reported.Rejections)
			}
		}
		m.mu.Unlock()
		if waiting == "" && m.e.Revision() >= m.rev {
			return
		}
		select {
		case <-moved:
		case <-ctx.Done():
			m.t.Fatalf("Envoy %s did not acknowledge revision %d", waiting, m.rev)
		}
	}
}

// listening waits until a connection is accepted. An Envoy that just started
// acknowledges everything before it listens, and does not say when it does.
func listening(ctx context.Context, t *testing.T, port int) {
	t.Helper()
	for {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			_ = c.Close()
			return
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			t.Fatal(err)
		}
	}
}

func serveHTTP(t *testing.T, version string) int {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Protocols: h2c(), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/slow":
			<-r.Context().Done()
			return
		case r.Header.Get("Upgrade") == "websocket":
			upgrade(w)
			return
		}
		_, _ = fmt.Fprintf(w, "%s %s %s", version, r.Proto, r.URL.Path)
	})}
	s.Protocols.SetHTTP1(true)
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close() })
	return l.Addr().(*net.TCPAddr).Port
}

func h2c() *http.Protocols {
	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(true)
	return p
}

func get(t *testing.T, c *http.Client, url string) (status int, body string) {
	t.Helper()
	resp, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// serveEcho greets first, as many protocols over TCP do, and then sends back
// what it receives until the client has no more.
func serveEcho(t *testing.T) int {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				_, _ = io.WriteString(c, "hello\n")
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	return l.Addr().(*net.TCPAddr).Port
}

func checkEcho(t *testing.T, port int) {
	t.Helper()
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	greeting := make([]byte, 6)
	if _, err := io.ReadFull(c, greeting); err != nil || string(greeting) != "hello\n" {
		t.Fatalf("a server that speaks first: %q, %v", greeting, err)
	}
	sent := make([]byte, 1<<20)
	_, _ = rand.Read(sent)
	copy(sent, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n") // what must not be understood
	go func() {
		_, _ = c.Write(sent)
		_ = c.(*net.TCPConn).CloseWrite()
	}()
	got, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(got, sent) {
		t.Fatalf("%d of %d bytes came back, equal: %v, error: %v", len(got), len(sent), bytes.Equal(got, sent), err)
	}
}

// upgrade takes the connection over as a WebSocket does and echoes.
func upgrade(w http.ResponseWriter) {
	c, rw, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	defer func() { _ = c.Close() }()
	_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	_, _ = io.Copy(c, rw)
}

func checkUpgrade(t *testing.T, port int) {
	t.Helper()
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	_, _ = io.WriteString(c, "GET /chat HTTP/1.1\r\nHost: server\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	r := bufio.NewReader(c)
	resp, err := http.ReadResponse(r, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("WebSocket: %+v, %v", resp, err)
	}
	_, _ = io.WriteString(c, "ping!")
	got := make([]byte, 5)
	if _, err := io.ReadFull(r, got); err != nil || string(got) != "ping!" {
		t.Errorf("WebSocket: %q, %v", got, err)
	}
}

// freePorts returns ports that nobody listened on a moment ago.
func freePorts(t *testing.T, host string, n int) []int {
	t.Helper()
	list, err := ports.Free(host, n)
	if err != nil {
		t.Fatal(err)
	}
	return list
}
