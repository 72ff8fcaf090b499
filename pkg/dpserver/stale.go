package dpserver

import (
	"context"
	"time"

	meshproto "github.com/atoll-mesh/atoll/api/kuma/mesh/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// comeBack is how long after the start of this control plane the proxies of an
// earlier run have to connect again. Envoy tries at least every 30 s.
const comeBack = time.Minute

// endStale ends what an earlier run of this control plane left open when it was
// killed, for proxies that did not come back: their subscriptions, and the
// Dataplanes that they had brought. It returns when that is done or ctx ends.
func (s *Server) endStale(ctx context.Context) {
	t := time.NewTimer(max(comeBack, s.cfg.DeregistrationDelay))
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
		return
	}
	for o := range s.cfg.View.Snapshot().List(kind.DataplaneInsight, "") {
		in := resource.SpecOf[meshproto.DataplaneInsight](o)
		if !kind.DataplaneOnline(in) || !s.foreign(in) {
			continue
		}
		id := resource.ID{Type: kind.Dataplane, Mesh: o.Mesh, Name: o.Name}
		s.log.Info("a proxy did not come back", "mesh", id.Mesh, "proxy", id.Name)
		s.writer.endStale(id)
		if in.GetMetadata().GetFields()[keyBrought].GetBoolValue() {
			s.proxies.removeAbsent(id)
		}
	}
}

// foreign reports whether all open subscriptions are of earlier runs.
func (s *Server) foreign(in *meshproto.DataplaneInsight) bool {
	for _, x := range in.GetSubscriptions() {
		if x.DisconnectTime == nil && x.ControlPlaneInstanceId == s.cfg.InstanceID {
			return false
		}
	}
	return true
}

// removeAbsent removes the Dataplane of a proxy that is not connected here.
func (ps *proxies) removeAbsent(id resource.ID) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	st := ps.seat(id)
	if st.current == nil && st.opening == 0 && st.timer == nil && st.removal == nil {
		ps.remove(id, st)
	}
	ps.tidy(id, st)
}
