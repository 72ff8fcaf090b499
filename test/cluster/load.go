package cluster

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"
)

// LoadSpec says what a Load sends. Requests are begun evenly spaced, whatever
// happens to the ones before them. The body of an answer is who gave it.
type LoadSpec struct {
	Rate   int    // requests per second
	Method string // of HTTP; default GET
	URL    string
	// Address, instead of URL, is called by TCP: a request is a line each way on a
	// connection that carries some of them. One that ended between two requests is
	// replaced, as clients with a pool do.
	Address string
	Line    string        // of a request by TCP; default "who"
	Timeout time.Duration // default 5 s
	// Seen, unless nil, gets each outcome as it comes, from many goroutines.
	Seen func(Outcome)
}

// Outcome is what became of one request.
type Outcome struct {
	Begun time.Time
	Late  time.Duration // Begun was so much later than it should have been: the machine is busy
	Took  time.Duration
	Who   string // answered; empty: nobody
	Err   error
}

// Load is a steady flow of requests of which every outcome is kept.
type Load struct {
	LoadSpec
	cancel context.CancelFunc
	done   chan struct{}

	mu       sync.Mutex // guards outcomes
	outcomes []Outcome
}

// HeaderRequest numbers the requests of all loads, so that a server can tell
// whether it got one twice.
const HeaderRequest = "x-request-number"

// StartLoad begins to send.
func StartLoad(spec LoadSpec) *Load {
	if spec.Timeout == 0 {
		spec.Timeout = 5 * time.Second
	}
	if spec.Method == "" {
		spec.Method = http.MethodGet
	}
	ctx, cancel := context.WithCancel(context.Background())
	l := &Load{LoadSpec: spec, cancel: cancel, done: make(chan struct{})}
	go l.run(ctx)
	return l
}

// Stop ends the flow, waits for the last answers and returns all outcomes in
// order of their begin.
func (l *Load) Stop() []Outcome {
	l.cancel()
	<-l.done
	return l.outcomes
}

func (l *Load) run(ctx context.Context) {
	defer close(l.done)
	call, end := l.caller()
	defer end()
	var wg sync.WaitGroup
	defer wg.Wait()
	begun := time.Now()
	due := time.NewTimer(0) // of the next request
	defer due.Stop()
	for n := 0; ; n++ {
		at := begun.Add(time.Duration(n) * time.Second / time.Duration(l.Rate))
		due.Reset(time.Until(at))
		select {
		case <-due.C:
		case <-ctx.Done():
			return
		}
		i := l.reserve()
		wg.Go(func() {
			o := Outcome{Begun: time.Now()}
			o.Late = o.Begun.Sub(at)
			o.Who, o.Err = call(fmt.Sprintf("%p-%d", l, n))
			o.Took = time.Since(o.Begun)
			l.mu.Lock()
			l.outcomes[i] = o
			l.mu.Unlock()
			if l.Seen != nil {
				l.Seen(o)
			}
		})
	}
}

func (l *Load) reserve() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.outcomes = append(l.outcomes, Outcome{})
	return len(l.outcomes) - 1
}

// caller returns what makes one request with a number, and what ends all.
func (l *Load) caller() (call func(number string) (string, error), end func()) {
	if l.Address != "" {
		p := &lines{address: l.Address, line: cmp.Or(l.Line, "who"), timeout: l.Timeout}
		return func(string) (string, error) { return p.ask() }, p.close
	}
	c := &http.Client{
		Timeout:   l.Timeout,
		Transport: &http.Transport{MaxIdleConnsPerHost: 1024},
	}
	return func(number string) (string, error) { return askWith(c, l.Method, l.URL, number) }, c.CloseIdleConnections
}

func askWith(c *http.Client, method, url, number string) (string, error) {
	var body io.Reader
	if method == http.MethodPost {
		body = strings.NewReader("order 1")
	}
	req, err := http.NewRequest(method, url, body)
	if err != nil {
		return "", err
	}
	req.Header.Set(HeaderRequest, number)
	resp, err := c.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", err
	}
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s %s", resp.Status, b)
	}
	return string(b), nil
}

// lifetime is how many requests a connection of TCP carries: some stay open for a
// while, and new ones are made all the time.
const lifetime = 5

// lines is a pool of connections that carry a line each way per request.
type lines struct {
	address, line string
	timeout       time.Duration

	mu   sync.Mutex // guards idle
	idle []*line
}

type line struct {
	net.Conn
	in   *bufio.Reader
	used int
}

func (p *lines) ask() (string, error) {
	for {
		c, err := p.take()
		if err != nil {
			return "", err
		}
		answer, err := c.ask(p.line, p.timeout)
		if err != nil {
			c.Close()
			if c.used > 1 && !errors.Is(err, os.ErrDeadlineExceeded) {
				continue // it had ended while nobody used it, or so it looks
			}
			return "", err
		}
		p.give(c)
		return answer, nil
	}
}

func (p *lines) take() (*line, error) {
	p.mu.Lock()
	if n := len(p.idle); n > 0 {
		c := p.idle[n-1]
		p.idle = p.idle[:n-1]
		p.mu.Unlock()
		return c, nil
	}
	p.mu.Unlock()
	conn, err := net.DialTimeout("tcp", p.address, p.timeout)
	if err != nil {
		return nil, err
	}
	return &line{Conn: conn, in: bufio.NewReader(conn)}, nil
}

func (p *lines) give(c *line) {
	if c.used >= lifetime {
		c.Close()
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.idle = append(p.idle, c)
}

func (p *lines) close() {
	for _, c := range p.idle {
		c.Close()
	}
}

func (c *line) ask(what string, timeout time.Duration) (string, error) {
	c.used++
	if err := c.SetDeadline(time.Now().Add(timeout)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(c, what+"\n"); err != nil {
		return "", err
	}
	text, err := c.in.ReadString('\n')
	return strings.TrimSuffix(text, "\n"), err
}
