package dpserver

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"net/netip"
	"time"

	"google.golang.org/grpc/status"

	"github.com/atoll-mesh/atoll/pkg/auth"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/view"
)

// probeReport is what an agent found out about the entrances of other zones.
type probeReport struct {
	Mesh    string              `json:"mesh"`
	Name    string              `json:"name"`
	Targets []kind.ProbedTarget `json:"targets"`
}

// maxProbeReport bounds a report: thousands of entrances.
const maxProbeReport = 1 << 20

var errNotAsked = errors.New("this proxy is neither a zone proxy nor one that was asked to probe other zones")

// serveZoneProbes keeps what a proxy says of other zones. It is written when a
// state changed, and rarely when only measurements did.
func (s *Server) serveZoneProbes(w http.ResponseWriter, r *http.Request) {
	var q probeReport
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxProbeReport)).Decode(&q); err != nil {
		http.Error(w, "the request is no JSON object of mesh, name and targets: "+err.Error(), http.StatusBadRequest)
		return
	}
	id := resource.ID{Type: kind.Dataplane, Mesh: q.Mesh, Name: q.Name}
	dp := s.cfg.View.Snapshot().Get(id)
	if dp == nil {
		http.Error(w, id.String()+" does not exist", http.StatusServiceUnavailable)
		return
	}
	token, _ := auth.Bearer(r.Header.Get("Authorization"))
	if err := s.authenticate(r.Context(), token, dp); err != nil {
		http.Error(w, status.Convert(err).Message(), http.StatusUnauthorized)
		return
	}
	switch err := s.keepProbes(r.Context(), dp, q.Targets); {
	case errors.Is(err, errNotAsked):
		http.Error(w, err.Error(), http.StatusConflict)
	case err != nil:
		s.log.Warn("what a proxy found out about other zones could not be kept", "mesh", id.Mesh, "proxy", id.Name, "error", err)
		http.Error(w, "the store refused the change; the control plane's log says why", http.StatusServiceUnavailable)
	default:
		w.WriteHeader(http.StatusNoContent)
	}
}

func (s *Server) keepProbes(ctx context.Context, dp *resource.Object, targets []kind.ProbedTarget) error {
	zoneProxy := len(kind.NetworkingOf(dp).GetListeners()) > 0
	known := s.entrances(dp.Mesh)
	next := kind.ZoneProbeSpec{}
	for _, t := range targets {
		at := entrance{t.Zone, t.Address, t.Port}
		if !known[at] {
			continue // it went away meanwhile
		}
		delete(known, at) // each once
		switch t.State {
		case kind.LinkUp, kind.LinkDown, kind.LinkUnknown:
			next.Targets = append(next.Targets, t)
		}
	}
	k := s.cfg.Kinds.ByType(kind.ZoneProbe)
	id := resource.ID{Type: kind.ZoneProbe, Mesh: dp.Mesh, Name: dp.Name}
	_, err := view.Edit(ctx, s.cfg.View, s.cfg.Store, id, author, func(old *resource.Object) (*resource.Object, error) {
		spec := next
		if old != nil {
			was := resource.SpecOf[kind.ZoneProbeSpec](old)
			spec.Elected = was.Elected
			if sameFindings(was.Targets, spec.Targets) {
				return old, nil
			}
		}
		if !zoneProxy && !spec.Elected {
			return nil, errNotAsked
		}
		return k.New(resource.Meta{ID: id, Labels: s.cfg.Site.ComputeLabels(k, id.Name, id.Mesh, nil)}, &spec, nil)
	})
	return err
}

type entrance struct {
	zone, address string
	port          int32
}

// entrances are the addresses of other zones that there are.
func (s *Server) entrances(mesh string) map[entrance]bool {
	known := map[entrance]bool{}
	for o := range s.cfg.View.Snapshot().List(kind.MeshZoneAddress, mesh) {
		spec := resource.SpecOf[kind.MeshZoneAddressSpec](o)
		if a, err := netip.ParseAddr(spec.Address); err == nil && o.Zone() != s.cfg.Site.Zone {
			known[entrance{o.Zone(), a.String(), spec.Port}] = true
		}
	}
	return known
}

// sameFindings tells whether nothing is new that is worth being written: states
// count, measurements when they moved far.
func sameFindings(a, b []kind.ProbedTarget) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		x, y := &a[i], &b[i]
		if x.Zone != y.Zone || x.Address != y.Address || x.Port != y.Port || x.State != y.State || !near(x.Since, y.Since) {
			return false
		}
		if math.Abs(x.Loss-y.Loss) >= 0.2 || (x.Loss >= 1) != (y.Loss >= 1) {
			return false
		}
		if d := math.Abs(x.RTTMillis - y.RTTMillis); d >= 5 && d >= 0.5*x.RTTMillis || (x.RTTMillis == 0) != (y.RTTMillis == 0) {
			return false
		}
	}
	return true
}

// near tells moments apart that an agent means as different ones.
func near(a, b time.Time) bool { return a.Sub(b).Abs() < 10*time.Millisecond }
