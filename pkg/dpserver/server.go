// Package dpserver is what a zone's control plane offers to its proxies: the
// bootstrap document and, on the same port, the ADS stream. It authenticates
// proxies, keeps the Dataplanes they bring with them, and writes down when they
// come, go and refuse what they were sent.
package dpserver

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	healthv3 "github.com/envoyproxy/go-control-plane/envoy/service/health/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	meshproto "github.com/atoll-mesh/atoll/api/kuma/mesh/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/compile"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/store"
	"github.com/atoll-mesh/atoll/pkg/view"
	"github.com/atoll-mesh/atoll/pkg/xds"
)

// Config is everything that a Server needs. Fields without a stated default are
// required.
type Config struct {
	Address    string // to listen on, such as ":5678"
	CertFile   string // PEM; read again when the file changes
	KeyFile    string
	MinTLS     uint16        // default TLS 1.2
	Ciphers    []uint16      // default: Go's
	HeaderTime time.Duration // to wait for request headers; default 5 s
	StopTime   time.Duration // to wait for open requests when stopping; default 10 s

	Store store.Store
	View  *view.View
	Kinds *resource.Kinds
	Site  resource.Site
	Log   *slog.Logger

	InstanceID string // of this control plane, in insights
	Version    string // of this control plane's API, to judge agents by

	// Authenticate checks a token against a Dataplane, as it was sent or as it is
	// stored. Nil: proxies are not asked who they are.
	Authenticate func(ctx context.Context, token string, dp *resource.Object) error
	// CheckIdentity refuses a Dataplane that came with its proxy when the identity
	// that it would get is more than its token proves. Nil: all may have what they
	// claim.
	CheckIdentity func(token string, dp *resource.Object) error
	// ReloadableTokens makes Envoy read the token from its file for each stream.
	ReloadableTokens bool

	// Attach begins to compile for a proxy, whose Dataplane is in the view.
	Attach func(compile.ProxyInfo) Attachment

	// Compiled is the revision for which all that were attached have what they
	// should. Nil: that is always the view's.
	Compiled func() store.Revision

	// Shaping finds out what made proxies refuse their configuration. Nil: it is
	// not told.
	Shaping Shaping

	// DeregistrationDelay is how long a Dataplane that came with its proxy
	// outlives the proxy's stream.
	DeregistrationDelay time.Duration
	// HealthReport is how often Envoys tell what they found of workloads that are
	// probed; default 5 s.
	HealthReport time.Duration
	// Exclusive says that no other control plane shares the store. Subscriptions
	// that an earlier run of this one left open are then known to be over.
	Exclusive bool
	// AppearTimeout is how long a proxy without a Dataplane waits for one to be
	// created; default 10 s.
	AppearTimeout time.Duration

	Bootstrap BootstrapParams
}

// Attachment is what is compiled for one proxy, until Detach.
type Attachment interface {
	xds.Source
	Detach()
	// Prove has fn called with what the proxy proves who it is with, each time
	// that changes. fn does not block.
	Prove(fn func(*compile.Proof))
	// Exports has fn called with the collectors that its agent sends to, each time
	// that changes. fn does not block.
	Exports(fn func(*meshproto.DataplaneInsight_OpenTelemetry))
}

// Server serves the proxies of a zone.
type Server struct {
	cfg     Config
	log     *slog.Logger
	certs   *certificates
	proxies *proxies
	writer  *writer
	blame   *blame

	questions questions
	hangUps   hangUps
	following following
}

// New checks the configuration and reads the certificate.
func New(cfg Config) (*Server, error) {
	setDefault(&cfg.MinTLS, tls.VersionTLS12)
	setDefault(&cfg.HeaderTime, 5*time.Second)
	setDefault(&cfg.StopTime, 10*time.Second)
	setDefault(&cfg.AppearTimeout, 10*time.Second)
	setDefault(&cfg.HealthReport, 5*time.Second)
	cfg.Bootstrap.setDefaults()
	certs, err := loadCertificates(cfg.CertFile, cfg.KeyFile)
	if err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, log: cfg.Log, certs: certs}
	s.hangUps.s = s
	s.writer = newWriter(s)
	s.blame = newBlame(s)
	s.proxies = newProxies(s)
	return s, nil
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// Run listens and serves until ctx ends. Streams are then closed, their ends are
// written down, and no Dataplane is removed.
func (s *Server) Run(ctx context.Context) error {
	l, err := (&net.ListenConfig{KeepAliveConfig: probes, Control: giveUp}).Listen(ctx, "tcp", s.cfg.Address)
	if err != nil {
		return fmt.Errorf("the server for proxies cannot listen: %w; is the port free (dpServer.port)?", err)
	}
	return s.Serve(ctx, l)
}

// Serve is Run on a listener of the caller's, which it closes.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	if s.cfg.Bootstrap.XDSPort == 0 {
		if a, ok := l.Addr().(*net.TCPAddr); ok {
			s.cfg.Bootstrap.XDSPort = uint32(a.Port)
		}
	}
	rpc := grpc.NewServer(append(xds.ServerOptions(),
		grpc.MaxConcurrentStreams(100),
		// Pings find proxies that hang. Hosts that went away are found by the kernel,
		// sooner and at no cost; see the splitter.
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 2 * time.Minute, Timeout: 20 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
	)...)
	xds.NewServer(s.proxies, xds.Options{Identifier: s.cfg.InstanceID, Log: s.log}).Register(rpc)
	healthv3.RegisterHealthDiscoveryServiceServer(rpc, &health{s: s})

	writerCtx, stopWriter := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWriter()
	var background sync.WaitGroup
	background.Go(func() { s.writer.run(writerCtx) })
	background.Go(func() { s.blame.run(writerCtx) })
	background.Go(func() { s.hangUps.run(ctx) })
	if s.cfg.Exclusive {
		background.Go(func() { s.endStale(ctx) })
	} else {
		background.Go(func() { s.heal(ctx) })
	}

	web := &http.Server{
		Handler:           s.handler(),
		ReadHeaderTimeout: s.cfg.HeaderTime,
		ReadTimeout:       4 * s.cfg.HeaderTime,
		IdleTimeout:       2 * time.Minute,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	split := newSplitter(l, &tls.Config{
		MinVersion:     s.cfg.MinTLS,
		CipherSuites:   s.cfg.Ciphers,
		GetCertificate: s.certs.get,
	}, s.cfg.HeaderTime, s.log)
	failed := make(chan error, 3)
	go func() { failed <- split.run() }()
	go func() { failed <- rpc.Serve(split.rpc) }()
	go func() { failed <- web.Serve(split.web) }()
	s.log.Info("serving proxies", "address", l.Addr().String(), "authentication", s.cfg.Authenticate != nil)

	var err error
	select {
	case err = <-failed:
	case <-ctx.Done():
	}
	// A stopping control plane keeps Dataplanes: their proxies are alive and will
	// find another one, or this one again.
	s.proxies.stop()
	s.questions.stop()
	stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.StopTime)
	defer cancel()
	l.Close()
	rpc.Stop()
	if e := web.Shutdown(stopCtx); e != nil {
		web.Close()
	}
	s.proxies.wait(stopCtx)
	if e := s.writer.flush(stopCtx, true); e != nil {
		s.log.Warn("the end of some streams could not be written", "error", e)
	}
	stopWriter()
	background.Wait()
	if errors.Is(err, http.ErrServerClosed) || errors.Is(err, net.ErrClosed) {
		err = nil
	}
	return err
}

// handler serves what is not gRPC.
func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /bootstrap", s.serveBootstrap)
	mux.HandleFunc("GET /questions", s.serveQuestions)
	mux.HandleFunc("POST /zone-probes", s.serveZoneProbes)
	mux.HandleFunc("POST /drain", s.serveDrain)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if p := recover(); p != nil {
				s.log.Error("a request crashed", "path", r.URL.Path, "panic", p)
				http.Error(w, "internal error; the control plane's log says more", http.StatusInternalServerError)
			}
		}()
		mux.ServeHTTP(w, r)
	})
}
