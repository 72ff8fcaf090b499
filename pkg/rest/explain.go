package rest

import (
	"net/http"

	"github.com/atoll-mesh/atoll/pkg/explain"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// explain answers what happens to a request from one proxy to something that it
// calls, step by step, and which step is broken. What the caller may not read is
// not named.
func (a *API) explain(w http.ResponseWriter, r *http.Request) error {
	s := a.View.Snapshot()
	k := a.Kinds.ByType(kind.Dataplane)
	if err := a.mayRead(s, r, k); err != nil {
		return err
	}
	if a.Site.Global || a.ProxyInfo == nil {
		return &problem{http.StatusMethodNotAllowed, "Method not allowed", "Not allowed on global CP: ask the control plane of the proxy's zone", nil}
	}
	q := explain.Query{Mesh: r.PathValue("mesh"), From: r.URL.Query().Get("from"), To: r.URL.Query().Get("to")}
	if q.From == "" || q.To == "" {
		return badRequest("say who calls and what: ?from=DATAPLANE&to=HOST:PORT")
	}
	report := explain.Explain(explain.Inputs{
		Compile: a.Compile, Info: a.ProxyInfo,
		Sees: func(o *resource.Object) bool { return a.mayReadThis(r, o) == nil },
	}, s, q)
	noteRevision(w, s.Revision())
	writeJSON(w, http.StatusOK, report)
	return nil
}
