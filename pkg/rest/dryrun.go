package rest

import (
	"iter"
	"net/http"
	"slices"
	"strconv"

	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/policy"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/view"
)

// dryRun tells whether a request only asks what it would do.
func dryRun(r *http.Request) (bool, error) {
	text := r.URL.Query().Get("dryRun")
	if text == "" {
		return false, nil
	}
	b, err := strconv.ParseBool(text)
	if err != nil {
		return false, badRequest("dryRun: must be true or false, got %q", text)
	}
	return b, nil
}

// maxNamed bounds how many names an answer lists; total counts all.
const maxNamed = 1000

// nameList is a set of names, cut when it is long.
type nameList struct {
	Total int      `json:"total"`
	Names []string `json:"names"`
}

func listNames(set map[string]bool) nameList {
	n := nameList{Total: len(set), Names: []string{}}
	for name := range set {
		n.Names = append(n.Names, name)
	}
	slices.Sort(n.Names)
	n.Names = n.Names[:min(len(n.Names), maxNamed)]
	return n
}

// previewBody is what a write would do.
type previewBody struct {
	DryRun    bool      `json:"dryRun"`
	Operation string    `json:"operation"` // create, update, delete or none
	Diff      []patchOp `json:"diff"`
	Deleted   []string  `json:"deleted,omitempty"` // what goes with it
	Affects   struct {
		Proxies  nameList `json:"proxies"`  // mesh/name
		Services nameList `json:"services"` // mesh/name
		Zones    nameList `json:"zones"`
	} `json:"affects"`
	// Envoy is what proxies would be given otherwise, because of a policy.
	Envoy    *xdsEffects `json:"envoy,omitempty"`
	Warnings []string    `json:"warnings,omitempty"`
}

// preview answers what putting next in place of old, or deleting old when next is
// nil, would do. Nothing is written. To its warnings come those of the request.
func (a *API) preview(w http.ResponseWriter, r *http.Request, s *view.Snapshot, old, next *resource.Object, goesWithIt []resource.ID, warn []string) error {
	b := previewBody{DryRun: true, Operation: opUpdate, Diff: []patchOp{}, Warnings: warn}
	var from, to []byte
	some := next
	switch {
	case old == nil:
		b.Operation = opCreate
	case next == nil:
		b.Operation, some = opDelete, old
	case next.SameContent(old):
		b.Operation = "none"
	}
	if old != nil {
		from = old.JSON()
	}
	if next != nil {
		to = next.JSON()
		b.Warnings = append(b.Warnings, warnings(next)...)
	}
	reach := &reach{a: a, s: a.visibleTo(r, s), proxies: map[string]bool{}, services: map[string]bool{}, zones: map[string]bool{}}
	if b.Operation != "none" {
		if !some.Kind.AdminOnly {
			var err error
			if b.Diff, err = diffOf(from, to); err != nil {
				return err
			}
		}
		for _, id := range goesWithIt {
			if reach.s.Get(id) == nil {
				continue
			}
			b.Deleted = append(b.Deleted, id.String())
		}
		for _, o := range []*resource.Object{old, next} {
			if o != nil {
				reach.of(o)
			}
		}
		var err error
		if b.Envoy, err = a.effects(r, s, old, next, reach.proxies); err != nil {
			return err
		}
	}
	b.Affects.Proxies, b.Affects.Services, b.Affects.Zones = listNames(reach.proxies), listNames(reach.services), listNames(reach.zones)
	noteRevision(w, s.Revision())
	writeJSON(w, http.StatusOK, b)
	return nil
}

// reach collects what a resource has an effect on.
type reach struct {
	a                        *API
	s                        rows
	proxies, services, zones map[string]bool
}

// of adds what one resource has an effect on: a policy on the proxies that it
// selects and the services that it names; a service on the proxies of its mesh,
// which may call it; a Dataplane on the services it is part of.
func (c *reach) of(o *resource.Object) {
	switch {
	case o.Kind.Policy != nil:
		c.policy(o)
	case o.Kind.Ports != nil:
		c.services[o.Mesh+"/"+o.Name] = true
		for dp := range c.s.List(kind.Dataplane, o.Mesh) {
			c.proxy(dp)
		}
	case o.Type == kind.Dataplane:
		c.proxy(o)
		for svc := range c.s.List(kind.MeshService, o.Mesh) {
			if belongs(svc, o) {
				c.services[svc.Mesh+"/"+svc.Name] = true
			}
		}
	case o.Type == kind.Mesh:
		for dp := range c.s.List(kind.Dataplane, o.Name) {
			c.proxy(dp)
		}
	case o.Type == kind.Zone:
		c.zones[o.Name] = true
	case o.Kind.Scope == resource.ScopeMesh && !o.Kind.AdminOnly && !o.Kind.ReadOnly:
		for dp := range c.s.List(kind.Dataplane, o.Mesh) {
			c.proxy(dp)
		}
	}
	if zone := o.Zone(); zone != "" {
		c.zones[zone] = true
	} else if c.a.Site.Global && o.Kind.Flows.Has(resource.GlobalToZone) {
		for z := range c.s.List(kind.Zone, "") {
			c.zones[z.Name] = true
		}
	}
}

func (c *reach) proxy(dp *resource.Object) {
	c.proxies[dp.Mesh+"/"+dp.Name] = true
	if zone := dp.Zone(); zone != "" {
		c.zones[zone] = true
	}
}

func (c *reach) policy(o *resource.Object) {
	alone := policy.NewIndex(c.a.Compile.Policies, func(t resource.Type) iter.Seq[*resource.Object] {
		return func(yield func(*resource.Object) bool) {
			if t == o.Kind.Type {
				yield(o)
			}
		}
	})
	for dp := range c.s.List(kind.Dataplane, o.Mesh) {
		if len(alone.Match(policy.ProxyOf(dp), policy.Options{Shadow: true}).Policies(o.Kind.Type)) > 0 {
			c.proxy(dp)
		}
	}
	for _, ref := range alone.Names() {
		for svc := range c.s.List(ref.Kind, o.Mesh) {
			if svc.Matches(ref.Labels) {
				c.services[svc.Mesh+"/"+svc.Name] = true
			}
		}
	}
}

// belongs tells whether a MeshService selects a Dataplane of its mesh.
func belongs(svc, dp *resource.Object) bool {
	switch sel := resource.SpecOf[kind.MeshServiceSpec](svc).Selector; {
	case sel.DataplaneRef != nil:
		return sel.DataplaneRef.Name == dp.Name
	case sel.DataplaneLabels != nil:
		return dp.Matches(sel.DataplaneLabels.MatchLabels)
	}
	return false
}
