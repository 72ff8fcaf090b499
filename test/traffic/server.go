package traffic

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// Server is an endpoint that counts the requests it answers.
type Server struct {
	Port  int
	Count atomic.Int64
	// Answer is called for each request; it may be changed while running.
	Answer atomic.Pointer[http.HandlerFunc]
}

// Serve answers HTTP of both versions as the function says until the test ends.
func Serve(t testing.TB, answer http.HandlerFunc) *Server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{Port: l.Addr().(*net.TCPAddr).Port}
	s.Answer.Store(&answer)
	h := s.handler()
	go func() { _ = h.Serve(l) }()
	t.Cleanup(func() { _ = h.Close() })
	return s
}

func (s *Server) handler() *http.Server {
	h := &http.Server{Protocols: new(http.Protocols), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/ready" {
			s.Count.Add(1)
		}
		(*s.Answer.Load())(w, r)
	})}
	h.Protocols.SetHTTP1(true)
	h.Protocols.SetUnencryptedHTTP2(true)
	return h
}

// Status answers everything with a status.
func Status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

// Named answers everything with 200 and a name.
func Named(name string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, name) }
}

// ServeTCP greets every connection with a line and closes it when the client
// does.
func ServeTCP(t testing.TB, greeting string) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go greet(l, greeting)
	return l.Addr().(*net.TCPAddr).Port
}

func greet(l net.Listener, greeting string) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer func() { _ = c.Close() }()
			_, _ = io.WriteString(c, greeting+"\n")
			_, _ = io.Copy(io.Discard, c)
		}()
	}
}

// Dead returns a port where nobody listens.
func Dead(t testing.TB) int { return freePort(t) }

// BlackHole returns a port where connecting neither succeeds nor fails: more
// wait there already than the kernel keeps.
func BlackHole(t testing.TB) int {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err == nil {
		t.Cleanup(func() { _ = syscall.Close(fd) })
		err = errors.Join(
			syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}),
			syscall.Listen(fd, 0))
	}
	if err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	port := name.(*syscall.SockaddrInet4).Port
	for range 3 {
		c, err := net.DialTimeout("tcp", net.JoinHostPort("127.0.0.1", fmt.Sprint(port)), 100*time.Millisecond)
		if err == nil {
			t.Cleanup(func() { _ = c.Close() })
		}
	}
	return port
}

// Reply is what came back.
type Reply struct {
	Status int
	Body   string
	Header http.Header
}

var client = &http.Client{
	Timeout:       10 * time.Second,
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// Do sends a request with headers given as name, value, …
func Do(t testing.TB, method, url string, headers ...string) Reply {
	t.Helper()
	req, err := http.NewRequest(method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Add(headers[i], headers[i+1])
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return Reply{resp.StatusCode, string(b), resp.Header}
}

// Try is Get that may fail.
func Try(url string) (Reply, error) {
	resp, err := client.Get(url)
	if err != nil {
		return Reply{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	return Reply{resp.StatusCode, string(b), resp.Header}, err
}

// Get is Do for GET.
func Get(t testing.TB, url string, headers ...string) Reply {
	t.Helper()
	return Do(t, http.MethodGet, url, headers...)
}

// Connect opens a connection and returns the line it is greeted with, empty
// when it is closed before.
func Connect(t testing.TB, address string) string {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		return ""
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	b := make([]byte, 64)
	n, _ := c.Read(b)
	for n > 0 && b[n-1] == '\n' {
		n--
	}
	return string(b[:n])
}

// Until repeats a check until it holds, and fails the test when it does not
// within fifteen seconds. It is for what Envoy does by its own clock.
func Until(t testing.TB, what string, check func() bool) {
	t.Helper()
	end := time.Now().Add(15 * time.Second)
	for !check() {
		if time.Now().After(end) {
			t.Fatal(what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// Hold opens a connection, waits until it is greeted or closed, and returns it.
func Hold(t testing.TB, address string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_, _ = c.Read(make([]byte, 64)) // nothing, if it is closed at once
	return c
}
