package traffic_test

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/atoll-mesh/atoll/test/traffic"
)

// TestProtocols sends what each protocol is through the Envoy of a client and
// that of a server.
func TestProtocols(t *testing.T) {
	t.Parallel()
	m := traffic.Start(t)
	m.Client(t)
	web := traffic.Serve(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Proto) })
	secret := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "secret") }))
	t.Cleanup(secret.Close)
	apps := map[string]int{
		"http": web.Port, "http2": web.Port, "tcp": traffic.ServeTCP(t, "hello"), "kafka": kafka(t),
		"tls": secret.Listener.Addr().(*net.TCPAddr).Port,
		"grpc": serveGRPC(t, func(string) (healthpb.HealthCheckResponse_ServingStatus, error) {
			return healthpb.HealthCheckResponse_SERVING, nil
		}),
	}
	in := map[string]int{}
	inbounds := ""
	for protocol, app := range apps {
		in[protocol] = traffic.Dead(t)
		inbounds += fmt.Sprintf("\n  - {port: %d, name: %s, servicePort: %d, protocol: %[2]s}", in[protocol], protocol, app)
	}
	m.Apply(t, "type: Dataplane\nname: server\nlabels: {app: server}\nnetworking:\n  address: 127.0.0.1\n  inbound:"+inbounds)
	m.Envoy("server")
	checks := map[string]func(at string) string{
		"http":  func(at string) string { return traffic.Get(t, "http://"+at).Body },
		"tcp":   func(at string) string { return traffic.Connect(t, at) },
		"kafka": fetchVersions,
		"http2": func(at string) string {
			tr := &http.Transport{Protocols: new(http.Protocols)}
			tr.Protocols.SetUnencryptedHTTP2(true)
			return fetch(&http.Client{Transport: tr, Timeout: 5 * time.Second}, "http://"+at)
		},
		"tls": func(at string) string {
			c := secret.Client()
			c.Transport.(*http.Transport).TLSClientConfig.InsecureSkipVerify = true
			return fetch(c, "https://"+at)
		},
		"grpc": func(at string) string {
			r, err := dialGRPC(t, at).Check(t.Context(), &healthpb.HealthCheckRequest{})
			if err != nil {
				return err.Error()
			}
			return r.GetStatus().String()
		},
	}
	want := map[string]string{"http": "HTTP/1.1", "http2": "HTTP/2.0", "tcp": "hello", "kafka": "versions 7", "tls": "secret", "grpc": "SERVING"}
	for protocol, check := range checks {
		m.Listening(t, in[protocol])
		called := protocol
		if protocol == "tls" { // bytes to clients
			called = "tcp"
		}
		at := m.Service(t, "svc-"+protocol, called, nil, in[protocol])
		if got := check(at); got != want[protocol] {
			t.Errorf("%s through both: %q, want %q", protocol, got, want[protocol])
		}
		if got := check(local(in[protocol])); got != want[protocol] {
			t.Errorf("%s through the server's: %q, want %q", protocol, got, want[protocol])
		}
	}
}

func fetch(c *http.Client, url string) string {
	resp, err := c.Get(url)
	if err != nil {
		return err.Error()
	}
	defer func() { _ = resp.Body.Close() }()
	b, _ := io.ReadAll(resp.Body)
	return string(b)
}

// kafka answers requests for the versions of its API, each with the number that
// relates it to its request.
func kafka(t *testing.T) int {
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
				for {
					var head struct {
						Size         int32
						Key, Version int16
						Correlation  int32
					}
					if binary.Read(c, binary.BigEndian, &head) != nil || head.Key != 18 {
						return
					}
					_, _ = io.CopyN(io.Discard, c, int64(head.Size-8))
					_ = binary.Write(c, binary.BigEndian, []int32{4, head.Correlation})
				}
			}()
		}
	}()
	return l.Addr().(*net.TCPAddr).Port
}

// fetchVersions is the first request of every client of Kafka.
func fetchVersions(at string) string {
	c, err := net.DialTimeout("tcp", at, time.Second)
	if err != nil {
		return err.Error()
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	for correlation := range int32(8) {
		_ = binary.Write(c, binary.BigEndian, struct {
			Size         int32
			Key, Version int16
			Correlation  int32
			Client       int16
		}{10, 18, 0, correlation, -1})
		var answer [2]int32
		if err := binary.Read(c, binary.BigEndian, &answer); err != nil || answer != [2]int32{4, correlation} {
			return fmt.Sprint(answer, err)
		}
	}
	return "versions 7"
}
