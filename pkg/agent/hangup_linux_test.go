package agent

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"testing"
	"time"
)

// Connections to the addresses that are named end, unless something came on them
// just now; all others stay.
func TestHangUp(t *testing.T) {
	connect := func() (net.Conn, net.Conn, netip.AddrPort) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		s, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close(); s.Close() })
		return c, s, l.Addr().(*net.TCPAddr).AddrPort()
	}
	ended := func(c net.Conn) bool {
		if err := c.SetReadDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		_, err := io.ReadFull(c, make([]byte, 1<<10))
		if err == nil {
			t.Fatal("it says too much")
		}
		return !errors.Is(err, os.ErrDeadlineExceeded)
	}
	gone, goneServer, goneAt := connect()
	other, _, _ := connect()
	to := map[netip.AddrPort]bool{goneAt: true}
	if _, err := goneServer.Write([]byte("alive")); err != nil {
		t.Fatal(err)
	}
	if n, err := hangUp(os.Getpid(), to, time.Minute); n != 0 || err != nil || ended(gone) {
		t.Fatalf("%d connections ended that are alive: %v", n, err)
	}
	if n, err := hangUp(os.Getpid(), to, 0); n != 1 || err != nil {
		t.Fatalf("%d connections ended, %v", n, err)
	}
	if !ended(gone) || ended(other) {
		t.Error("the wrong connection ended")
	}
	if _, err := hangUp(0, to, 0); err == nil {
		t.Error("connections of no process ended")
	}

	// As the control plane asks for it.
	again, _, againAt := connect()
	a := newAdmin("unix", "/nowhere")
	a.pid.Store(int64(os.Getpid()))
	ask := func(query string) int {
		q := &http.Request{Method: http.MethodPost, URL: &url.URL{Path: hangUpPath, RawQuery: query}}
		return a.answer(t.Context(), q).StatusCode
	}
	if status := ask("to=nonsense"); status != http.StatusBadRequest {
		t.Errorf("nonsense: %d", status)
	}
	if status := ask("to=" + againAt.String()); status != http.StatusOK {
		t.Errorf("status %d", status)
	}
	if err := again.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := again.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("a silent connection is not ended: %v", err)
	}
}
