package dpserver

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	meshproto "github.com/atoll-mesh/atoll/api/kuma/mesh/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/store"
	"github.com/atoll-mesh/atoll/pkg/view"
)

const (
	// keptSubscriptions is how many subscriptions an insight shows.
	keptSubscriptions = 2
	// writeLimit bounds the proxies of one write, and so its transaction.
	writeLimit = 500
	// retryMin and retryMax bound the pauses while the store refuses writes.
	retryMin = 100 * time.Millisecond
	retryMax = 5 * time.Second
)

// insights writes what happened to proxies. One goroutine writes; what happens
// during a write goes together with the next, so that a thousand proxies that
// connect at once cost a few writes and no timer delays the first.
type insights struct {
	s    *Server
	wake chan struct{} // cap 1

	mu      sync.Mutex // guards pending and order
	pending map[resource.ID]*change
	order   []resource.ID
}

// change is what is to be written about one proxy.
type change struct {
	sessions []*session // whose subscriptions changed, oldest first
	stale    bool       // end subscriptions that an earlier run left open
	// removed, when set, deletes Dataplane and insight and is then called.
	removed func()
}

func newInsights(s *Server) *insights {
	return &insights{s: s, wake: make(chan struct{}, 1), pending: map[resource.ID]*change{}}
}

func (w *insights) note(id resource.ID, fn func(*change)) {
	w.mu.Lock()
	c := w.pending[id]
	if c == nil {
		c = &change{}
		w.pending[id] = c
		w.order = append(w.order, id)
	}
	fn(c)
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// changed has the session's subscription written as it is then.
func (w *insights) changed(s *session) {
	w.note(s.proxy.ID, func(c *change) {
		if !slices.Contains(c.sessions, s) {
			c.sessions = append(c.sessions, s)
		}
	})
}

// remove has a Dataplane and its insight deleted, if its proxy is not connected
// elsewhere, and calls done when that is settled.
func (w *insights) remove(id resource.ID, done func()) {
	w.note(id, func(c *change) { c.removed = done })
}

// endStale has subscriptions ended that nobody serves any more.
func (w *insights) endStale(id resource.ID) {
	w.note(id, func(c *change) { c.stale = true })
}

// run writes until ctx ends.
func (w *insights) run(ctx context.Context) {
	pause := retryMin
	for {
		select {
		case <-w.wake:
		case <-ctx.Done():
			return
		}
		err := w.flush(ctx)
		if err == nil || ctx.Err() != nil {
			pause = retryMin
			continue
		}
		w.s.log.Warn("what happened to proxies cannot be written now", "error", err, "retryIn", pause)
		t := time.NewTimer(pause) // the store is away; there is no event for its return
		select {
		case <-t.C:
		case <-ctx.Done():
		}
		t.Stop()
		pause = min(2*pause, retryMax)
		select {
		case w.wake <- struct{}{}:
		default:
		}
	}
}

// flush writes everything that is pending. What could not be written stays.
func (w *insights) flush(ctx context.Context) error {
	for {
		ids, batch := w.take()
		if len(ids) == 0 {
			return nil
		}
		if err := w.write(ctx, ids, batch); err != nil {
			w.putBack(ids, batch)
			return err
		}
		for _, id := range ids {
			if done := batch[id].removed; done != nil {
				done()
			}
		}
	}
}

func (w *insights) take() ([]resource.ID, map[resource.ID]*change) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := min(len(w.order), writeLimit)
	ids := slices.Clone(w.order[:n])
	w.order = slices.Delete(w.order, 0, n)
	batch := make(map[resource.ID]*change, n)
	for _, id := range ids {
		batch[id] = w.pending[id]
		delete(w.pending, id)
	}
	return ids, batch
}

func (w *insights) putBack(ids []resource.ID, batch map[resource.ID]*change) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, id := range ids {
		old, newer := batch[id], w.pending[id]
		if newer == nil {
			w.pending[id] = old
			w.order = append(w.order, id)
			continue
		}
		for _, s := range newer.sessions {
			if !slices.Contains(old.sessions, s) {
				old.sessions = append(old.sessions, s)
			}
		}
		newer.sessions = old.sessions
		newer.stale = newer.stale || old.stale
		if newer.removed == nil {
			newer.removed = old.removed
		}
	}
}

// write writes a batch in one transaction. When somebody else changed one of its
// resources meanwhile, each proxy is written by itself, from the newest state.
func (w *insights) write(ctx context.Context, ids []resource.ID, batch map[resource.ID]*change) error {
	snap := w.s.cfg.View.Snapshot()
	var ops []store.Op
	for _, id := range ids {
		o, err := w.ops(snap, id, batch[id])
		if err != nil {
			return err
		}
		ops = append(ops, o...)
	}
	if len(ops) == 0 {
		return nil
	}
	rev, err := w.s.cfg.Store.Write(ctx, ops...)
	if errors.Is(err, store.ErrConflict) {
		return w.writeEach(ctx, snap.Revision(), ids, batch)
	}
	if err != nil {
		return err
	}
	_, err = w.s.cfg.View.Wait(ctx, rev) // the next batch builds on this one
	return err
}

func (w *insights) writeEach(ctx context.Context, seen store.Revision, ids []resource.ID, batch map[resource.ID]*change) error {
	for _, id := range ids {
		for {
			b, err := w.s.cfg.Store.Read(ctx, seen, 1)
			if err != nil && !errors.Is(err, store.ErrCompacted) {
				return err
			}
			snap, err := w.s.cfg.View.Wait(ctx, b.Head)
			if err != nil {
				return err
			}
			seen = snap.Revision()
			ops, err := w.ops(snap, id, batch[id])
			if err != nil {
				return err
			}
			if len(ops) == 0 {
				break
			}
			rev, err := w.s.cfg.Store.Write(ctx, ops...)
			if errors.Is(err, store.ErrConflict) {
				continue // somebody was faster; what they wrote is read next
			}
			if err != nil {
				return err
			}
			if _, err := w.s.cfg.View.Wait(ctx, rev); err != nil {
				return err
			}
			break
		}
	}
	return nil
}

// ops says what is to be written about one proxy, given what is stored.
func (w *insights) ops(snap *view.Snapshot, id resource.ID, c *change) ([]store.Op, error) {
	insightID := resource.ID{Type: kind.DataplaneInsight, Mesh: id.Mesh, Name: id.Name}
	dp, old := snap.Get(id), snap.Get(insightID)
	next := &meshproto.DataplaneInsight{}
	if old != nil {
		next = proto.Clone(resource.SpecOf[meshproto.DataplaneInsight](old)).(*meshproto.DataplaneInsight)
	}
	if c.stale {
		w.closeOthers(next, true)
	}
	for _, s := range c.sessions {
		w.merge(next, s)
	}
	if c.removed != nil && !kind.DataplaneOnline(next) {
		var ops []store.Op
		if dp != nil {
			ops = append(ops, store.Delete(id, int64(dp.Version), author))
		}
		if old != nil {
			ops = append(ops, store.Delete(insightID, int64(old.Version), author))
		}
		return ops, nil
	}
	if dp == nil || len(next.Subscriptions) == 0 {
		return nil, nil // an insight does not outlive its Dataplane
	}
	k := w.s.cfg.Kinds.ByType(kind.DataplaneInsight)
	expect, meta := int64(store.Absent), resource.Meta{ID: insightID}
	if old != nil {
		expect, meta = int64(old.Version), old.Meta
	}
	meta.Labels = w.s.cfg.Site.ComputeLabels(k, id.Name, id.Mesh, meta.Labels)
	meta.Modified = time.Time{}
	o, err := k.New(meta, next, nil)
	if err != nil {
		return nil, err
	}
	if old != nil && o.SameContent(old) {
		return nil, nil
	}
	return []store.Op{store.Put(o, expect, author)}, nil
}

// merge puts the subscription of a session into an insight.
func (w *insights) merge(insight *meshproto.DataplaneInsight, s *session) {
	sub := s.describe()
	subs := insight.Subscriptions
	if i := slices.IndexFunc(subs, func(x *meshproto.DiscoverySubscription) bool { return x.Id == sub.Id }); i >= 0 {
		subs[i] = sub
		return
	}
	newest := true
	for _, x := range subs {
		if x.ConnectTime.AsTime().After(sub.ConnectTime.AsTime()) {
			newest = false // of a stream that has replaced this one
		}
	}
	if newest {
		w.closeOthers(insight, false)
		insight.Metadata = s.metadata
	} else if sub.DisconnectTime == nil {
		sub.DisconnectTime = timestamppb.Now()
	}
	insight.Subscriptions = append(insight.Subscriptions, sub)
	slices.SortStableFunc(insight.Subscriptions, func(a, b *meshproto.DiscoverySubscription) int {
		return a.ConnectTime.AsTime().Compare(b.ConnectTime.AsTime())
	})
	if n := len(insight.Subscriptions); n > keptSubscriptions {
		insight.Subscriptions = insight.Subscriptions[n-keptSubscriptions:]
	}
}

// closeOthers ends open subscriptions: all of them, or those that are not of
// this control plane.
func (w *insights) closeOthers(insight *meshproto.DataplaneInsight, foreign bool) {
	for _, x := range insight.Subscriptions {
		if x.DisconnectTime == nil && (!foreign || x.ControlPlaneInstanceId != w.s.cfg.InstanceID) {
			x.DisconnectTime = timestamppb.Now()
		}
	}
}
