package otlp

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"reflect"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	_ "google.golang.org/grpc/encoding/gzip" // Envoy may compress
	"google.golang.org/grpc/status"
)

// Backend is what the control plane says about one collector.
type Backend struct {
	Name     string `json:"name"`
	Socket   string `json:"socketPath"`
	Endpoint string `json:"endpoint"`
	HTTP     bool   `json:"useHTTP"`
	HTTPS    bool   `json:"useHTTPS"`
	Path     string `json:"path"`
	Env      struct {
		Mode                 string `json:"mode"`
		Precedence           string `json:"precedence"`
		AllowSignalOverrides bool   `json:"allowSignalOverrides"`
	} `json:"envPolicy"`
	Traces  *Plan `json:"traces"`
	Logs    *Plan `json:"logs"`
	Metrics *Plan `json:"metrics"`
}

// Plan is what becomes of one signal.
type Plan struct {
	Enabled         bool     `json:"enabled"`
	BlockedReasons  []string `json:"blockedReasons"`
	RefreshInterval string   `json:"refreshInterval"`
}

func (b *Backend) of(s Signal) *Plan {
	switch s {
	case Traces:
		return b.Traces
	case Logs:
		return b.Logs
	}
	return b.Metrics
}

// settings merges what the control plane says with the variables.
func (b *Backend) settings(s Signal, env *Env) settings {
	scheme := "http://"
	if b.HTTPS {
		scheme = "https://"
	}
	explicit := settings{endpoint: scheme + b.Endpoint, path: b.Path + signalPath(s), http: new(b.HTTP)}
	if b.Env.Mode == "Disabled" {
		return explicit
	}
	of := env.shared.settings(s, false)
	if b.Env.AllowSignalOverrides {
		of = of.over(env.own[s].settings(s, true))
	}
	if b.Env.Precedence == "ExplicitFirst" {
		return of.over(explicit)
	}
	return explicit.over(of)
}

// Push is a collector that metrics are sent to.
type Push struct {
	Sender   *Sender
	Interval time.Duration
	Name     string
}

// Exports takes what is for collectors on unix sockets and sends it on. Told may
// be called at any time.
type Exports struct {
	Env *Env
	Log *slog.Logger
	// Push is called with the collectors that get metrics when they change.
	Push func([]Push)

	mu       sync.Mutex
	backends map[string]*running // by socket
}

// running is one collector.
type running struct {
	told    Backend
	server  *grpc.Server
	senders map[Signal]*Sender
}

// Told applies what the control plane says: nil is nothing.
func (e *Exports) Told(b []byte) error {
	var doc struct {
		Backends []Backend `json:"backends"`
	}
	if b != nil {
		if err := json.Unmarshal(b, &doc); err != nil {
			return fmt.Errorf("collectors: %w", err)
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	next := map[string]*running{}
	var errs []error
	var push []Push
	for _, told := range doc.Backends {
		r := e.backends[told.Socket]
		if r == nil || !reflect.DeepEqual(r.told, told) {
			if r != nil {
				r.stop() // its socket is needed
				delete(e.backends, told.Socket)
			}
			var err error
			if r, err = e.start(told); err != nil {
				errs = append(errs, fmt.Errorf("collector %s: %w", told.Name, err))
				continue
			}
		}
		next[told.Socket] = r
		delete(e.backends, told.Socket)
		if s := r.senders[Metrics]; s != nil {
			push = append(push, Push{Name: told.Name, Sender: s, Interval: interval(told.Metrics.RefreshInterval)})
		}
	}
	if e.Push != nil {
		e.Push(push)
	}
	for _, r := range e.backends {
		r.stop()
	}
	e.backends = next
	return errors.Join(errs...)
}

func interval(text string) time.Duration {
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		return time.Minute
	}
	return d
}

// Close stops everything.
func (e *Exports) Close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, r := range e.backends {
		r.stop()
	}
	e.backends = nil
}

func (e *Exports) start(b Backend) (*running, error) {
	r := &running{told: b, senders: map[Signal]*Sender{}}
	for _, s := range signals {
		one := b.of(s)
		if one == nil {
			continue
		}
		if !one.Enabled {
			e.Log.Warn("a signal is not sent to a collector", "signal", s, "collector", b.Name, "because", one.BlockedReasons)
			continue
		}
		sender, err := newSender(s, b.settings(s, e.Env))
		if err != nil {
			r.stop()
			return nil, err
		}
		r.senders[s] = sender
	}
	// A socket that a killed agent left would be in the way.
	if err := os.Remove(b.Socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		r.stop()
		return nil, err
	}
	l, err := net.Listen("unix", b.Socket)
	if err != nil {
		r.stop()
		return nil, err
	}
	if err := os.Chmod(b.Socket, 0o600); err != nil {
		_ = l.Close()
		r.stop()
		return nil, err
	}
	r.server = grpc.NewServer(grpc.ForceServerCodecV2(raw{}), grpc.UnknownServiceHandler(r.take), grpc.MaxRecvMsgSize(maxMessage))
	go func() { _ = r.server.Serve(l) }() // ends with stop
	return r, nil
}

// maxMessage is more than Envoy sends at once.
const maxMessage = 64 << 20

// take sends one message on, and answers what the collector answers, so that
// whoever sent it knows what became of it.
func (r *running) take(_ any, stream grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(stream)
	for s, name := range methods {
		if name != method {
			continue
		}
		sender := r.senders[s]
		if sender == nil {
			return status.Errorf(codes.FailedPrecondition, "%s are not sent to this collector", s)
		}
		var in frame
		if err := stream.RecvMsg(&in); err != nil {
			return err
		}
		out, err := sender.Send(stream.Context(), in)
		if err != nil {
			if _, ok := status.FromError(err); ok {
				return err
			}
			return status.Error(codes.Unavailable, err.Error())
		}
		answer := frame(out)
		return stream.SendMsg(&answer)
	}
	return status.Errorf(codes.Unimplemented, "%s is not taken", method)
}

func (r *running) stop() {
	if r.server != nil {
		r.server.Stop()
	}
	for _, s := range r.senders {
		s.Close()
	}
}
