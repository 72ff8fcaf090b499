package rest

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// servesLoad tells the test binary that it is the server of TestManySlowAndIdleClients.
const servesLoad = "ATOLL_TEST_SERVES_LOAD"

// Clients that send headers or bodies slowly, and thousands of idle event
// streams, leave other requests fast and cost the server little memory. It is a
// process of its own, so that what is measured is the server alone.
func TestManySlowAndIdleClients(t *testing.T) {
	const slow, idle = 1000, 5000
	raiseFileLimit(t, slow+slow/2+idle+500)
	if os.Getenv(servesLoad) != "" {
		serveLoad(t)
		return
	}
	srv := startServer(t)
	dial := func(text string) net.Conn {
		c, err := net.Dial("tcp", srv.address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		if _, err := c.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		return c
	}
	ask := func() time.Duration {
		start := time.Now()
		res, err := http.Get("http://" + srv.address + "/meshes")
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if _, err := io.Copy(io.Discard, res.Body); err != nil || res.StatusCode != 200 {
			t.Fatalf("%s, %v", res.Status, err)
		}
		return time.Since(start)
	}
	ask()
	before := srv.memory()
	for range idle {
		c := dial("GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
		if line, err := bufio.NewReaderSize(c, 64).ReadString('\n'); err != nil || !strings.Contains(line, "200") {
			t.Fatalf("%q, %v", line, err)
		}
	}
	for range slow {
		dial("GET /meshes HTTP/1.1\r\nHost: loc")
	}
	for range slow / 2 {
		dial("PUT /meshes/default HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n{")
	}
	var took []time.Duration
	for range 300 {
		took = append(took, ask())
	}
	grown := srv.memory() - before
	slices.Sort(took)
	p99 := took[len(took)*99/100]
	t.Logf("p99 %s, the server grew by %d MB from %d MB", p99, grown>>20, before>>20)
	limit := 200 * time.Millisecond
	if raceFactor > 1 { // what the detector costs is not the server's
		limit = 500 * time.Millisecond
	}
	if p99 > limit {
		t.Errorf("p99 is %s", p99)
	}
	if grown >= raceFactor*200<<20 {
		t.Errorf("the server grew by %d MB", grown>>20)
	}
}

// serveLoad is the server: it says where it listens and ends with its input.
func serveLoad(t *testing.T) {
	w := newWorld(t, standalone)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := newHTTPServer(w.handler, Timeouts{ReadHeader: time.Minute, Read: time.Minute, Write: 30 * time.Second, Idle: time.Minute}, slog.New(slog.DiscardHandler))
	go srv.Serve(ln)
	defer srv.Close()
	fmt.Println("listens on", ln.Addr())
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() { // each line asks for the memory in use
		fmt.Println("memory", inUse())
	}
}

// inUse is what the process holds of heap and stacks.
func inUse() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}

type loadServer struct {
	t       *testing.T
	in      io.Writer
	out     *bufio.Scanner
	address string
}

func startServer(t *testing.T) *loadServer {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestManySlowAndIdleClients$")
	cmd.Env = append(os.Environ(), servesLoad+"=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s := &loadServer{t: t, in: in, out: bufio.NewScanner(out)}
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the server: %v", err)
		}
	})
	s.address = s.answer("listens on ")
	return s
}

// answer is what follows prefix on the next line that begins with it.
func (s *loadServer) answer(prefix string) string {
	s.t.Helper()
	for s.out.Scan() {
		if text, ok := strings.CutPrefix(s.out.Text(), prefix); ok {
			return text
		}
	}
	s.t.Fatalf("the server ended before it said %q", prefix)
	return ""
}

// memory is what the server holds of heap and stacks.
func (s *loadServer) memory() int64 {
	s.t.Helper()
	if _, err := io.WriteString(s.in, "\n"); err != nil {
		s.t.Fatal(err)
	}
	n, err := strconv.ParseInt(s.answer("memory "), 10, 64)
	if err != nil {
		s.t.Fatal(err)
	}
	return n
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
