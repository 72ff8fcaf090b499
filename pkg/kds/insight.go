package kds

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	systemv1 "github.com/atoll-mesh/atoll/api/kuma/system/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/store"
	"github.com/atoll-mesh/atoll/pkg/view"
)

// keptSubscriptions is how many connections of a zone are remembered.
const keptSubscriptions = 10

// streamName is one of the streams that a zone has to its global.
type streamName string

const (
	streamGlobalToZone streamName = "global-to-zone"
	streamZoneToGlobal streamName = "zone-to-global"
	streamConfigDump   streamName = "config-dump"
	streamStats        streamName = "stats"
	streamClusters     streamName = "clusters"
)

// way is one of the two directions of sync.
type way int

const (
	down way = iota // global to zone
	up              // zone to global
)

// insights keeps what is known about the connections of zones, and writes it as
// ZoneInsights: transitions at once and together, counters every now and then.
type insights struct {
	view     *view.View
	store    store.Store
	instance string
	interval time.Duration
	log      *slog.Logger
	kick     chan struct{}

	// mu guards zones and everything in them but the progress values, which have
	// locks of their own, taken after this one.
	mu    sync.Mutex
	zones map[string]*zoneState
}

type zoneState struct {
	ways    [2]*progress
	subs    []*subscription // open, or not yet written as closed
	streams map[streamName]*systemv1.KDSStream
	heard   time.Time
	box     *outbox // what the zone is sent from; nil: nothing, or not known
	dirty   bool    // to be written with the next flush
	urgent  bool    // to be written now
}

// subscription is one connection of a zone.
type subscription struct {
	in   *insights
	zone string
	way  way // whose counters it shows
	msg  *systemv1.KDSSubscription
}

func newInsights(v *view.View, st store.Store, instance string, interval time.Duration, log *slog.Logger) *insights {
	return &insights{
		view: v, store: st, instance: instance, interval: interval, log: log,
		kick: make(chan struct{}, 1), zones: map[string]*zoneState{},
	}
}

// zone returns the state of a zone. mu is held.
func (in *insights) zone(name string) *zoneState {
	z := in.zones[name]
	if z == nil {
		z = &zoneState{streams: map[streamName]*systemv1.KDSStream{}}
		for w := range z.ways {
			z.ways[w] = newProgress(func(urgent bool) { in.mark(name, urgent) })
		}
		in.zones[name] = z
	}
	return z
}

func (in *insights) progress(zone string, w way) *progress {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.zone(zone).ways[w]
}

// mark has a zone written.
func (in *insights) mark(zone string, urgent bool) {
	in.mu.Lock()
	z := in.zone(zone)
	ring := urgent && !z.urgent || !z.dirty
	z.dirty, z.urgent = true, z.urgent || urgent
	in.mu.Unlock()
	if ring {
		select {
		case in.kick <- struct{}{}:
		default:
		}
	}
}

// opened notes a stream. The function returned notes its end.
func (in *insights) opened(zone string, name streamName) func() {
	s := &systemv1.KDSStream{GlobalInstanceId: in.instance, ConnectTime: timestamppb.Now()}
	in.mu.Lock()
	in.zone(zone).streams[name] = s
	in.mu.Unlock()
	in.mark(zone, true)
	return func() { in.mark(zone, false) }
}

// heard notes a health check.
func (in *insights) heard(zone string) {
	in.mu.Lock()
	in.zone(zone).heard = time.Now()
	in.mu.Unlock()
}

// sends notes from where a zone is sent what it lacks.
func (in *insights) sends(zone string, box *outbox) {
	in.mu.Lock()
	in.zone(zone).box = box
	in.mu.Unlock()
}

// fallBehind lets the lag of zones begin that miss something because they are
// not connected.
func (in *insights) fallBehind() {
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, z := range in.zones {
		if z.box == nil || z.connected() {
			continue
		}
		if z.ways[down].miss(uint64(z.box.current().rev)) {
			z.dirty = true // written with the next flush
		}
	}
}

// connected tells whether any connection is open. mu is held.
func (z *zoneState) connected() bool {
	for _, s := range z.subs {
		if s.msg.DisconnectTime == nil {
			return true
		}
	}
	return false
}

// subscribe notes a connection.
func (in *insights) subscribe(zone string, w way, token bool) *subscription {
	s := &subscription{in: in, zone: zone, way: w, msg: &systemv1.KDSSubscription{
		Id: newID(), GlobalInstanceId: in.instance, ConnectTime: timestamppb.Now(), AuthTokenProvided: token,
	}}
	in.mu.Lock()
	z := in.zone(zone)
	z.subs = append(z.subs, s)
	in.mu.Unlock()
	in.mark(zone, true)
	return s
}

// close notes the end of a connection.
func (s *subscription) close() {
	s.in.mu.Lock()
	s.msg.DisconnectTime = timestamppb.Now()
	s.in.mu.Unlock()
	s.in.mark(s.zone, true)
}

// sync is how far a zone is in step now.
func (in *insights) sync(zone string) *systemv1.ZoneSync {
	in.mu.Lock()
	z := in.zones[zone]
	in.mu.Unlock()
	if z == nil {
		return nil
	}
	return z.sync()
}

func (z *zoneState) sync() *systemv1.ZoneSync {
	return &systemv1.ZoneSync{GlobalToZone: z.ways[down].direction(), ZoneToGlobal: z.ways[up].direction()}
}

// run writes until ctx ends. live are the other processes that may have zones
// connected to them.
func (in *insights) run(ctx context.Context, live map[string]bool) error {
	select {
	case <-in.view.Loaded():
	case <-ctx.Done():
		return ctx.Err()
	}
	in.closeDead(ctx, live)
	sub := in.view.Subscribe()
	defer sub.Close()
	seen := in.view.Snapshot()
	// flush is armed while something is to be written that nobody waits for.
	flush, armed := time.NewTimer(time.Hour), false
	flush.Stop()
	defer flush.Stop()
	for {
		all := false
		select {
		case <-ctx.Done():
			in.finish(ctx)
			return ctx.Err()
		case <-in.kick:
		case <-sub.C():
			next := in.view.Snapshot()
			in.heal(seen, next)
			seen = next
			in.fallBehind()
		case <-flush.C:
			all, armed = true, false
		}
		if !in.write(ctx, all) {
			armed = true
			flush.Reset(retryFirst)
		}
		if !armed && in.pending() {
			armed = true
			flush.Reset(in.interval)
		}
	}
}

// pending reports whether a flush has something to do.
func (in *insights) pending() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, z := range in.zones {
		if z.dirty {
			return true
		}
	}
	return false
}

// write writes the zones whose transitions are not written yet, or all that
// changed. It returns false if it has to be tried again.
func (in *insights) write(ctx context.Context, all bool) bool {
	snap := in.view.Snapshot()
	var ops []store.Op
	var names []string
	in.mu.Lock()
	for name, z := range in.zones {
		if !z.urgent && !(all && z.dirty) {
			continue
		}
		if snap.Get(resource.ID{Type: kind.Zone, Name: name}) == nil {
			continue // deleted, or not made yet
		}
		z.dirty, z.urgent = false, false
		old := snap.Get(insightID(name))
		next, err := in.object(name, z, old)
		if err != nil || old != nil && next.SameContent(old) {
			z.forgetClosed()
			continue
		}
		expect := store.Absent
		if old != nil {
			expect = int64(old.Version)
		}
		ops, names = append(ops, store.Put(next, expect, store.ControlPlane)), append(names, name)
	}
	in.mu.Unlock()
	if len(ops) == 0 {
		return true
	}
	rev, err := in.store.Write(ctx, ops...)
	if errors.Is(err, store.ErrConflict) {
		rev, err = in.writeEach(ctx, names)
	}
	if err == nil {
		_, err = in.view.Wait(ctx, rev)
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, name := range names {
		if err != nil {
			in.zones[name].dirty = true
		} else {
			in.zones[name].forgetClosed()
		}
	}
	if err != nil && ctx.Err() == nil {
		in.log.Warn("insights of zones cannot be written; trying again", "error", err, "retryIn", retryFirst)
	}
	return err == nil || ctx.Err() != nil
}

// writeEach is the slow way, when somebody else wrote one of them too.
func (in *insights) writeEach(ctx context.Context, names []string) (rev store.Revision, err error) {
	for _, name := range names {
		rev, err = view.Edit(ctx, in.view, in.store, insightID(name), store.ControlPlane,
			func(old *resource.Object) (*resource.Object, error) {
				in.mu.Lock()
				defer in.mu.Unlock()
				return in.object(name, in.zones[name], old)
			})
		if err != nil {
			return 0, err
		}
	}
	return rev, nil
}

func insightID(zone string) resource.ID { return resource.ID{Type: kind.ZoneInsight, Name: zone} }

// forgetClosed drops connections whose end is written. mu is held. One whose end
// came after the write began marked the zone again, and is written by that.
func (z *zoneState) forgetClosed() {
	if z.dirty {
		return
	}
	open := z.subs[:0]
	for _, s := range z.subs {
		if s.msg.DisconnectTime == nil {
			open = append(open, s)
		}
	}
	z.subs = open
}

// object is a ZoneInsight with what this process knows worked into what is
// stored. mu is held.
func (in *insights) object(name string, z *zoneState, old *resource.Object) (*resource.Object, error) {
	k := in.view.Kinds().ByType(kind.ZoneInsight)
	i := &systemv1.ZoneInsight{}
	labels := in.view.Site().ComputeLabels(k, name, "", nil)
	if old != nil {
		i = proto.CloneOf(resource.SpecOf[systemv1.ZoneInsight](old))
		labels = old.Labels
	}
	for _, s := range z.subs {
		i.Subscriptions = withSubscription(i.Subscriptions, s.message(z))
	}
	if i.KdsStreams == nil {
		i.KdsStreams = &systemv1.KDSStreams{}
	}
	for n, s := range z.streams {
		*streamField(i.KdsStreams, n) = proto.CloneOf(s)
	}
	if !z.heard.IsZero() {
		i.HealthCheck = &systemv1.HealthCheck{Time: timestamppb.New(z.heard)}
	}
	i.Sync = z.sync()
	return k.New(resource.Meta{ID: insightID(name), Labels: labels}, i, nil)
}

func streamField(k *systemv1.KDSStreams, n streamName) **systemv1.KDSStream {
	switch n {
	case streamGlobalToZone:
		return &k.GlobalToZone
	case streamZoneToGlobal:
		return &k.ZoneToGlobal
	case streamConfigDump:
		return &k.ConfigDump
	case streamStats:
		return &k.Stats
	default:
		return &k.Clusters
	}
}

func (s *subscription) message(z *zoneState) *systemv1.KDSSubscription {
	m := proto.CloneOf(s.msg)
	m.Status = z.ways[s.way].status()
	return m
}

// withSubscription puts a connection into the list: in its place, or last. A new
// one ends those that are still open, and only the newest states the zone's
// settings, which are long.
func withSubscription(list []*systemv1.KDSSubscription, s *systemv1.KDSSubscription) []*systemv1.KDSSubscription {
	for i, other := range list {
		if other.Id == s.Id {
			if i < len(list)-1 {
				s.Config = ""
			}
			list[i] = s
			return list
		}
	}
	for _, other := range list {
		other.Config = ""
		if other.DisconnectTime == nil {
			other.DisconnectTime = timestamppb.Now()
		}
	}
	list = append(list, s)
	return list[max(0, len(list)-keptSubscriptions):]
}
