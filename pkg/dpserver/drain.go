package dpserver

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"

	"google.golang.org/grpc/status"

	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/view"
)

// drainRequest is an agent saying that its proxy is about to stop.
type drainRequest struct {
	Mesh           string `json:"mesh"`
	Name           string `json:"name"`
	DataplaneToken string `json:"dataplaneToken"`
}

// maxDrainBody bounds the request, which is a name and a token.
const maxDrainBody = 64 << 10

// serveDrain takes a proxy out of the endpoints of all others, so that nobody
// calls it when it stops. It answers once that is decided. The proxy is back when
// its agent registers again.
func (s *Server) serveDrain(w http.ResponseWriter, r *http.Request) {
	var q drainRequest
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxDrainBody)).Decode(&q); err != nil {
		http.Error(w, "the request is no JSON object of mesh, name and dataplaneToken: "+err.Error(), http.StatusBadRequest)
		return
	}
	id := resource.ID{Type: kind.Dataplane, Mesh: q.Mesh, Name: q.Name}
	dp := s.cfg.View.Snapshot().Get(id)
	if dp == nil {
		http.Error(w, id.String()+" does not exist", http.StatusNotFound)
		return
	}
	if err := s.authenticate(r.Context(), q.DataplaneToken, dp); err != nil {
		http.Error(w, status.Convert(err).Message(), http.StatusUnauthorized)
		return
	}
	if err := s.setDraining(r.Context(), id, true); err != nil {
		s.log.Warn("a proxy that is about to stop could not be taken out", "mesh", id.Mesh, "proxy", id.Name, "error", err)
		http.Error(w, "the store refused the change; the control plane's log says why", http.StatusServiceUnavailable)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

var errGone = errors.New("the Dataplane is gone")

func (s *Server) setDraining(ctx context.Context, id resource.ID, draining bool) error {
	_, err := view.Edit(ctx, s.cfg.View, s.cfg.Store, id, author, func(old *resource.Object) (*resource.Object, error) {
		if old == nil {
			return nil, errGone
		}
		meta := old.Meta
		meta.Labels = maps.Clone(old.Labels)
		if meta.Labels == nil {
			meta.Labels = map[string]string{}
		}
		delete(meta.Labels, resource.LabelDraining)
		if draining {
			meta.Labels[resource.LabelDraining] = "true"
		}
		return old.Kind.New(meta, old.Spec, old.Status)
	})
	return err
}
