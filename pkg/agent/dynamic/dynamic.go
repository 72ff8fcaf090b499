// Package dynamic reads what the control plane tells an agent. It comes through
// the agent's own Envoy, which answers for it on a unix socket, so that it
// travels like all configuration of the proxy.
package dynamic

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// DefaultInterval is the time between two looks where nobody tells when to look.
const DefaultInterval = time.Second

// settling are the pauses between the looks after somebody said that there is
// something new: Envoy acknowledges it a moment before it answers with it.
var settling = []time.Duration{10 * time.Millisecond, 40 * time.Millisecond, 150 * time.Millisecond, 600 * time.Millisecond}

// timeout bounds one look; Envoy answers from memory.
const timeout = 2 * time.Second

// Source is what an agent is told, by path. Make one with New, Watch, and Run it.
type Source struct {
	client   *http.Client
	interval time.Duration
	log      *slog.Logger
	parts    []*part // fixed once Run or Refresh is called
	pushed   atomic.Bool
	wake     chan struct{} // cap 1

	// Alive tells whether Envoy runs with all of its configuration. When it does
	// and yet has no such socket, nothing is told any more. Nil: that is never
	// concluded.
	Alive func(context.Context) bool
}

// part is one path and who wants to know.
type part struct {
	path  string
	apply func([]byte) error

	mu   sync.Mutex
	etag string
	said string // the last error that was logged
	gone int    // looks in a row that found no socket
}

// goneAfter is how many looks in a row must find no socket: Envoy takes a moment
// to replace a listener.
const goneAfter = 4

// New reads from a unix socket. An interval of 0 is DefaultInterval.
func New(socket string, interval time.Duration, log *slog.Logger) *Source {
	if interval <= 0 {
		interval = DefaultInterval
	}
	return &Source{interval: interval, log: log, wake: make(chan struct{}, 1), client: &http.Client{
		Timeout: timeout,
		Transport: &http.Transport{
			MaxIdleConnsPerHost: 1,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, "unix", socket)
			},
		},
	}}
}

// Watch has apply called with the content of a path when it changes, and with nil
// when there is nothing under the path any more. It is called by one goroutine at
// a time per path. Content that it refuses is logged and not tried again.
func (s *Source) Watch(path string, apply func([]byte) error) {
	s.parts = append(s.parts, &part{path: path, apply: apply})
}

// Push has the source look now. While on, it looks again only when Push is called
// again, since whoever calls it does so whenever there is something new.
func (s *Source) Push(on bool) {
	s.pushed.Store(on)
	select {
	case s.wake <- struct{}{}:
	default: // it will look anyway
	}
}

// Run looks until ctx ends.
func (s *Source) Run(ctx context.Context) {
	defer s.client.CloseIdleConnections()
	pauses := settling
	for {
		s.Refresh(ctx)
		var again <-chan time.Time
		if len(pauses) > 0 {
			again, pauses = time.After(pauses[0]), pauses[1:]
		} else if !s.pushed.Load() {
			// Envoy does not tell its neighbours that its configuration changed: with a
			// control plane that does not either, the agent asks, with If-None-Match,
			// which is answered without content.
			again = time.After(s.interval)
		}
		select {
		case <-again:
		case <-s.wake:
			pauses = settling
		case <-ctx.Done():
			return
		}
	}
}

// Refresh looks now, and returns when what was new is applied.
func (s *Source) Refresh(ctx context.Context) {
	for _, p := range s.parts {
		if err := s.look(ctx, p); err != nil && ctx.Err() == nil {
			p.mu.Lock()
			again := p.said == err.Error()
			p.said = err.Error()
			p.mu.Unlock()
			if !again {
				s.log.Warn("what the control plane tells this agent could not be used", "part", p.path, "error", err)
			}
		}
	}
}

// look asks for one path. A socket that is not there is no error: Envoy makes it
// when there is something to tell.
func (s *Source) look(ctx context.Context, p *part) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://envoy/"+p.path, nil)
	if err != nil {
		return err
	}
	if p.etag != "" {
		req.Header.Set("If-None-Match", p.etag)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return s.missing(ctx, p)
	}
	defer resp.Body.Close()
	p.gone = 0
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	switch resp.StatusCode {
	case http.StatusNotModified:
		return nil
	case http.StatusNotFound:
		return p.nothing()
	case http.StatusOK:
		p.etag = resp.Header.Get("Etag")
		return p.apply(body)
	}
	return fmt.Errorf("envoy answers %s", resp.Status)
}

// missing is called when nobody answers. What was told last stays while Envoy
// restarts.
func (s *Source) missing(ctx context.Context, p *part) error {
	if p.etag == "" || s.Alive == nil || !s.Alive(ctx) {
		p.gone = 0
		return nil
	}
	if p.gone++; p.gone < goneAfter {
		return nil
	}
	return p.nothing()
}

func (p *part) nothing() error {
	if p.etag == "" {
		return nil
	}
	p.etag, p.gone = "", 0
	return p.apply(nil)
}
