package rest

import (
	"net/http"

	"github.com/atoll-mesh/atoll/pkg/auth"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/liveness"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

func (a *API) linkRoutes(get func(string, endpoint)) {
	if a.Kinds.ByType(kind.ZoneLink) != nil {
		get("/zones/_links", a.zoneLinks)
	}
}

// zoneLinks answers what zones say of each other.
func (a *API) zoneLinks(w http.ResponseWriter, r *http.Request) error {
	s := a.View.Snapshot()
	if err := a.mayRead(s, r, a.Kinds.ByType(kind.ZoneLink)); err != nil {
		return err
	}
	zones, user := a.Kinds.ByType(kind.Zone), auth.UserFrom(r.Context())
	shown := func(zone string) bool {
		meta := resource.Meta{ID: resource.ID{Type: kind.Zone, Name: zone}}
		return a.Access.Object(user, auth.Read, auth.TargetOf(zones, &meta)) == nil
	}
	noteRevision(w, s.Revision())
	writeJSON(w, http.StatusOK, liveness.MatrixOf(a.visibleTo(r, s), a.Site.Global, shown))
	return nil
}
