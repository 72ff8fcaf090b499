package observe

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	stdlog "log"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Health collects what must be true before a process is ready. Conditions are
// named when they are added and reported by name while they are missing.
type Health struct {
	mu      sync.Mutex
	missing map[string]string
}

// Require adds a condition that is not met yet, with the reason why. The
// function returned changes it: an empty reason means that it is met.
func (h *Health) Require(name, reason string) (set func(reason string)) {
	change := func(reason string) {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.missing == nil {
			h.missing = map[string]string{}
		}
		if reason == "" {
			delete(h.missing, name)
			return
		}
		h.missing[name] = reason
	}
	change(reason)
	return change
}

// Missing returns the conditions that are not met, with reasons.
func (h *Health) Missing() map[string]string {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := make(map[string]string, len(h.missing))
	for name, reason := range h.missing {
		out[name] = reason
	}
	return out
}

// Diagnostics is the server for probes and metrics.
type Diagnostics struct {
	Address string // host:port to listen on
	Health  *Health
	Metrics prometheus.Gatherer
	Debug   bool        // serve /debug/pprof
	TLS     *tls.Config // nil: plain HTTP
	Log     *slog.Logger
}

// Handler serves /ready, /healthy, /metrics and, if asked for, /debug/pprof.
func (d *Diagnostics) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthy", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "healthy") })
	mux.HandleFunc("GET /ready", func(w http.ResponseWriter, _ *http.Request) {
		missing := d.Health.Missing()
		if len(missing) == 0 {
			fmt.Fprintln(w, "ready")
			return
		}
		w.WriteHeader(http.StatusServiceUnavailable)
		for name, reason := range missing {
			fmt.Fprintf(w, "not ready: %s: %s\n", name, reason)
		}
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(d.Metrics, promhttp.HandlerOpts{}))
	if d.Debug {
		mux.HandleFunc("/debug/pprof/", pprof.Index)
		mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	}
	return mux
}

// Run serves until ctx ends.
func (d *Diagnostics) Run(ctx context.Context) error {
	ln, err := net.Listen("tcp", d.Address)
	if err != nil {
		return fmt.Errorf("diagnostics server: %w; choose another port with diagnostics.serverPort", err)
	}
	return d.Serve(ctx, ln)
}

// Serve is Run on a listener that the caller opened.
func (d *Diagnostics) Serve(ctx context.Context, ln net.Listener) error {
	srv := &http.Server{
		Handler:           d.Handler(),
		ReadHeaderTimeout: 3 * time.Second,
		IdleTimeout:       2 * time.Minute,
		ErrorLog:          ServerLog(d.Log),
	}
	if d.TLS != nil {
		ln = tls.NewListener(ln, d.TLS)
	}
	stop := context.AfterFunc(ctx, func() { srv.Close() })
	defer stop()
	if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("diagnostics server: %w", err)
	}
	return nil
}

// ServerLog is the error log for an http.Server, at level debug: what lands there
// is mostly clients that go away or do not trust a certificate.
func ServerLog(log *slog.Logger) *stdlog.Logger {
	if log == nil {
		return slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	}
	return slog.NewLogLogger(log.Handler(), slog.LevelDebug)
}
