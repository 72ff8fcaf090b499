package rest

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// Timeouts bound how long a connection may take for each step.
type Timeouts struct {
	ReadHeader, Read, Write, Idle time.Duration
}

// Server listens for the API. Either address may be empty.
type Server struct {
	Handler  http.Handler
	HTTP     string // host:port
	HTTPS    string // host:port
	TLS      *tls.Config
	Timeouts Timeouts
	Log      *slog.Logger
}

// drainTimeout bounds how long requests under way may take at the end.
const drainTimeout = 5 * time.Second

// Listen opens the sockets, so that a port that is taken is found at start.
// The caller passes the result to Serve.
func (s *Server) Listen() ([]net.Listener, error) {
	var all []net.Listener
	for _, l := range []struct {
		address string
		tls     *tls.Config
	}{{s.HTTP, nil}, {s.HTTPS, s.TLS}} {
		if l.address == "" {
			continue
		}
		ln, err := net.Listen("tcp", l.address)
		if err != nil {
			for _, open := range all {
				open.Close()
			}
			return nil, fmt.Errorf("API server: %w", err)
		}
		if l.tls != nil {
			conf := l.tls.Clone()
			conf.NextProtos = []string{"h2", "http/1.1"}
			ln = tls.NewListener(ln, conf)
		}
		all = append(all, ln)
	}
	return all, nil
}

// Serve answers on the listeners until ctx ends, then lets requests under way
// finish.
func (s *Server) Serve(ctx context.Context, listeners []net.Listener) error {
	srv := newHTTPServer(s.Handler, s.Timeouts, s.Log)
	base := withStopping(context.WithoutCancel(ctx), ctx.Done())
	srv.BaseContext = func(net.Listener) context.Context { return base }
	failed := make(chan error, len(listeners))
	for _, ln := range listeners {
		go func() { failed <- srv.Serve(ln) }()
	}
	var err error
	select {
	case err = <-failed:
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	if srv.Shutdown(drain) != nil {
		srv.Close()
	}
	if err != nil && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("API server: %w", err)
	}
	return nil
}
