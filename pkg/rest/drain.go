package rest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	systemv1 "github.com/atoll-mesh/atoll/api/kuma/system/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/auth"
	"github.com/atoll-mesh/atoll/pkg/failover"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/store"
	"github.com/atoll-mesh/atoll/pkg/view"
)

const titleDrain = "Could not drain the zone"

// drainedService names a service of a zone.
type drainedService struct {
	Mesh      string `json:"mesh"`
	Name      string `json:"name"`
	Namespace string `json:"namespace,omitempty"`
}

// drainRequest is what shall be drained of a zone, or put back.
type drainRequest struct {
	// Services are single services; empty: the whole zone.
	Services []drainedService `json:"services,omitempty"`
	Ramp     string           `json:"ramp,omitempty"`
	Timeout  string           `json:"timeout,omitempty"`
	Force    bool             `json:"force,omitempty"`
}

// drainAnswer is how far the drains of a zone are.
type drainAnswer struct {
	Zone   string             `json:"zone"`
	Drain  json.RawMessage    `json:"drain,omitempty"` // what the Zone wants
	Drains []kind.DrainStatus `json:"drains"`
}

func (a *API) drainRoutes(route func(string, methods)) {
	if a.Kinds.ByType(kind.Zone) == nil || a.Kinds.ByType(kind.ZoneTraffic) == nil {
		return
	}
	route("/zones/{name}/_drain", methods{http.MethodGet: a.drainProgress, http.MethodPost: a.drain})
	route("/zones/{name}/_undrain", methods{http.MethodPost: a.undrain})
}

// drainProgress answers how far the drains of a zone are.
func (a *API) drainProgress(w http.ResponseWriter, r *http.Request) error {
	k := a.Kinds.ByType(kind.Zone)
	s := a.View.Snapshot()
	if err := a.mayRead(s, r, k); err != nil {
		return err
	}
	o := s.Get(idOf(k, r))
	if !a.shows(r, o) {
		return notFound(titleGet)
	}
	noteRevision(w, s.Revision())
	writeJSON(w, http.StatusOK, a.drainOf(s, o))
	return nil
}

func (a *API) drainOf(s *view.Snapshot, zone *resource.Object) drainAnswer {
	out := drainAnswer{Zone: zone.Name, Drains: []kind.DrainStatus{}}
	if z, ok := zone.Spec.(*systemv1.Zone); ok && z.GetDrain() != nil {
		out.Drain = resource.SpecJSON(z.GetDrain())
	}
	if t := s.Get(resource.ID{Type: kind.ZoneTraffic, Name: zone.Name}); t != nil {
		if st := resource.StatusOf[kind.ZoneTrafficStatus](t); st != nil {
			out.Drains = append(out.Drains, st.Drains...)
		}
	}
	return out
}

// drain takes a zone, or services of it, out of the traffic, unless something
// would break.
func (a *API) drain(w http.ResponseWriter, r *http.Request) error {
	return a.editDrain(w, r, func(d *systemv1.ZoneDrain, in drainRequest) error {
		var errs resource.FieldErrors
		for field, set := range map[string]struct {
			text string
			into **durationpb.Duration
		}{"ramp": {in.Ramp, &d.Ramp}, "timeout": {in.Timeout, &d.Timeout}} {
			*set.into = nil
			if set.text == "" {
				continue
			}
			t, err := time.ParseDuration(set.text)
			if err != nil {
				errs.Add(field, "must be a duration such as 60s, got %q", set.text)
				continue
			}
			*set.into = durationpb.New(t)
		}
		d.Force = in.Force
		if len(in.Services) == 0 {
			d.Enabled = true
		}
		for _, s := range in.Services {
			if !slices.ContainsFunc(d.Services, s.is) {
				d.Services = append(d.Services, &systemv1.ZoneDrainService{Mesh: s.Mesh, Name: s.Name, Namespace: s.Namespace})
			}
		}
		return invalid(titleDrain, errs)
	}, false)
}

// undrain puts a zone, or services of it, back.
func (a *API) undrain(w http.ResponseWriter, r *http.Request) error {
	return a.editDrain(w, r, func(d *systemv1.ZoneDrain, in drainRequest) error {
		if len(in.Services) == 0 {
			d.Enabled = false
		}
		for _, s := range in.Services {
			d.Services = slices.DeleteFunc(d.Services, s.is)
		}
		return nil
	}, true)
}

func (s drainedService) is(z *systemv1.ZoneDrainService) bool {
	return z.GetMesh() == s.Mesh && z.GetName() == s.Name && z.GetNamespace() == s.Namespace
}

// editDrain changes what a Zone wants drained. Unless it is back, what would break
// prevents it.
func (a *API) editDrain(w http.ResponseWriter, r *http.Request, edit func(*systemv1.ZoneDrain, drainRequest) error, back bool) error {
	k := a.Kinds.ByType(kind.Zone)
	if !a.Site.Global {
		return &problem{http.StatusMethodNotAllowed, "Method not allowed", "zones are drained by the global: ask it", nil}
	}
	if err := a.mayWrite(r, k); err != nil {
		return err
	}
	var in drainRequest
	if err := a.readRequest(w, r, &in); err != nil {
		return err
	}
	id := idOf(k, r)
	var stored *resource.Object
	plan := func(s *view.Snapshot) ([]store.Op, error) {
		old := s.Get(id)
		if !a.shows(r, old) {
			return nil, notFound(titleDrain)
		}
		if err := a.mayWriteThis(r, old, nil); err != nil {
			return nil, err
		}
		if err := precondition(r, old); err != nil {
			return nil, err
		}
		z := &systemv1.Zone{}
		if was, ok := old.Spec.(*systemv1.Zone); ok {
			z = proto.CloneOf(was)
		}
		if z.Drain == nil {
			z.Drain = &systemv1.ZoneDrain{}
		}
		if err := edit(z.Drain, in); err != nil {
			return nil, err
		}
		if !z.Drain.Enabled && len(z.Drain.Services) == 0 {
			z.Drain = nil
		}
		next, err := k.New(resource.Meta{ID: id, Labels: old.Labels}, z, nil)
		if err == nil {
			next, err = a.admit(next, old, titleDrain)
		}
		if err != nil {
			return nil, err
		}
		if !back && !in.Force {
			if err := a.breaks(r.Context(), s, id.Name, in.Services); err != nil {
				return nil, err
			}
		}
		stored = next
		return a.putOps(s, next, old, auth.UserFrom(r.Context()).Name)
	}
	if err := a.commit(w, r, id, plan); err != nil {
		return titled(titleDrain, err)
	}
	writeJSON(w, http.StatusOK, a.drainOf(a.View.Snapshot(), stored))
	return nil
}

// breaks is the answer when requests would fail, with all reasons.
func (a *API) breaks(ctx context.Context, s *view.Snapshot, zone string, services []drainedService) error {
	if len(services) == 0 {
		services = []drainedService{{}}
	}
	var errs resource.FieldErrors
	done, err := a.looking.wait(ctx)
	if err != nil {
		return err
	}
	defer done()
	for _, svc := range services {
		gaps, err := failover.Breaks(a.failoverInputs(s), failover.Drain{Zone: zone, Mesh: svc.Mesh, Service: svc.Name})
		if err != nil {
			return zoneProblem(err)
		}
		for _, g := range gaps {
			errs.Add(g.Code, "%s", g.String()[len(g.Code)+1:])
		}
	}
	if len(errs) == 0 {
		return nil
	}
	return &problem{
		http.StatusConflict, titleDrain,
		fmt.Sprintf("requests would fail without zone %s; mend what is listed, or force it", zone), errs,
	}
}
