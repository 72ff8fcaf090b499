package mads

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"

	madsproto "github.com/atoll-mesh/atoll/api/kuma/observability/v1"
	"github.com/atoll-mesh/atoll/pkg/observe"
	"github.com/atoll-mesh/atoll/pkg/view"
)

// TypeURL is that of assignments.
const TypeURL = "type.googleapis.com/kuma.observability.v1.MonitoringAssignment"

// Path is where assignments are fetched by HTTP.
const Path = "/v3/discovery:monitoringassignments"

// Config of a Server.
type Config struct {
	Address string
	TLS     *tls.Config // nil: none
	// FetchTimeout is how long a request waits for news when it does not say;
	// 0 is 30 s.
	FetchTimeout time.Duration
	View         *view.View
	// Allow tells which meshes the caller may see, or refuses the request with a
	// status and why. Nil: everybody sees all.
	Allow func(r *http.Request) (sees func(mesh string) bool, status int, err error)
	Log   *slog.Logger
}

// Server answers by HTTP and by gRPC, on one port.
type Server struct {
	madsproto.UnimplementedMonitoringAssignmentDiscoveryServiceServer
	cfg      Config
	table    *table
	listener net.Listener
	stopped  chan struct{}
}

const (
	defaultFetchTimeout = 30 * time.Second
	maxRequest          = 1 << 20
	stopTime            = 2 * time.Second
	// bodyTime is how long a client may take to send its request, which is small.
	// What it waits for news does not count.
	bodyTime = 10 * time.Second
)

// New opens the port.
func New(c Config) (*Server, error) {
	if c.FetchTimeout == 0 {
		c.FetchTimeout = defaultFetchTimeout
	}
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", c.Address)
	if err != nil {
		return nil, fmt.Errorf("monitoringAssignmentServer: %w; choose another port with monitoringAssignmentServer.port", err)
	}
	if c.TLS != nil {
		c.TLS = c.TLS.Clone()
		c.TLS.NextProtos = []string{"h2", "http/1.1"}
		l = tls.NewListener(l, c.TLS)
	}
	return &Server{cfg: c, table: newTable(c.View), listener: l, stopped: make(chan struct{})}, nil
}

// Addr is where the server listens.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Run answers until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	g := grpc.NewServer()
	madsproto.RegisterMonitoringAssignmentDiscoveryServiceServer(g, s)
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+Path, s.serve)
	h := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if s.cfg.Allow != nil {
				sees, status, err := s.cfg.Allow(r)
				if err != nil {
					http.Error(w, err.Error(), status)
					return
				}
				r = r.WithContext(context.WithValue(r.Context(), seesKey{}, sees))
			}
			if r.ProtoMajor == 2 && strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
				g.ServeHTTP(w, r)
				return
			}
			mux.ServeHTTP(w, r)
		}),
		ReadHeaderTimeout: 5 * time.Second,
		IdleTimeout:       2 * time.Minute,
		Protocols:         new(http.Protocols),
		ErrorLog:          observe.ServerLog(s.cfg.Log),
	}
	h.Protocols.SetHTTP1(true)
	h.Protocols.SetHTTP2(true)
	h.Protocols.SetUnencryptedHTTP2(true)
	failed := make(chan error, 1)
	go func() { failed <- h.Serve(s.listener) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	close(s.stopped) // those who wait for news are told that there are none
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTime)
	defer cancel()
	if err := h.Shutdown(end); err != nil {
		_ = h.Close()
	}
	return nil
}

// seesKey is where requests carry which meshes their caller may see.
type seesKey struct{}

// FetchMonitoringAssignments implements the service for gRPC.
func (s *Server) FetchMonitoringAssignments(ctx context.Context, req *discovery.DiscoveryRequest) (*discovery.DiscoveryResponse, error) {
	return response(s.await(ctx, req, s.cfg.FetchTimeout)), nil
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	timeout := s.cfg.FetchTimeout
	if text := r.URL.Query().Get("fetch-timeout"); text != "" {
		var err error
		if timeout, err = time.ParseDuration(text); err != nil {
			http.Error(w, fmt.Sprintf("fetch-timeout: %q is not a duration such as 30s", text), http.StatusBadRequest)
			return
		}
	}
	conn := http.NewResponseController(w)
	_ = conn.SetReadDeadline(time.Now().Add(bodyTime)) // fails only where there is no connection
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
	_ = conn.SetReadDeadline(time.Time{})
	if err != nil {
		status := http.StatusBadRequest
		var large *http.MaxBytesError
		if errors.As(err, &large) {
			status = http.StatusRequestEntityTooLarge
		}
		http.Error(w, "the request could not be read: "+err.Error(), status)
		return
	}
	req := &discovery.DiscoveryRequest{}
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(body, req); err != nil {
		http.Error(w, "the request is no DiscoveryRequest: "+err.Error(), http.StatusBadRequest)
		return
	}
	got := s.await(r.Context(), req, timeout)
	if got.version == req.GetVersionInfo() {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	b, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(response(got))
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(b)
}

// await returns what a client is told once that differs from what it has, or the
// same as it has when time is up.
func (s *Server) await(ctx context.Context, req *discovery.DiscoveryRequest, timeout time.Duration) *set {
	client := req.GetNode().GetId()
	sees, _ := ctx.Value(seesKey{}).(func(string) bool)
	got := s.table.of(client, sees)
	if got.version != req.GetVersionInfo() || timeout <= 0 {
		return got
	}
	sub := s.cfg.View.Subscribe()
	defer sub.Close()
	t := time.NewTimer(timeout) // the client says how long it waits
	defer t.Stop()
	for {
		select {
		case <-sub.C():
			if got = s.table.of(client, sees); got.version != req.GetVersionInfo() {
				return got
			}
		case <-t.C:
			return got
		case <-s.stopped:
			return got
		case <-ctx.Done():
			return got
		}
	}
}

func response(s *set) *discovery.DiscoveryResponse {
	return &discovery.DiscoveryResponse{VersionInfo: s.version, Nonce: s.version, TypeUrl: TypeURL, Resources: s.bodies}
}
