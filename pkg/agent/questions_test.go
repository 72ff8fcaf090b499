package agent

import (
	"bufio"
	"context"
	"encoding/pem"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
)

// TestQuestions asks an agent as a control plane does, on the connection that
// the agent made, and checks what reaches Envoy.
func TestQuestions(t *testing.T) {
	envoy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, r.Method+" "+r.URL.RequestURI())
	}))
	defer envoy.Close()
	conns := make(chan net.Conn, 1)
	tokens := make(chan string, 1)
	cp := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+r.Header.Get("Upgrade")+"\r\n\r\n")
		tokens <- r.Header.Get("Authorization") + " " + r.URL.RawQuery
		conns <- conn
	}))
	defer cp.Close()

	c := Defaults()
	c.ControlPlane.Address, c.Token, c.Log = cp.URL, "a.b.c", slog.New(slog.DiscardHandler)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cp.Certificate().Raw})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.answerQuestions(ctx, newAdmin("tcp", envoy.Listener.Addr().String()), &bootstrapRequest{Mesh: "shop", Name: "cart-1"}, ca)
	}()
	if got := <-tokens; got != "Bearer a.b.c mesh=shop&name=cart-1" {
		t.Errorf("the agent says %q", got)
	}
	conn := <-conns
	in := bufio.NewReader(conn)
	for _, tc := range []struct {
		method, path, body string
		status             int
	}{
		{"GET", "/config_dump?include_eds", "GET /config_dump?include_eds", 200},
		{"GET", "/stats?usedonly=", "GET /stats?usedonly=", 200},
		{"POST", "/stats", "", 403},
		{"GET", "/quitquitquit", "", 403},
		{"GET", "/clusters", "GET /clusters", 200},
		{"POST", "/configuration?tells=true", "", 200},
		{"GET", "/configuration", "", 403},
	} {
		io.WriteString(conn, tc.method+" "+tc.path+" HTTP/1.1\r\nHost: envoy\r\n\r\n")
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != tc.status || tc.body != "" && string(body) != tc.body {
			t.Errorf("%s %s: %d %q, want %d %q", tc.method, tc.path, resp.StatusCode, body, tc.status, tc.body)
		}
	}
	cancel()
	<-done
	if _, err := in.ReadByte(); err == nil {
		t.Error("the connection is open although the agent ended")
	}
	conn.Close()
}
