package dpserver

import (
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	meshproto "github.com/atoll-mesh/atoll/api/kuma/mesh/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/store"
	"github.com/atoll-mesh/atoll/pkg/view"
)

// keptSubscriptions is how many subscriptions an insight shows.
const keptSubscriptions = 2

// ops says what is to be written about one proxy, given what is stored.
func (w *writer) ops(snap *view.Snapshot, id resource.ID, c *change) ([]store.Op, error) {
	insightID := resource.ID{Type: kind.DataplaneInsight, Mesh: id.Mesh, Name: id.Name}
	dp, old := snap.Get(id), snap.Get(insightID)
	var ops []store.Op
	if r := c.register; r != nil {
		op, admitted, err := w.registerOp(r, dp)
		switch r.err = err; {
		case err != nil:
			c.forget(r.sess)
		case op != nil:
			ops = append(ops, *op)
			dp = admitted
		}
	}
	next := &meshproto.DataplaneInsight{}
	if old != nil {
		next = proto.Clone(resource.SpecOf[meshproto.DataplaneInsight](old)).(*meshproto.DataplaneInsight)
	}
	if c.stale {
		w.closeOthers(next, true)
	}
	if c.dead != "" {
		for _, x := range next.Subscriptions {
			if x.DisconnectTime == nil && x.ControlPlaneInstanceId == c.dead {
				x.DisconnectTime = timestamppb.Now()
			}
		}
	}
	for _, s := range c.sessions {
		w.merge(next, s)
	}
	if c.removed != nil && !kind.DataplaneOnline(next) {
		if dp != nil {
			ops = append(ops, store.Delete(id, int64(dp.Version), author))
		}
		if old != nil {
			ops = append(ops, store.Delete(insightID, int64(old.Version), author))
		}
		return ops, nil
	}
	if dp == nil || len(next.Subscriptions) == 0 {
		return ops, nil // an insight does not outlive its Dataplane
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
		return ops, nil
	}
	return append(ops, store.Put(o, expect, author)), nil
}

// registerOp stores a Dataplane as it was sent, unless it is stored already.
func (w *writer) registerOp(r *registration, old *resource.Object) (*store.Op, *resource.Object, error) {
	dp, err := w.s.cfg.Site.Admit(keepHealth(r.sent, old), old)
	if err != nil {
		return nil, nil, status.Error(codes.InvalidArgument, err.Error())
	}
	expect := int64(store.Absent)
	if old != nil {
		if dp.SameContent(old) {
			return nil, old, nil
		}
		if err := r.check(old); err != nil {
			return nil, nil, err
		}
		expect = int64(old.Version)
	}
	op := store.Put(dp, expect, author)
	return &op, dp, nil
}

// merge puts the subscription of a session into an insight.
func (w *writer) merge(insight *meshproto.DataplaneInsight, s *session) {
	sub := s.describe()
	subs := insight.Subscriptions
	if i := slices.IndexFunc(subs, func(x *meshproto.DiscoverySubscription) bool { return x.Id == sub.Id }); i >= 0 {
		subs[i] = sub
		if i == len(subs)-1 { // the newest
			insight.Metadata = s.described()
			s.certify(insight)
			s.export(insight)
		}
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
		insight.Metadata = s.described()
		s.certify(insight)
		s.export(insight)
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
func (w *writer) closeOthers(insight *meshproto.DataplaneInsight, foreign bool) {
	for _, x := range insight.Subscriptions {
		if x.DisconnectTime == nil && (!foreign || x.ControlPlaneInstanceId != w.s.cfg.InstanceID) {
			x.DisconnectTime = timestamppb.Now()
		}
	}
}
