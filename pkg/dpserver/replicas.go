package dpserver

import (
	"context"
	"time"

	meshproto "github.com/atoll-mesh/atoll/api/kuma/mesh/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/view"
)

// EndOf ends what another replica of this control plane left open when it died:
// the subscriptions of its proxies, and, for those that no replica has heard of a
// while later, the Dataplanes that they had brought. It returns when the
// subscriptions are written; the rest follows until ctx ends.
func (s *Server) EndOf(ctx context.Context, instance string) error {
	var brought []resource.ID
	for o := range s.cfg.View.Snapshot().List(kind.DataplaneInsight, "") {
		in := resource.SpecOf[meshproto.DataplaneInsight](o)
		if !openAt(in, instance) {
			continue
		}
		id := resource.ID{Type: kind.Dataplane, Mesh: o.Mesh, Name: o.Name}
		s.writer.note(id, func(c *change) { c.dead = instance })
		if in.GetMetadata().GetFields()[keyBrought].GetBoolValue() {
			brought = append(brought, id)
		}
	}
	if err := s.writer.flush(ctx, true); err != nil {
		return err
	}
	if len(brought) == 0 {
		return nil
	}
	go func() {
		t := time.NewTimer(max(comeBack, s.cfg.DeregistrationDelay)) // for proxies to find another replica
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
		for _, id := range brought {
			o := s.cfg.View.Snapshot().Get(resource.ID{Type: kind.DataplaneInsight, Mesh: id.Mesh, Name: id.Name})
			if o != nil && !kind.DataplaneOnline(resource.SpecOf[meshproto.DataplaneInsight](o)) {
				s.log.Info("a proxy did not come back", "mesh", id.Mesh, "proxy", id.Name)
				s.proxies.removeAbsent(id)
			}
		}
	}()
	return nil
}

// openAt tells whether an instance has an open subscription.
func openAt(in *meshproto.DataplaneInsight, instance string) bool {
	for _, x := range in.GetSubscriptions() {
		if x.DisconnectTime == nil && x.ControlPlaneInstanceId == instance {
			return true
		}
	}
	return false
}

// heal writes again that a proxy is connected here, each time another replica has
// taken this one for dead because it could not reach the store for a while.
func (s *Server) heal(ctx context.Context) {
	sub := s.cfg.View.Subscribe()
	defer sub.Close()
	seen := s.cfg.View.Snapshot()
	for {
		select {
		case <-sub.C():
		case <-ctx.Done():
			return
		}
		next := s.cfg.View.Snapshot()
		keys, ok := s.cfg.View.Touched(seen.Revision(), next)
		if !ok {
			for o := range next.List(kind.DataplaneInsight, "") {
				s.healOne(o)
			}
		}
		for _, k := range keys {
			if k.Table == view.Objects && k.Type == kind.DataplaneInsight {
				s.healOne(next.Get(k.ID))
			}
		}
		seen = next
	}
}

func (s *Server) healOne(o *resource.Object) {
	if o == nil {
		return
	}
	subs := resource.SpecOf[meshproto.DataplaneInsight](o).GetSubscriptions()
	if len(subs) == 0 {
		return
	}
	last := subs[len(subs)-1]
	if last.DisconnectTime == nil || last.ControlPlaneInstanceId != s.cfg.InstanceID {
		return
	}
	if sess := s.proxies.at(resource.ID{Type: kind.Dataplane, Mesh: o.Mesh, Name: o.Name}); sess != nil && sess.isOpen(last.Id) {
		s.writer.changed(sess)
	}
}

// at is the session of a proxy, or nil.
func (ps *proxies) at(id resource.ID) *session {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if st := ps.seats[id]; st != nil {
		return st.current
	}
	return nil
}

// isOpen tells whether the session has this subscription and goes on.
func (s *session) isOpen(subscription string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.subscription.Id == subscription && s.subscription.DisconnectTime == nil
}
