package rest

import (
	"errors"
	"net/http"
	"slices"

	"github.com/atoll-mesh/atoll/pkg/auth"
	"github.com/atoll-mesh/atoll/pkg/failover"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/view"
)

type gapsAnswer struct {
	Total  int             `json:"total"`
	Items  []failover.Gap  `json:"items"`
	Losses []failover.Loss `json:"losses"`
}

func (a *API) failoverRoutes(get func(string, endpoint)) {
	if a.Kinds.ByType(kind.Dataplane) == nil {
		return
	}
	get("/failover/gaps", a.failoverGaps)
	get("/failover/simulate", a.failoverSimulate)
}

func (a *API) failoverInputs(s *view.Snapshot) failover.Inputs {
	return failover.Inputs{Kinds: a.Kinds, Policies: a.Compile.Policies, Site: a.Site, Source: s, Now: a.Now()}
}

// mayForesee returns which meshes the caller may look ahead for.
func (a *API) mayForesee(r *http.Request, mesh string) (func(mesh string) bool, error) {
	user, k := auth.UserFrom(r.Context()), a.Kinds.ByType(kind.Dataplane)
	sees := func(mesh string) bool { return a.Access.Object(user, auth.Read, auth.TargetIn(k, mesh)) == nil }
	if mesh != "" {
		return sees, a.Access.Object(user, auth.Read, auth.TargetIn(k, mesh))
	}
	if len(a.Access.Roles) == 0 {
		return sees, a.Access.Resource(user, auth.Read, k)
	}
	return sees, nil // of some meshes perhaps none
}

// failoverGaps answers what would break if a zone were lost.
func (a *API) failoverGaps(w http.ResponseWriter, r *http.Request) error {
	q := failover.Query{Mesh: r.URL.Query().Get("mesh"), Zone: r.URL.Query().Get("zone")}
	sees, err := a.mayForesee(r, q.Mesh)
	if err != nil {
		return err
	}
	s := a.View.Snapshot()
	report, err := inTurn(r.Context(), a.looking, func() (*failover.Report, error) {
		return failover.Check(a.failoverInputs(s), q)
	})
	if err != nil {
		return zoneProblem(err)
	}
	out := gapsAnswer{
		Items:  slices.DeleteFunc(report.Gaps, func(g failover.Gap) bool { return !sees(g.Mesh) }),
		Losses: slices.DeleteFunc(report.Losses, func(l failover.Loss) bool { return !sees(l.Mesh) }),
	}
	out.Total = len(out.Items)
	noteRevision(w, s.Revision())
	writeJSON(w, http.StatusOK, out)
	return nil
}

// failoverSimulate answers where requests would go if a zone were lost.
func (a *API) failoverSimulate(w http.ResponseWriter, r *http.Request) error {
	lose, mesh := r.URL.Query().Get("lose"), r.URL.Query().Get("mesh")
	sees, err := a.mayForesee(r, mesh)
	if err != nil {
		return err
	}
	if lose == "" {
		return badRequest("name the zone to lose: ?lose=ZONE")
	}
	s := a.View.Snapshot()
	sim, err := inTurn(r.Context(), a.looking, func() (*failover.Simulation, error) {
		return failover.Simulate(a.failoverInputs(s), lose, mesh)
	})
	if err != nil {
		return zoneProblem(err)
	}
	sim.Moves = slices.DeleteFunc(sim.Moves, func(m failover.Move) bool { return !sees(m.Mesh) })
	noteRevision(w, s.Revision())
	writeJSON(w, http.StatusOK, sim)
	return nil
}

func zoneProblem(err error) error {
	if errors.Is(err, failover.ErrNoZone) {
		return &problem{http.StatusNotFound, "Could not look ahead", err.Error(), nil}
	}
	return err
}
