package failover

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/atoll-mesh/atoll/test/cluster"
)

// app is the application of one workload: it answers with its name, by HTTP and
// by TCP.
type app struct {
	name   string
	web    *httptest.Server
	bytes  net.Listener
	status atomic.Int64 // instead of 200; 0: as usual
	calls  atomic.Int64 // of HTTP
	twice  *doubles
}

// doubles finds requests that came more than once.
type doubles struct {
	mu    sync.Mutex
	seen  map[string]bool
	posts int
}

func (d *doubles) note(r *http.Request) {
	number := r.Header.Get(cluster.HeaderRequest)
	if number == "" || r.Method != http.MethodPost {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.seen[number] {
		d.posts++
	}
	d.seen[number] = true
}

func (d *doubles) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.posts
}

func newApp(t testing.TB, name string, twice *doubles) *app {
	a := &app{name: name, twice: twice}
	a.web = httptest.NewServer(http.HandlerFunc(a.serve))
	t.Cleanup(a.web.Close)
	var err error
	if a.bytes, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.bytes.Close() })
	go a.serveBytes()
	return a
}

// serve takes as long as the request asks for.
func (a *app) serve(rw http.ResponseWriter, r *http.Request) {
	a.calls.Add(1)
	a.twice.note(r)
	if wait, err := time.ParseDuration(r.URL.Query().Get("takes")); err == nil {
		pause := time.NewTimer(wait) // the work
		defer pause.Stop()
		select {
		case <-pause.C:
		case <-r.Context().Done():
			return
		}
	}
	if r.URL.Query().Has("stream") {
		a.stream(rw, r)
		return
	}
	if status := a.status.Load(); status != 0 {
		rw.WriteHeader(int(status))
	}
	io.WriteString(rw, a.name)
}

// stream says the name again and again, until nobody listens.
func (a *app) stream(rw http.ResponseWriter, r *http.Request) {
	pace := time.NewTicker(20 * time.Millisecond) // of what is said
	defer pace.Stop()
	for {
		fmt.Fprintln(rw, a.name)
		if http.NewResponseController(rw).Flush() != nil {
			return
		}
		select {
		case <-pace.C:
		case <-r.Context().Done():
			return
		}
	}
}

// serveBytes answers lines. One that is a duration takes as long.
func (a *app) serveBytes() {
	for {
		conn, err := a.bytes.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			lines := bufio.NewScanner(conn)
			for lines.Scan() {
				if wait, err := time.ParseDuration(lines.Text()); err == nil {
					<-time.After(wait) // the work
				}
				fmt.Fprintln(conn, a.name)
			}
		}()
	}
}

func port(a net.Addr) int { return a.(*net.TCPAddr).Port }
