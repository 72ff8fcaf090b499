package rest

import (
	"iter"
	"net/http"
	"slices"
	"strings"

	"github.com/atoll-mesh/atoll/pkg/auth"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/policy"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/view"
)

// Titles of inspection, as the reference has them.
const (
	titlePolicy  = "Could not retrieve policy"
	titleService = "could not retrieve service"
)

// find returns the resource that a path names, or why not, under a title.
func (a *API) find(s *view.Snapshot, r *http.Request, k *resource.Kind, title string) (*resource.Object, error) {
	if err := a.mayRead(s, r, k); err != nil {
		return nil, err
	}
	o := s.Get(idOf(k, r))
	if !a.shows(r, o) {
		return nil, notFound(title)
	}
	return o, nil
}

// selectedBy lists the Dataplanes that a policy's targetRef selects. That it is
// applied for show only (shadow) does not matter here.
func selectedBy(d *policy.Def, s *view.Snapshot, o *resource.Object) []*resource.Object {
	ix := policy.NewIndex([]*policy.Def{d}, func(resource.Type) iter.Seq[*resource.Object] {
		return slices.Values([]*resource.Object{o})
	})
	var out []*resource.Object
	for dp := range s.List(kind.Dataplane, o.Mesh) {
		if len(ix.Match(policy.ProxyOf(dp), policy.Options{Shadow: true}).Policies(o.Type)) > 0 {
			out = append(out, dp)
		}
	}
	return out
}

// selectedDataplanes answers which Dataplanes a policy selects.
func (a *API) selectedDataplanes(d *policy.Def) endpoint {
	k := d.Kind()
	return func(w http.ResponseWriter, r *http.Request) error {
		s := a.View.Snapshot()
		o, err := a.find(s, r, k, titlePolicy)
		if err != nil {
			return err
		}
		return a.answerMetas(w, r, s, selectedBy(d, s, o))
	}
}

// serviceDataplanes answers which Dataplanes a MeshService selects, of whatever
// zone: on a global it selects as in the service's own zone.
func (a *API) serviceDataplanes(k *resource.Kind) endpoint {
	return func(w http.ResponseWriter, r *http.Request) error {
		s := a.View.Snapshot()
		o, err := a.find(s, r, k, titleService)
		if err != nil {
			return err
		}
		sel := resource.SpecOf[kind.MeshServiceSpec](o).Selector
		var out []*resource.Object
		for dp := range s.List(kind.Dataplane, o.Mesh) {
			switch {
			case sel.DataplaneRef != nil:
				if n := sel.DataplaneRef.Name; n != "" && (dp.Name == n || dp.DisplayName() == n && dp.Zone() == o.Zone()) {
					out = append(out, dp)
				}
			case sel.DataplaneLabels != nil && resource.MatchLabels(sel.DataplaneLabels.MatchLabels, dp.Labels):
				out = append(out, dp)
			}
		}
		return a.answerMetas(w, r, s, out)
	}
}

// answerMetas answers one page of what names resources.
func (a *API) answerMetas(w http.ResponseWriter, r *http.Request, s *view.Snapshot, all []*resource.Object) error {
	q := r.URL.Query()
	p, err := parsePage(q)
	if err != nil {
		return err
	}
	if sees := a.Access.Sees(auth.UserFrom(r.Context())); sees != nil {
		all = slices.DeleteFunc(all, func(o *resource.Object) bool { return !sees(o) })
	}
	if part := q.Get("name"); part != "" {
		all = slices.DeleteFunc(all, func(o *resource.Object) bool { return !strings.Contains(o.Name, part) })
	}
	items := []metaBody{}
	for _, o := range all[min(p.offset, len(all)):min(p.offset+p.size, len(all))] {
		items = append(items, metaOf(o))
	}
	noteRevision(w, s.Revision())
	writeJSON(w, http.StatusOK, struct {
		Total int        `json:"total"`
		Items []metaBody `json:"items"`
		Next  string     `json:"next,omitempty"`
	}{len(all), items, a.next(r, p, len(all))})
	return nil
}

// attachments is the older form of what a policy selects: proxies, and what of
// them it is about.
func (a *API) attachments(d *policy.Def) endpoint {
	k := d.Kind()
	type attachment struct {
		Type    string `json:"type"`
		Name    string `json:"name,omitempty"`
		Service string `json:"service,omitempty"`
	}
	type name struct {
		Mesh string `json:"mesh"`
		Name string `json:"name"`
	}
	type item struct {
		Kind        string       `json:"kind"`
		Dataplane   name         `json:"dataplane"`
		Attachments []attachment `json:"attachments"`
	}
	return func(w http.ResponseWriter, r *http.Request) error {
		s := a.View.Snapshot()
		o, err := a.find(s, r, k, titlePolicy)
		if err != nil {
			return err
		}
		if err := a.Access.Resource(auth.UserFrom(r.Context()), auth.Read, a.Kinds.ByType(kind.Dataplane)); err != nil {
			return err
		}
		items := []item{}
		sees := a.Access.Sees(auth.UserFrom(r.Context()))
		for _, dp := range selectedBy(d, s, o) {
			if sees != nil && !sees(dp) {
				continue
			}
			items = append(items, item{"SidecarDataplane", name{dp.Mesh, dp.Name}, []attachment{{Type: "dataplane"}}})
		}
		noteRevision(w, s.Revision())
		writeJSON(w, http.StatusOK, struct {
			Total int    `json:"total"`
			Items []item `json:"items"`
		}{len(items), items})
		return nil
	}
}
