package kds

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	_ "google.golang.org/grpc/encoding/gzip" // zones compress what they send
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	meshv1 "github.com/atoll-mesh/atoll/api/kuma/mesh/v1alpha1"
	systemv1 "github.com/atoll-mesh/atoll/api/kuma/system/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/auth"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/store"
	"github.com/atoll-mesh/atoll/pkg/view"
)

// Version is what a control plane says about its build.
type Version struct {
	Product   string // for the user agent, e.g. Atoll
	Version   string // of the API
	GitTag    string
	GitCommit string
	BuildDate string
}

// GlobalConfig makes a Global.
type GlobalConfig struct {
	View  *view.View
	Store store.Store
	// Tokens verifies zone tokens. Nil lets every zone in.
	Tokens *auth.Tokens
	// InstanceID names this process; it differs from one start to the next.
	InstanceID string
	// Instances returns the other live processes of this global. Nil: none.
	Instances  func() []string
	Version    Version
	SkipLabels []string // prefixes of labels that are not sent
	// Admit refuses what a zone may not say, with the reason. It is called by
	// several goroutines. Nil: a zone may say anything in its own name.
	Admit func(zone string, o *resource.Object) error
	// HealthInterval is how often zones shall call; default 10 s.
	HealthInterval time.Duration
	// FlushInterval is how often counters of ZoneInsights are written; default
	// 10 s. What people wait for is written at once.
	FlushInterval time.Duration
	MaxMessage    int // bytes; default 10 MiB
	Log           *slog.Logger
}

// Global serves zones.
type Global struct {
	meshv1.UnimplementedKDSSyncServiceServer
	meshv1.UnimplementedGlobalKDSServiceServer

	cfg      GlobalConfig
	log      *slog.Logger
	types    []resource.Type // that zones send
	insights *insights
	askers   askers

	mu    sync.Mutex
	boxes map[shape]*outbox
}

const maxMessage = 10 << 20

// NewGlobal makes a server; Register and Run make it serve.
func NewGlobal(cfg GlobalConfig) *Global {
	cfg.HealthInterval = cmp.Or(cfg.HealthInterval, 10*time.Second)
	cfg.FlushInterval = cmp.Or(cfg.FlushInterval, 10*time.Second)
	cfg.MaxMessage = cmp.Or(cfg.MaxMessage, maxMessage)
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Global{
		cfg: cfg, log: cfg.Log, boxes: map[shape]*outbox{},
		types:    typesWith(cfg.View.Kinds(), resource.ZoneToGlobal),
		insights: newInsights(cfg.View, cfg.Store, cfg.InstanceID, cfg.FlushInterval, cfg.Log),
	}
}

// typesWith lists the types that flow in any of the directions: first those that
// others refer to.
func typesWith(kinds *resource.Kinds, flows resource.Flow) []resource.Type {
	first := []resource.Type{kind.Config, kind.Mesh, kind.GlobalSecret, kind.Secret}
	var head, tail []resource.Type
	for k := range kinds.All() {
		switch {
		case k.Flows&flows == 0:
		case slices.Contains(first, k.Type):
			head = append(head, k.Type)
		default:
			tail = append(tail, k.Type)
		}
	}
	slices.SortFunc(head, func(a, b resource.Type) int { return slices.Index(first, a) - slices.Index(first, b) })
	return append(head, tail...)
}

// ServerOptions are what a server of these services needs: sizes, keepalives
// that notice a dead zone within ten seconds, and tolerance for those of zones.
func (g *Global) ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.MaxRecvMsgSize(g.cfg.MaxMessage),
		grpc.MaxSendMsgSize(g.cfg.MaxMessage),
		grpc.MaxConcurrentStreams(1000000),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 5 * time.Second, Timeout: 5 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
	}
}

// Register adds the services. Every call is authenticated by itself, whatever
// interceptors the server has.
func (g *Global) Register(s grpc.ServiceRegistrar) {
	meshv1.RegisterKDSSyncServiceServer(s, g)
	meshv1.RegisterGlobalKDSServiceServer(s, g)
}

// Run writes what is known about zones to the store until ctx ends. It first
// closes subscriptions that a process which is gone left open.
func (g *Global) Run(ctx context.Context) error {
	live := map[string]bool{}
	if g.cfg.Instances != nil {
		for _, i := range g.cfg.Instances() {
			live[i] = true
		}
	}
	return g.insights.run(ctx, live)
}

// EndOf ends the connections of zones to another replica of this global, which is
// gone and can no longer do so.
func (g *Global) EndOf(ctx context.Context, instance string) error {
	return g.insights.endOf(ctx, instance)
}

// Status is how far a zone and this global are in step now. It is nil for zones
// that are not connected to this process.
func (g *Global) Status(zone string) *systemv1.ZoneSync { return g.insights.sync(zone) }

// GlobalToZoneSync sends a zone what it shall have.
func (g *Global) GlobalToZoneSync(stream meshv1.KDSSyncService_GlobalToZoneSyncServer) error {
	ctx := stream.Context()
	p, err := g.enter(ctx, stream)
	if err != nil {
		return err
	}
	end := g.insights.opened(p.zone, streamGlobalToZone)
	defer end()
	sub := g.insights.subscribe(p.zone, down, p.token != "")
	defer sub.close()
	progress := g.insights.progress(p.zone, down)
	progress.reset()
	s := &sender{
		self: "global", zone: p.zone, features: p.features, progress: progress,
		box:     g.box(p.features),
		log:     g.log.With("zone", p.zone),
		recheck: func() error { return g.verify(p) },
	}
	s.first = func(n *core.Node) {
		s.box = g.box(p.features) // the node may have said more
		sub.describe(n, g.cfg.Version.Version)
		g.insights.sends(p.zone, s.box)
	}
	return g.ended(p, "GlobalToZoneSync", s.run(ctx, stream))
}

// ZoneToGlobalSync takes what a zone offers.
func (g *Global) ZoneToGlobalSync(stream meshv1.KDSSyncService_ZoneToGlobalSyncServer) error {
	ctx := stream.Context()
	p, err := g.enter(ctx, stream)
	if err != nil {
		return err
	}
	end := g.insights.opened(p.zone, streamZoneToGlobal)
	defer end()
	progress := g.insights.progress(p.zone, up)
	progress.reset()
	w := &fromZone{zone: p.zone, admit: g.cfg.Admit}
	if !p.features[featureHashSuffix] {
		w.prefix = p.zone + "."
	}
	r := &receiver{
		ward: w, types: g.types, view: g.cfg.View, store: g.cfg.Store, progress: progress,
		node: node(p.zone, g.cfg.InstanceID, "", g.cfg.Version),
		log:  g.log.With("zone", p.zone),
		news: func() bool { return p.features[featureAtoll] },
	}
	if p.features[featureAtoll] {
		known := make(chan struct{})
		close(known)
		r.atoll = known
	}
	return g.ended(p, "ZoneToGlobalSync", r.run(ctx, stream))
}

// headerSender is what both streams offer to answer with headers.
type headerSender interface{ SendHeader(metadata.MD) error }

// enter admits a zone, makes sure that the view is not behind what the zone may
// have been sent by another process, and answers with the headers that say who
// we are.
func (g *Global) enter(ctx context.Context, s headerSender) (*peer, error) {
	p, err := g.admit(ctx)
	if err != nil {
		return nil, err
	}
	head, err := g.cfg.Store.Read(ctx, g.cfg.View.Snapshot().Revision(), 1)
	if err == nil {
		_, err = g.cfg.View.Wait(ctx, head.Head)
	} else if errors.Is(err, store.ErrCompacted) {
		err = nil // the view is loading; ensureZone waits for it
	}
	if err == nil {
		err = g.ensureZone(ctx, p.zone)
	}
	if err != nil {
		return nil, status.Errorf(codes.Unavailable, "the global cannot serve zones now: %v", err)
	}
	md := metadata.Pairs(headerFeatures, featureAtoll)
	snap := g.cfg.View.Snapshot()
	if id := kind.ClusterIDIn(snap); id != "" {
		md.Set(headerClusterID, id)
		md.Set(headerRevision, strconv.FormatUint(uint64(snap.Revision()), 10))
	}
	return p, s.SendHeader(md)
}

// ensureZone registers a zone that connects for the first time.
func (g *Global) ensureZone(ctx context.Context, name string) error {
	select {
	case <-g.cfg.View.Loaded():
	case <-ctx.Done():
		return ctx.Err()
	}
	k := g.cfg.View.Kinds().ByType(kind.Zone)
	id := resource.ID{Type: kind.Zone, Name: name}
	registered := false // by this call: two streams may come at once
	rev, err := view.Edit(ctx, g.cfg.View, g.cfg.Store, id, store.ControlPlane, func(old *resource.Object) (*resource.Object, error) {
		if registered = old == nil; !registered {
			return old, nil
		}
		return k.New(resource.Meta{ID: id, Labels: g.cfg.View.Site().ComputeLabels(k, name, "", nil)},
			&systemv1.Zone{Enabled: wrapperspb.Bool(true)}, nil)
	})
	if err != nil {
		return err
	}
	if registered {
		g.log.Info("a new zone is registered", "zone", name)
	}
	_, err = g.cfg.View.Wait(ctx, rev)
	return err
}

// box returns the outbox that is shared by all zones with such features.
func (g *Global) box(f features) *outbox {
	s := shape{hash: f[featureHashSuffix], atoll: f[featureAtoll]}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.boxes[s] == nil {
		g.boxes[s] = newOutbox(g.cfg.View, typesWith(g.cfg.View.Kinds(), resource.GlobalToZone|resource.AcrossZones),
			toZone(s, g.cfg.SkipLabels, g.log), g.log)
	}
	return g.boxes[s]
}

// ended turns why a stream ended into what its peer is told.
func (g *Global) ended(p *peer, name string, err error) error {
	switch {
	case err == nil, errors.Is(err, io.EOF):
		return nil
	case errors.Is(err, context.Canceled), status.Code(err) == codes.Canceled:
		return status.Error(codes.Canceled, "the stream was cancelled")
	}
	g.log.Warn("a stream ended", "zone", p.zone, "stream", name, "error", err)
	if _, ok := status.FromError(err); ok {
		return err
	}
	if ended(err) {
		return status.Error(codes.Unavailable, "this control plane stops")
	}
	return status.Error(codes.Internal, err.Error())
}

// HealthCheck tells a zone that it is heard, and when to call again.
func (g *Global) HealthCheck(ctx context.Context, _ *meshv1.ZoneHealthCheckRequest) (*meshv1.ZoneHealthCheckResponse, error) {
	p, err := g.admit(ctx)
	if err != nil {
		return nil, err
	}
	g.insights.heard(p.zone)
	return &meshv1.ZoneHealthCheckResponse{Interval: durationpb.New(g.cfg.HealthInterval)}, nil
}

// node is how a control plane describes itself in first requests.
func node(id, instance, config string, v Version) *core.Node {
	str := structpb.NewStringValue
	list := func(values ...string) *structpb.Value {
		l := &structpb.ListValue{}
		for _, v := range values {
			l.Values = append(l.Values, str(v))
		}
		return structpb.NewListValue(l)
	}
	return &core.Node{Id: id, Metadata: &structpb.Struct{Fields: map[string]*structpb.Value{
		"config":           str(config),
		"control-plane-id": str(instance),
		"features":         list(featureZoneToken, featureHashSuffix, featureMultiZoneHostnames, featureProducerFlow),
		"version": structpb.NewStructValue(&structpb.Struct{Fields: map[string]*structpb.Value{
			"kumaCp": structpb.NewStructValue(&structpb.Struct{Fields: map[string]*structpb.Value{
				"version": str(v.Version), "gitTag": str(v.GitTag), "gitCommit": str(v.GitCommit), "buildDate": str(v.BuildDate),
			}}),
		}}),
	}}}
}
