package kds

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"sync/atomic"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	meshv1 "github.com/atoll-mesh/atoll/api/kuma/mesh/v1alpha1"
	systemv1 "github.com/atoll-mesh/atoll/api/kuma/system/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/store"
	"github.com/atoll-mesh/atoll/pkg/view"
)

// ZoneConfig makes a Zone.
type ZoneConfig struct {
	View  *view.View
	Store store.Store
	// Name of the zone.
	Name string
	// Address of the global: grpcs://host:port, or grpc:// without TLS.
	Address    string
	RootCAFile string // PEM; empty: the system's roots
	SkipVerify bool   // of the global's certificate
	// Token returns the zone token; it is called for every connection. Nil or an
	// empty token: none is sent.
	Token      func() (string, error)
	InstanceID string
	Version    Version
	// Config is the zone's configuration as JSON without secrets, for people at
	// the global.
	Config     string
	SkipLabels []string // prefixes of labels that are not sent
	// AdoptGlobal lets a global that this zone does not know delete resources.
	AdoptGlobal bool
	Admin       *Admin // nil: it answers nothing
	// FlushInterval is how often counters of the zone's own ZoneInsight are
	// written; default 10 s.
	FlushInterval time.Duration
	MaxMessage    int // bytes; default 10 MiB
	Log           *slog.Logger
	// Dial adds options, for tests.
	Dial []grpc.DialOption
}

// Zone keeps a zone in step with its global.
type Zone struct {
	cfg      ZoneConfig
	dial     *dialer
	log      *slog.Logger
	insights *insights
	box      *outbox
	types    []resource.Type // that the global sends
}

// NewZone checks the configuration.
func NewZone(cfg ZoneConfig) (*Zone, error) {
	cfg.FlushInterval = cmp.Or(cfg.FlushInterval, 10*time.Second)
	cfg.MaxMessage = cmp.Or(cfg.MaxMessage, maxMessage)
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Admin == nil {
		cfg.Admin = &Admin{}
	}
	if !resource.IsDNS1035Label(cfg.Name) {
		return nil, fmt.Errorf("zone name %q: must be at most 63 lower case letters, digits or '-', starting with a letter", cfg.Name)
	}
	d, err := newDialer(&cfg)
	if err != nil {
		return nil, err
	}
	kinds := cfg.View.Kinds()
	return &Zone{
		cfg: cfg, dial: d, log: cfg.Log,
		insights: newInsights(cfg.View, cfg.Store, cfg.InstanceID, cfg.FlushInterval, cfg.Log),
		box:      newOutbox(cfg.View, typesWith(kinds, resource.ZoneToGlobal), toGlobal(cfg.Name, cfg.SkipLabels), cfg.Log),
		types:    typesWith(kinds, resource.GlobalToZone|resource.AcrossZones),
	}, nil
}

// Status is how far this zone and its global are in step; nil for other zones.
func (z *Zone) Status(zone string) *systemv1.ZoneSync {
	if zone != z.cfg.Name {
		return nil
	}
	return z.insights.sync(zone)
}

const (
	backoffFirst  = 250 * time.Millisecond
	backoffGrowth = 1.5
	backoffMax    = 5 * time.Second // a global that is back has its zones back within ten seconds
)

// Run connects to the global again and again until ctx ends. Only the leader of
// a zone runs it; writes made with ctx carry the fence that is in it.
func (z *Zone) Run(ctx context.Context) error {
	select {
	case <-z.cfg.View.Loaded():
	case <-ctx.Done():
		return ctx.Err()
	}
	var g errgroup.Group
	g.Go(func() error { return z.insights.run(ctx, nil) })
	pause := backoffFirst
	for {
		healthy, err := z.connect(ctx)
		if ctx.Err() != nil {
			break
		}
		if healthy {
			pause = backoffFirst
		}
		wait := time.Duration(float64(pause) * (0.8 + 0.4*rand.Float64()))
		z.log.Warn("not connected to the global; serving the last known state", "address", z.cfg.Address, "error", err, "retryIn", wait.Round(time.Millisecond))
		if sleep(ctx, wait) != nil {
			break
		}
		pause = min(time.Duration(float64(pause)*backoffGrowth), backoffMax)
	}
	_ = g.Wait() // it ends with ctx, and says so
	return ctx.Err()
}

// link is one connection to a global.
type link struct {
	z       *Zone
	client  meshv1.GlobalKDSServiceClient
	sync    meshv1.KDSSyncServiceClient
	guard   *guard
	atoll   atomic.Bool   // the global is an Atoll
	known   chan struct{} // closed when atoll becomes true
	healthy atomic.Bool   // something was received
}

// connect serves one connection until any of its calls fails. healthy tells
// whether the global ever answered.
func (z *Zone) connect(ctx context.Context) (healthy bool, err error) {
	conn, md, err := z.dial.dial()
	if err != nil {
		return false, err
	}
	defer conn.Close()
	ctx = metadata.NewOutgoingContext(ctx, md)
	l := &link{
		z: z, client: meshv1.NewGlobalKDSServiceClient(conn), sync: meshv1.NewKDSSyncServiceClient(conn),
		guard: newGuard(z.cfg.View, z.cfg.AdoptGlobal, z.log), known: make(chan struct{}),
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, call := range []func(context.Context) error{
		l.health, l.configs, l.stats, l.clusters, l.receive, l.send, l.watchIdentity,
	} {
		g.Go(func() error { return call(ctx) })
	}
	err = g.Wait()
	return l.healthy.Load(), err
}

// tolerated reports whether a call failed because the global does not have it.
func tolerated(err error) bool { return status.Code(err) == codes.Unimplemented }

// healthTimeout bounds one health check: a global that does not answer it is gone.
const healthTimeout = 5 * time.Second

// health tells the global that this zone is alive, as often as it wants.
func (l *link) health(ctx context.Context) error {
	interval := 5 * time.Minute // of the reference, until the global says otherwise
	for {
		call, cancel := context.WithTimeout(ctx, healthTimeout)
		resp, err := l.client.HealthCheck(call, &meshv1.ZoneHealthCheckRequest{})
		cancel()
		switch {
		case tolerated(err):
			return nil
		case err != nil:
			return fmt.Errorf("health check: %w", err)
		}
		if d := resp.GetInterval().AsDuration(); d > 0 {
			interval = d
		}
		if err := sleep(ctx, interval); err != nil {
			return err
		}
	}
}

// watchIdentity notices when the zone was told to adopt its global.
func (l *link) watchIdentity(ctx context.Context) error {
	sub := l.z.cfg.View.Subscribe()
	defer sub.Close()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-sub.C():
			l.guard.reload()
		}
	}
}

// receive takes what the global sends.
func (l *link) receive(ctx context.Context) error {
	stream, err := l.sync.GlobalToZoneSync(ctx)
	if err != nil {
		return fmt.Errorf("GlobalToZoneSync: %w", err)
	}
	progress := l.z.insights.progress(l.z.cfg.Name, down)
	progress.reset()
	end := l.z.insights.opened(l.z.cfg.Name, streamGlobalToZone)
	defer end()
	r := &receiver{
		ward: &fromGlobal{guard: l.guard}, types: l.z.types, node: l.node(),
		view: l.z.cfg.View, store: l.z.cfg.Store, progress: progress, log: l.z.log,
		news: l.atoll.Load, atoll: l.known, wake: l.guard.wake,
	}
	return fmt.Errorf("GlobalToZoneSync: %w", r.run(ctx, &greeted{KDSSyncService_GlobalToZoneSyncClient: stream, l: l}))
}

// send offers what this zone has.
func (l *link) send(ctx context.Context) error {
	stream, err := l.sync.ZoneToGlobalSync(ctx)
	if err != nil {
		return fmt.Errorf("ZoneToGlobalSync: %w", err)
	}
	name := l.z.cfg.Name
	end := l.z.insights.opened(name, streamZoneToGlobal)
	defer end()
	sub := l.z.insights.subscribe(name, up, l.z.cfg.Token != nil)
	defer sub.close()
	sub.describe(l.node(), l.z.cfg.Version.Version)
	progress := l.z.insights.progress(name, up)
	progress.reset()
	// What the global is decides how the first response looks. The header comes
	// with the first request, if not before.
	md, err := stream.Header()
	if err != nil {
		return fmt.Errorf("ZoneToGlobalSync: %w", eof(err))
	}
	s := &sender{self: name, box: l.z.box, features: features{}, progress: progress, log: l.z.log}
	s.features.add(md.Get(headerFeatures)...)
	return fmt.Errorf("ZoneToGlobalSync: %w", s.run(ctx, stream))
}

func (l *link) node() *core.Node {
	return node(l.z.cfg.Name, l.z.cfg.InstanceID, l.z.cfg.Config, l.z.cfg.Version)
}

// greeted is the stream from the global; with the first response it looks at the
// headers.
type greeted struct {
	meshv1.KDSSyncService_GlobalToZoneSyncClient
	l    *link
	done bool
}

// Recv returns the next response. With the first one come the headers, in which
// an Atoll global says who it is.
func (g *greeted) Recv() (*discovery.DeltaDiscoveryResponse, error) {
	if !g.done {
		g.done = true
		md, err := g.Header()
		if err != nil {
			return nil, eof(err)
		}
		for _, f := range md.Get(headerFeatures) {
			if f == featureAtoll && g.l.atoll.CompareAndSwap(false, true) {
				close(g.l.known)
			}
		}
		if id := md.Get(headerClusterID); len(id) > 0 {
			var head uint64
			if rev := md.Get(headerRevision); len(rev) > 0 {
				head, _ = strconv.ParseUint(rev[0], 10, 64)
			}
			g.l.guard.met(id[0], head)
		}
		g.l.z.log.Info("connected to the global", "address", g.l.z.cfg.Address, "atoll", g.l.atoll.Load())
	}
	resp, err := g.KDSSyncService_GlobalToZoneSyncClient.Recv()
	if err == nil {
		g.l.healthy.Store(true)
	}
	return resp, eof(err)
}

// eof makes the end of a stream an error: a global has no reason to end one.
func eof(err error) error {
	if errors.Is(err, io.EOF) {
		return errors.New("the global ended the stream")
	}
	return err
}
