package kds

import (
	"context"
	"strconv"
	"strings"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	systemv1 "github.com/atoll-mesh/atoll/api/kuma/system/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/store"
	"github.com/atoll-mesh/atoll/pkg/view"
)

func newID() string { return uuid.NewString() }

// closeDead ends the connections that processes which are gone left open.
func (in *insights) closeDead(ctx context.Context, live map[string]bool) {
	for o := range in.view.Snapshot().List(kind.ZoneInsight, "") {
		_, err := view.Edit(ctx, in.view, in.store, o.ID, store.ControlPlane, func(old *resource.Object) (*resource.Object, error) {
			if old == nil {
				return nil, nil
			}
			return in.withoutDead(old, live)
		})
		if err != nil && ctx.Err() == nil {
			in.log.Warn("connections of a zone to a process that is gone cannot be closed", "zone", o.Name, "error", err)
		}
	}
}

func (in *insights) withoutDead(old *resource.Object, live map[string]bool) (*resource.Object, error) {
	i := proto.CloneOf(resource.SpecOf[systemv1.ZoneInsight](old))
	closed := false
	for _, s := range i.GetSubscriptions() {
		if s.DisconnectTime == nil && !live[s.GetGlobalInstanceId()] && !in.isOpen(old.Name, s.GetId()) {
			s.DisconnectTime = timestamppb.Now()
			closed = true
		}
	}
	if !closed {
		return old, nil
	}
	return old.Kind.New(resource.Meta{ID: old.ID, Labels: old.Labels}, i, nil)
}

// endOf ends the connections that one other process, which is gone, left open.
func (in *insights) endOf(ctx context.Context, instance string) error {
	live := map[string]bool{}
	for o := range in.view.Snapshot().List(kind.ZoneInsight, "") {
		open := false
		for _, s := range resource.SpecOf[systemv1.ZoneInsight](o).GetSubscriptions() {
			live[s.GetGlobalInstanceId()] = s.GetGlobalInstanceId() != instance
			open = open || s.DisconnectTime == nil && s.GetGlobalInstanceId() == instance
		}
		if !open {
			continue
		}
		_, err := view.Edit(ctx, in.view, in.store, o.ID, store.ControlPlane, func(old *resource.Object) (*resource.Object, error) {
			if old == nil {
				return nil, nil
			}
			return in.withoutDead(old, live)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (in *insights) isOpen(zone, id string) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	z := in.zones[zone]
	if z == nil {
		return false
	}
	for _, s := range z.subs {
		if s.msg.Id == id {
			return true
		}
	}
	return false
}

// heal writes again what another process overwrote: it may have taken a
// connection for dead that is open here. Its own newer one ends ours for good.
func (in *insights) heal(prev, next *view.Snapshot) {
	keys, ok := in.view.Touched(prev.Revision(), next)
	if !ok {
		for o := range next.List(kind.ZoneInsight, "") {
			in.healZone(o)
		}
		return
	}
	for _, k := range keys {
		if k.Table != view.Objects || k.Mesh != "" {
			continue
		}
		switch k.Type {
		case kind.ZoneInsight:
			in.healZone(next.Get(k.ID))
		case kind.Zone: // one that was missing when its insight was to be written
			if next.Get(k.ID) != nil && in.sync(k.Name) != nil && next.Get(insightID(k.Name)) == nil {
				in.mark(k.Name, true)
			}
		}
	}
}

func (in *insights) healZone(o *resource.Object) {
	if o == nil {
		return
	}
	list := resource.SpecOf[systemv1.ZoneInsight](o).GetSubscriptions()
	if n := len(list); n > 0 && list[n-1].DisconnectTime != nil && in.isOpenNow(o.Name, list[n-1].Id) {
		in.mark(o.Name, true)
	}
}

func (in *insights) isOpenNow(zone, id string) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	if z := in.zones[zone]; z != nil {
		for _, s := range z.subs {
			if s.msg.Id == id {
				return s.msg.DisconnectTime == nil
			}
		}
	}
	return false
}

// finishTimeout bounds the last write of a process that stops.
const finishTimeout = 2 * time.Second

// finish closes all connections, because the process stops.
func (in *insights) finish(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishTimeout)
	defer cancel()
	in.mu.Lock()
	for _, z := range in.zones {
		for _, s := range z.subs {
			if s.msg.DisconnectTime == nil {
				s.msg.DisconnectTime = timestamppb.Now()
			}
			z.urgent, z.dirty = true, true
		}
	}
	in.mu.Unlock()
	in.write(ctx, false)
}

// describe adds what a zone says about itself.
func (s *subscription) describe(n *core.Node, own string) {
	f := n.GetMetadata().GetFields()
	v := f["version"].GetStructValue().GetFields()["kumaCp"].GetStructValue().GetFields()
	s.in.mu.Lock()
	s.msg.Config = f["config"].GetStringValue()
	s.msg.ZoneInstanceId = f["control-plane-id"].GetStringValue()
	s.msg.Version = &systemv1.Version{KumaCp: &systemv1.KumaCpVersion{
		Version: v["version"].GetStringValue(), GitTag: v["gitTag"].GetStringValue(),
		GitCommit: v["gitCommit"].GetStringValue(), BuildDate: v["buildDate"].GetStringValue(),
		KumaCpGlobalCompatible: compatible(own, v["version"].GetStringValue()),
	}}
	s.in.mu.Unlock()
	s.in.mark(s.zone, true)
}

// compatible tells whether two versions of the API can work together: the same
// major one, at most two minor ones apart. What is no release counts as such.
func compatible(a, b string) bool {
	am, an, ok := majorMinor(a)
	bm, bn, ok2 := majorMinor(b)
	if !ok || !ok2 || strings.Contains(a, "preview") || strings.Contains(b, "preview") {
		return true
	}
	return am == bm && max(an, bn)-min(an, bn) <= 2
}

func majorMinor(v string) (major, minor int, ok bool) {
	parts := strings.SplitN(strings.TrimPrefix(v, "v"), ".", 3)
	if len(parts) < 3 {
		return 0, 0, false
	}
	major, err := strconv.Atoi(parts[0])
	minor, err2 := strconv.Atoi(parts[1])
	return major, minor, err == nil && err2 == nil
}
