package accesslog

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"
)

// receiver takes lines on one connection after another.
type receiver struct {
	net.Listener
	lines chan string
	conns chan net.Conn
}

func receive(t *testing.T, address string) *receiver {
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	r := &receiver{Listener: l, lines: make(chan string, 100), conns: make(chan net.Conn, 10)}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			r.conns <- c
			go func() {
				for s := bufio.NewScanner(c); s.Scan(); {
					r.lines <- s.Text()
				}
			}()
		}
	}()
	return r
}

// TestStreamer sends lines in both forms to two addresses, leaves out what is no
// line, and goes on after a receiver was away.
func TestStreamer(t *testing.T) {
	one, two := receive(t, "127.0.0.1:0"), receive(t, "127.0.0.1:0")
	path := filepath.Join(t.TempDir(), "pipe")
	if err := os.WriteFile(path, []byte("left behind"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Open(path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); s.Run(ctx) }()
	envoy, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = envoy.Close() }()
	write := func(format string, args ...any) {
		t.Helper()
		if _, err := fmt.Fprintf(envoy, format+"\n", args...); err != nil {
			t.Fatal(err)
		}
	}
	want := func(r *receiver, text string) {
		t.Helper()
		if got := <-r.lines; got != text {
			t.Errorf("got %q, want %q", got, text)
		}
	}
	write("no line")
	write(`{"address": "", "message": "x"}`)
	write(`{"address": %q, "message": "plain\n"}`, one.Addr())
	write(`{"address": %q, "message": {"code":200}}`, two.Addr())
	write("%s;old;form", one.Addr())
	want(one, "plain")
	want(one, "old;form")
	want(two, `{"code":200}`)

	// The receiver goes away and comes back at the same address.
	address := one.Addr().String()
	_ = one.Close()
	_ = (<-one.conns).Close()
	again := receive(t, address)
	for i := 0; ; i++ { // a line or two may be lost until the end of the connection is seen
		write(`{"address": %q, "message": "again"}`, address)
		select {
		case got := <-again.lines:
			if got != "again" {
				t.Errorf("got %q", got)
			}
		default:
			continue
		}
		break
	}
	cancel()
	<-done
	if _, err := Open(path, slog.New(slog.DiscardHandler)); err != nil {
		t.Errorf("the pipe cannot be used again: %v", err)
	}
}
