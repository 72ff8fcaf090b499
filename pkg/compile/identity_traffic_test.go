package compile

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/atoll-mesh/atoll/pkg/identity"
)

// TestMutualTLS sends traffic through two real Envoys with identities: who may
// talk to whom, with which proof, in which mode.
func TestMutualTLS(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	m := startMesh(ctx, t)
	web, echo := serveHTTP(t, "v1"), serveEcho(t)
	in, out := freePorts(t, "127.0.0.1", 3), freePorts(t, "127.0.0.1", 3)
	ca := m.ca("default.east.mesh.local")
	m.identify("24h", ca)
	m.apply(fmt.Sprintf(`
type: Dataplane
mesh: default
name: server
labels: {kuma.io/workload: server}
networking:
  address: 127.0.0.1
  inbound:
  - {port: %d, name: http, servicePort: %d, protocol: http}
  - {port: %d, name: echo, servicePort: %d, protocol: tcp}
---
type: MeshService
mesh: default
name: server
spec:
  selector: {dataplaneLabels: {matchLabels: {kuma.io/workload: server}}}
  ports:
  - {port: 80, name: http, targetPort: http, appProtocol: http}
  - {port: 9, name: echo, targetPort: echo, appProtocol: tcp}
  identities: [{type: SpiffeID, value: "spiffe://default.east.mesh.local/workload/server"}]
status: {tls: {status: Ready}}
---
type: MeshService
mesh: default
name: impostor
spec:
  selector: {dataplaneLabels: {matchLabels: {kuma.io/workload: server}}}
  ports: [{port: 80, name: http, targetPort: http, appProtocol: http}]
  identities: [{type: SpiffeID, value: "spiffe://default.east.mesh.local/workload/other"}]
status: {tls: {status: Ready}}
---
type: Dataplane
mesh: default
name: client
labels: {kuma.io/workload: client}
networking:
  address: 127.0.0.1
  inbound: [{port: %d, protocol: tcp}]
  outbound:
  - {port: %d, backendRef: {kind: MeshService, name: server, port: 80}}
  - {port: %d, backendRef: {kind: MeshService, name: server, port: 9}}
  - {port: %d, backendRef: {kind: MeshService, name: impostor, port: 80}}
---
type: MeshTrafficPermission
mesh: default
name: client
spec: {rules: [{default: {allow: [{spiffeID: {type: Exact, value: "spiffe://default.east.mesh.local/workload/client"}}]}}]}
---
type: MeshTimeout
mesh: default
name: short-lived
spec: {to: [{targetRef: {kind: Mesh}, default: {http: {maxConnectionDuration: 100ms}}}]}
`, in[0], web, in[1], echo, in[2], out[0], out[1], out[2]))
	m.start("server")
	m.start("client")
	m.live(ctx)
	for _, port := range append(in[:2], out...) {
		listening(ctx, t, port)
	}
	url := fmt.Sprintf("http://127.0.0.1:%d/", out[0])
	status := func(want int) {
		t.Helper()
		if got, body := get(t, http.DefaultClient, url); got != want {
			t.Errorf("status %d %q, want %d", got, body, want)
		}
	}
	status(200)
	checkEcho(t, out[1])
	if got, _ := get(t, http.DefaultClient, fmt.Sprintf("http://127.0.0.1:%d/", out[2])); got != http.StatusServiceUnavailable {
		t.Errorf("a server with another identity than its service's answered: %d", got)
	}

	// What others than the client's proxy get from the server's.
	issue := func(ca identity.Pair, id string) *tls.Certificate {
		t.Helper()
		loaded, err := identity.LoadCA(ca, true)
		if err != nil {
			t.Fatal(err)
		}
		leaf, err := loaded.Issue(id, time.Hour, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		cert, err := tls.X509KeyPair(leaf.Certificate, leaf.Key)
		if err != nil {
			t.Fatal(err)
		}
		return &cert
	}
	const other = "other.east.mesh.local"
	direct := func(cert *tls.Certificate) string { return directly(in[0], cert) }
	for name, c := range map[string]struct {
		cert *tls.Certificate
		want string
	}{
		"allowed":                               {issue(ca, "spiffe://default.east.mesh.local/workload/client"), "200"},
		"not allowed":                           {issue(ca, "spiffe://default.east.mesh.local/workload/stranger"), "403"},
		"without certificate":                   {nil, "refused"},
		"of another mesh":                       {issue(m.ca(other), "spiffe://"+other+"/workload/client"), "refused"},
		"of another mesh with our trust domain": {issue(m.ca(other), "spiffe://default.east.mesh.local/workload/client"), "refused"},
	} {
		if got := direct(c.cert); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
	plain := func() string {
		resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/", in[0]))
		if err != nil {
			return "refused"
		}
		_ = resp.Body.Close()
		return fmt.Sprint(resp.StatusCode)
	}
	if got := plain(); got != "refused" {
		t.Errorf("a strict inbound answers in the clear: %s", got)
	}

	m.apply(`
type: MeshTLS
mesh: default
name: permissive
spec: {rules: [{default: {mode: Permissive, tlsVersion: {min: TLS13}}}]}
`)
	m.live(ctx)
	if got := plain(); got != "200" {
		t.Errorf("a permissive inbound in the clear: %s", got)
	}
	status(200)

	m.apply(`
type: MeshTrafficPermission
mesh: default
name: nobody
spec: {rules: [{default: {deny: [{spiffeID: {type: Prefix, value: "spiffe://default.east.mesh.local/workload/client"}}]}}]}
`)
	m.live(ctx)
	// Connections that are open keep what they were opened with; soon none is.
	for {
		got, _ := get(t, http.DefaultClient, url)
		if got == http.StatusForbidden {
			break
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			t.Fatalf("a client that is not allowed any more: %d", got)
		}
	}
	// Envoy decides about a connection with its first byte: a server that speaks
	// first is heard, but hears nothing.
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", out[1]))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	_, _ = io.WriteString(c, "secret")
	if b, err := io.ReadAll(c); errors.Is(err, os.ErrDeadlineExceeded) || strings.Contains(string(b), "secret") {
		t.Errorf("a connection that is not allowed: %q %v", b, err)
	}
}

// directly calls an inbound as a proxy would, without checking who answers.
func directly(port int, cert *tls.Certificate) string {
	cfg := &tls.Config{InsecureSkipVerify: true} // the server's proof is not what is tested
	if cert != nil {
		cfg.Certificates = []tls.Certificate{*cert}
	}
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: cfg, DisableKeepAlives: true}, Timeout: 10 * time.Second}
	resp, err := c.Get(fmt.Sprintf("https://127.0.0.1:%d/", port))
	if err != nil {
		return "refused"
	}
	_ = resp.Body.Close()
	return fmt.Sprint(resp.StatusCode)
}

// TestRotationUnderLoad replaces certificates of four seconds, and the CA, while
// requests on old and on new connections go on. None fails.
func TestRotationUnderLoad(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	m := startMesh(ctx, t)
	web := serveHTTP(t, "v1")
	in, out := freePorts(t, "127.0.0.1", 2), freePorts(t, "127.0.0.1", 1)
	first, second := m.ca("default.east.mesh.local"), m.ca("default.east.mesh.local")
	m.identify("4s", first)
	m.apply(fmt.Sprintf(`
type: Dataplane
mesh: default
name: server
labels: {kuma.io/workload: server}
networking:
  address: 127.0.0.1
  inbound: [{port: %d, name: http, servicePort: %d, protocol: http}]
---
type: MeshService
mesh: default
name: server
spec:
  selector: {dataplaneLabels: {matchLabels: {kuma.io/workload: server}}}
  ports: [{port: 80, name: http, targetPort: http, appProtocol: http}]
  identities: [{type: SpiffeID, value: "spiffe://default.east.mesh.local/workload/server"}]
status: {tls: {status: Ready}}
---
type: Dataplane
mesh: default
name: client
labels: {kuma.io/workload: client}
networking:
  address: 127.0.0.1
  inbound: [{port: %d, protocol: tcp}]
  outbound: [{port: %d, backendRef: {kind: MeshService, name: server, port: 80}}]
---
type: MeshTrafficPermission
mesh: default
name: all
spec: {rules: [{default: {allow: [{spiffeID: {type: Prefix, value: "spiffe://default.east.mesh.local"}}]}}]}
---
type: MeshTimeout
mesh: default
name: short-lived
spec: {to: [{targetRef: {kind: Mesh}, default: {http: {maxConnectionDuration: 200ms}}}]}
`, in[0], web, in[1], out[0]))
	m.start("server")
	m.start("client")
	m.live(ctx)
	listening(ctx, t, in[0])
	listening(ctx, t, out[0])

	done := make(chan error, 1)
	stop := make(chan struct{})
	go func() {
		for n := 0; ; n++ {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/", out[0]))
			if err == nil {
				body, _ := io.ReadAll(resp.Body)
				_ = resp.Body.Close()
				if resp.StatusCode != 200 {
					err = fmt.Errorf("%s: %s", resp.Status, body)
				}
			}
			if err != nil {
				done <- fmt.Errorf("request %d: %w", n, err)
				return
			}
		}
	}()
	issued := m.e.Stats().Certificates
	rotated := func(n uint64) {
		t.Helper()
		for m.e.Stats().Certificates < issued+n {
			select {
			case err := <-done:
				t.Fatal(err)
			case <-time.After(20 * time.Millisecond):
			case <-ctx.Done():
				t.Fatal("certificates are not replaced")
			}
		}
	}
	rotated(3)
	m.apply(trust(first, second))
	m.live(ctx)
	m.put(m.secret("id-root-ca", second.Certificate), m.secret("id-private-key", second.Key))
	rotated(5)
	close(stop)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}
