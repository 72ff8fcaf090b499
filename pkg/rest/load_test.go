package rest

import (
	"bufio"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"log/slog"
)

// Clients that send headers slowly, and thousands of idle event streams, leave
// other requests fast and cost little memory.
func TestManySlowAndIdleClients(t *testing.T) {
	const slow, idle = 1000, 5000
	raiseFileLimit(t, 2*(slow+idle)+500)
	w := newWorld(t, standalone)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := newHTTPServer(w.handler, Timeouts{ReadHeader: time.Second, Read: 10 * time.Second, Write: 30 * time.Second, Idle: time.Minute}, slog.New(slog.DiscardHandler))
	go srv.Serve(ln)
	defer srv.Close()
	address := ln.Addr().String()
	before := inUse()
	dial := func(text string) net.Conn {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		if _, err := c.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		return c
	}
	for range idle {
		c := dial("GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
		if line, err := bufio.NewReaderSize(c, 64).ReadString('\n'); err != nil || !strings.Contains(line, "200") {
			t.Fatalf("%q, %v", line, err)
		}
	}
	for range slow {
		dial("GET /meshes HTTP/1.1\r\nHost: loc")
	}
	grown := inUse() - min(before, inUse())
	var took []time.Duration
	for range 200 {
		start := time.Now()
		res, err := http.Get("http://" + address + "/meshes")
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	p99 := took[len(took)*99/100]
	t.Logf("p99 %s, memory grew by %d MB", p99, grown>>20)
	if p99 > 500*time.Millisecond {
		t.Errorf("p99 is %s", p99)
	}
	if grown > 300<<20 { // both ends of the connections are in this process
		t.Errorf("memory grew by %d MB", grown>>20)
	}
}

// inUse is what the process holds of heap and stacks.
func inUse() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}

func raiseFileLimit(t *testing.T, n uint64) {
	t.Helper()
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		t.Fatal(err)
	}
	if l.Cur < n {
		l.Cur = min(max(n, l.Cur), l.Max)
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l); err != nil || l.Cur < n {
			t.Fatalf("%d open files are needed, the limit is %d: raise it with ulimit -n, %v", n, l.Max, err)
		}
	}
}
