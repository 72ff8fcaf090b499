package rest

import "net/http"

// pastRoutes are the endpoints of what changed: history, its undoing, and the
// stream of what changes now.
func (a *API) pastRoutes(route func(string, methods)) {
	route("/history", methods{http.MethodGet: a.history})
	route("/history/{revision}", methods{http.MethodGet: a.revision})
	route("/history/{revision}/revert", methods{http.MethodPost: a.revert})
	route("/events", methods{http.MethodGet: a.events})
}
