package agent

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// readiness answers /ready: whether the proxy takes traffic.
type readiness struct {
	admin       *admin
	terminating atomic.Bool
	server      *http.Server
	address     string
}

// readinessHost is the address to answer on: all of them in a pod, where the
// kubelet asks from outside; else the loopback address of the Dataplane's family.
// A Dataplane that is on a loopback address itself has the port there, so that
// several agents fit on one machine.
func readinessHost(a *admin, dataplane string, pod bool) string {
	ip := net.ParseIP(dataplane)
	six := ip != nil && ip.To4() == nil
	switch {
	case a.network == "tcp":
		host, _, err := net.SplitHostPort(a.address)
		if err == nil {
			return host
		}
	case pod && six:
		return "::"
	case pod:
		return "0.0.0.0"
	}
	switch {
	case ip != nil && ip.IsLoopback():
		return dataplane
	case six:
		return "::1"
	}
	return "127.0.0.1"
}

func startReadiness(ctx context.Context, a *admin, host string, port uint32, log *slog.Logger) (*readiness, error) {
	r := &readiness{admin: a}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort(host, fmt.Sprint(port)))
	if err != nil {
		return nil, fmt.Errorf("readiness cannot be answered: %w; choose another port with ATOLL_READINESS_PORT", err)
	}
	r.address = l.Addr().String()
	mux := http.NewServeMux()
	mux.HandleFunc("/ready", r.serve)
	r.server = &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: 5 * time.Second,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	go r.server.Serve(l) // ends with Close
	return r, nil
}

func (r *readiness) serve(w http.ResponseWriter, req *http.Request) {
	status, text := r.state(req.Context())
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("Cache-Control", "no-cache, max-age=0")
	h.Set("X-Powered-By", "atoll-dp")
	w.WriteHeader(status)
	io.WriteString(w, text)
}

func (r *readiness) state(ctx context.Context) (int, string) {
	if r.terminating.Load() {
		return http.StatusServiceUnavailable, "TERMINATING"
	}
	if r.admin.network != "unix" {
		return http.StatusOK, "READY"
	}
	status, body, err := r.admin.call(ctx, http.MethodGet, "/ready")
	switch {
	case err != nil:
		return http.StatusServiceUnavailable, "NOT_READY"
	case status == http.StatusOK:
		return status, "READY"
	}
	return status, string(body)
}

func (r *readiness) close() { r.server.Close() }
