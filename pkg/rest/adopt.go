package rest

import (
	"net/http"

	"github.com/atoll-mesh/atoll/pkg/auth"
)

// adopt makes a zone follow whichever global it is connected to, now or next.
// Since that global then decides what the zone has, only administrators of everything may.
func (a *API) adopt(w http.ResponseWriter, r *http.Request) error {
	if u := auth.UserFrom(r.Context()); !a.Access.IsAdmin(u) {
		return &auth.DeniedError{User: u, Action: "make the zone follow another global"}
	}
	if a.Adopt == nil {
		return &problem{http.StatusMethodNotAllowed, "Method not allowed", "this control plane follows no global: ask the one of a zone", nil}
	}
	if err := a.Adopt(r.Context()); err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, struct{}{})
	return nil
}
