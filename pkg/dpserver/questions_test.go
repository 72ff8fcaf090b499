package dpserver

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// agentOf connects as an agent does; answer gives status and body for a path.
// An empty body ends the connection instead.
func agentOf(t *testing.T, server *httptest.Server, name, token string, answer func(path string) string) (status int, ended chan struct{}) {
	t.Helper()
	conn, err := tls.Dial("tcp", server.Listener.Addr().String(), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	fmt.Fprintf(conn, "GET /questions?mesh=shop&name=%s HTTP/1.1\r\nHost: cp\r\nConnection: Upgrade\r\nUpgrade: %s\r\nAuthorization: Bearer %s\r\n\r\n", name, questionProtocol, token)
	in := bufio.NewReader(conn)
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	ended = make(chan struct{})
	if resp.StatusCode != http.StatusSwitchingProtocols {
		close(ended)
		return resp.StatusCode, ended
	}
	go func() {
		defer close(ended)
		defer conn.Close()
		for {
			req, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			body := answer(req.URL.RequestURI())
			if body == "" {
				return
			}
			fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		}
	}()
	return resp.StatusCode, ended
}

func TestAskingProxies(t *testing.T) {
	z := newZone(t, func(c *Config) { c.Authenticate = byLabel })
	server := httptest.NewTLSServer(z.handler())
	defer server.Close()
	id := resource.ID{Type: kind.Dataplane, Mesh: "shop", Name: "cart-1"}
	echo := func(path string) string { return path }

	if status, _ := agentOf(t, server, "cart-1", "cart", echo); status != http.StatusServiceUnavailable {
		t.Errorf("without a Dataplane: %d", status)
	}
	z.put(dataplaneJSON("cart-1", "127.0.0.1"))
	if status, _ := agentOf(t, server, "cart-1", "other", echo); status != http.StatusUnauthorized {
		t.Errorf("with a token of somebody else: %d", status)
	}
	if _, err := z.Stats(t.Context(), id, true, false); !errors.Is(err, ErrNotReachable) {
		t.Errorf("without a connection: %v", err)
	}
	status, first := agentOf(t, server, "cart-1", "cart", echo)
	if status != http.StatusSwitchingProtocols {
		t.Fatalf("an agent is refused: %d", status)
	}
	for i, tc := range []struct {
		ask  func() ([]byte, error)
		want string
	}{
		{func() ([]byte, error) { return z.Stats(t.Context(), id, true, true) }, "/stats?format=json&usedonly="},
		{func() ([]byte, error) { return z.Stats(t.Context(), id, false, false) }, "/stats"},
		{func() ([]byte, error) { return z.Clusters(t.Context(), id, true) }, "/clusters?format=json"},
	} {
		if b, err := tc.ask(); err != nil || string(b) != tc.want {
			t.Errorf("%d: %q %v, want %q", i, b, err, tc.want)
		}
	}

	// A newer connection replaces the older one.
	dump := `{"configs":[{"bootstrap":{"x":{"initial_metadata":[{"key":"authorization","value":"a.b\u003cc"}]},"y":"Bearer a.b\u003cc"}}]}`
	_, second := agentOf(t, server, "cart-1", "cart", func(string) string { return dump })
	<-first
	b, err := z.ConfigDump(t.Context(), id, true)
	if err != nil || strings.Contains(string(b), "a.b") || strings.Count(string(b), redacted) != 2 {
		t.Errorf("a configuration with a token: %s %v", b, err)
	}

	// An answer that does not come in time ends the connection.
	hang, cancel := context.WithCancel(t.Context())
	givenUp := make(chan struct{})
	_, third := agentOf(t, server, "cart-1", "cart", func(string) string {
		cancel()
		<-givenUp
		return strings.Repeat("x", 10)
	})
	<-second
	if _, err := z.Clusters(hang, id, false); err == nil {
		t.Error("a question that was given up has an answer")
	}
	close(givenUp)
	<-third
}

func TestAskingAProxyThatLeaves(t *testing.T) {
	z := newZone(t, nil)
	server := httptest.NewTLSServer(z.handler())
	defer server.Close()
	z.put(dataplaneJSON("cart-1", "127.0.0.1"))
	_, ended := agentOf(t, server, "cart-1", "", func(string) string { return "" })
	id := resource.ID{Mesh: "shop", Name: "cart-1"}
	if _, err := z.Clusters(t.Context(), id, false); !errors.Is(err, ErrNotReachable) {
		t.Errorf("the agent left: %v", err)
	}
	<-ended
}

func TestTokensOfUnusualConfigurations(t *testing.T) {
	for in, want := range map[string]string{
		`{}`: `{}`,
		`{"a":[{"key":"authorization","value":""}]}`:        `{"a":[{"key":"authorization","value":""}]}`,
		`{"key":"authorization","value":"a.b.c","n":1e400}`: `{"key":"authorization","value":"[redacted]","n":1e400}`,
		`{"key":"authorization","value":{"not":"text"}}`:    `{"key":"authorization","value":{"not":"text"}}`,
	} {
		got, err := withoutTokens([]byte(in))
		if err != nil {
			t.Errorf("%s: %v", in, err)
		} else if want != string(got) {
			t.Errorf("%s became %s", in, got)
		}
	}
	if _, err := withoutTokens([]byte("no JSON")); err == nil {
		t.Error("text that is not JSON is passed on")
	}
}
