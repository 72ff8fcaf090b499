package traffic_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/atoll-mesh/atoll/test/traffic"
)

// pair is a client and a server, each with an Envoy. Its services are web, with
// HTTP, next, the same, and tcp, which speaks first.
type pair struct {
	*traffic.Mesh
	app      *traffic.Server
	web, tcp string // where the client's Envoy listens for them
	bare     string // the application without an Envoy of its own
	hole     string // what can never be connected
	in       int    // where the server's Envoy listens for web
	inTCP    int
	inHole   int // an inbound of the server whose application cannot be connected
}

func startPair(t *testing.T) *pair {
	m := traffic.Start(t)
	m.Client(t)
	p := &pair{Mesh: m, app: traffic.Serve(t, paced), in: traffic.Dead(t), inTCP: traffic.Dead(t), inHole: traffic.Dead(t)}
	m.Apply(t, fmt.Sprintf(`
type: Dataplane
name: server
labels: {app: server}
networking:
  address: 127.0.0.1
  inbound:
  - {port: %d, name: web, servicePort: %d, protocol: http}
  - {port: %d, name: tcp, servicePort: %d, protocol: tcp}
  - {port: %d, name: hole, servicePort: %d, protocol: http}`, p.in, p.app.Port, p.inTCP, traffic.ServeTCP(t, "hello"), p.inHole, traffic.BlackHole(t)))
	m.Envoy("server")
	m.Listening(t, p.in)
	m.Listening(t, p.inTCP)
	p.web = m.Service(t, "web", "http", nil, p.in)
	p.tcp = m.Service(t, "tcp", "tcp", nil, p.inTCP)
	p.bare = m.Service(t, "bare", "http", nil, p.app.Port)
	p.hole = m.Service(t, "hole", "http", nil, traffic.BlackHole(t))
	return p
}

func (p *pair) url(path string) string { return "http://" + p.web + path }

func local(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }

// direct is where the server's Envoy is called without the client's.
func (p *pair) direct(path string) string { return fmt.Sprintf("http://127.0.0.1:%d%s", p.in, path) }

// paced answers at once, after a second (/slow), or with a part of the body every
// 20 ms for a second (/drip); /connection tells which connection it came by.
func paced(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/slow":
		wait(r, time.Second)
	case "/drip":
		for range 50 {
			_, _ = io.WriteString(w, ".")
			w.(http.Flusher).Flush()
			if !wait(r, 20*time.Millisecond) {
				return
			}
		}
	case "/connection":
		_, _ = io.WriteString(w, r.RemoteAddr)
	}
}

// wait tells whether the client is still there at the end.
func wait(r *http.Request, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-r.Context().Done():
		return false
	}
}

// read gets a response that may break off, and how long it took.
func read(url string) (status int, body string, took time.Duration, err error) {
	begun := time.Now()
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
	resp, err := c.Get(url)
	if err != nil {
		return 0, "", time.Since(begun), err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), time.Since(begun), err
}

// TestTimeouts: each timeout of clients and servers ends what it is about, and
// nothing else.
func TestTimeouts(t *testing.T) {
	t.Parallel()
	p := startPair(t)
	for _, side := range []struct {
		name, head string
		url        func(string) string
		tcp        string
		// app and hole are the application, with nothing between the side and it, and
		// what cannot be connected.
		app, hole string
	}{
		{"to", "spec: {to: [{targetRef: {kind: Mesh}, default: %s}]}", p.url, p.tcp, p.bare, p.hole},
		{"rules", "spec: {targetRef: {kind: Dataplane, labels: {app: server}}, rules: [{default: %s}]}", p.direct, local(p.inTCP), local(p.in), local(p.inHole)},
	} {
		apply := func(t *testing.T, conf string) {
			p.Apply(t, "type: MeshTimeout\nname: timeout\n"+fmt.Sprintf(side.head, conf))
		}
		t.Run(side.name+"/request", func(t *testing.T) {
			apply(t, "{http: {requestTimeout: 60ms}}")
			status, _, took, _ := read(side.url("/slow"))
			if status != 504 || took > 900*time.Millisecond {
				t.Errorf("a slow answer: %d after %v", status, took)
			}
			if _, body, _, err := read(side.url("/drip")); err == nil {
				t.Errorf("a body that takes longer is whole: %d bytes", len(body))
			}
		})
		t.Run(side.name+"/stream idle", func(t *testing.T) {
			apply(t, "{http: {requestTimeout: 0s, streamIdleTimeout: 400ms}}")
			if status, _, took, _ := read(side.url("/slow")); status != 504 || took > 900*time.Millisecond {
				t.Errorf("a slow answer: %d after %v", status, took)
			}
			if _, body, _, err := read(side.url("/drip")); err != nil || len(body) != 50 {
				t.Errorf("a body that goes on: %d bytes, %v", len(body), err)
			}
		})
		t.Run(side.name+"/stream duration", func(t *testing.T) {
			apply(t, "{http: {requestTimeout: 0s, maxStreamDuration: 100ms}}")
			traffic.Until(t, "a stream lasts longer", func() bool { // clusters may change a moment after Envoy said so
				_, body, _, err := read(side.url("/drip"))
				return err != nil && len(body) < 50
			})
		})
		t.Run(side.name+"/connection duration", func(t *testing.T) {
			connection := func() string { return traffic.Get(t, "http://"+side.app+"/connection").Body }
			apply(t, "{http: {maxConnectionDuration: 0s}}")
			if a, b := connection(), connection(); a != b {
				t.Errorf("connections to the application are not kept: %s, %s", a, b)
			}
			apply(t, "{http: {maxConnectionDuration: 100ms}}")
			first := connection()
			traffic.Until(t, "a connection is used for longer", func() bool { return connection() != first })
		})
		t.Run(side.name+"/request headers", func(t *testing.T) {
			apply(t, "{http: {requestTimeout: 1s, requestHeadersTimeout: 100ms}}")
			address := strings.TrimSuffix(strings.TrimPrefix(side.url("/"), "http://"), "/")
			traffic.Until(t, "headers that do not end are waited for", func() bool {
				c, err := net.Dial("tcp", address)
				if err != nil {
					return false
				}
				defer func() { _ = c.Close() }()
				_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n")
				_ = c.SetDeadline(time.Now().Add(time.Second))
				b := make([]byte, 100)
				n, _ := c.Read(b)
				return strings.HasPrefix(string(b[:n]), "HTTP/1.1 408")
			})
		})
		t.Run(side.name+"/idle", func(t *testing.T) {
			apply(t, "{idleTimeout: 100ms}")
			traffic.Until(t, "an idle connection stays", func() bool {
				c := traffic.Hold(t, side.tcp)
				_ = c.SetDeadline(time.Now().Add(time.Second))
				_, err := c.Read(make([]byte, 1))
				return err == io.EOF
			})
			connection := func() string { return traffic.Get(t, "http://"+side.app+"/connection").Body }
			traffic.Until(t, "an idle connection to the application stays", func() bool {
				first := connection()
				time.Sleep(150 * time.Millisecond) // the idleness itself
				return connection() != first
			})
		})
		t.Run(side.name+"/connection", func(t *testing.T) {
			apply(t, "{connectionTimeout: 50ms}")
			if status, _, took, _ := read("http://" + side.hole + "/"); status != 503 || took > 2*time.Second {
				t.Errorf("what cannot be connected: %d after %v", status, took)
			}
		})
		p.Remove(t, "MeshTimeout", "timeout")
	}
}
