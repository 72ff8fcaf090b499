package rest

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"net/http"
	"slices"
	"time"

	"github.com/atoll-mesh/atoll/pkg/auth"
	"github.com/atoll-mesh/atoll/pkg/compile"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/store"
	"github.com/atoll-mesh/atoll/pkg/view"
)

// put creates or replaces a resource.
func (a *API) put(k *resource.Kind) endpoint {
	return func(w http.ResponseWriter, r *http.Request) error {
		id := idOf(k, r)
		if err := a.mayWrite(r, k); err != nil {
			return err
		}
		body, err := a.readBody(w, r)
		if err != nil {
			return err
		}
		sent, err := a.decodeAndCheck(k, id, body)
		if err != nil {
			return err
		}
		var created bool
		var stored, replaced *resource.Object
		title := titleCreate
		plan := func(s *view.Snapshot) ([]store.Op, error) {
			if err := meshExists(s, k, r); err != nil { // deleted meanwhile
				return nil, err
			}
			old := s.Get(id)
			created = old == nil
			if !created && !a.shows(r, old) { // do not tell whose it is
				return nil, &auth.DeniedError{User: auth.UserFrom(r.Context()), Action: "write " + id.String()}
			}
			if err := a.mayWriteThis(r, old, nil); err != nil {
				return nil, err
			}
			if !created {
				title = titleUpdate
			}
			if err := precondition(r, old); err != nil {
				return nil, err
			}
			next, err := a.admit(sent, old, title)
			if err != nil {
				return nil, err
			}
			if err := a.mayWriteThis(r, nil, next); err != nil {
				return nil, err
			}
			stored, replaced = next, old
			return a.putOps(s, next, old, author(r))
		}
		if dry, err := dryRun(r); err != nil {
			return err
		} else if dry {
			s := a.View.Snapshot()
			if _, err := plan(s); err != nil {
				return titled(title, err)
			}
			return a.preview(w, r, s, replaced, stored, nil, unknownMembers(k, body))
		}
		if err := a.commit(w, r, id, plan); err != nil {
			return titled(title, err)
		}
		status := http.StatusOK
		if created {
			status = http.StatusCreated
		}
		writeJSON(w, status, writeResult{Warnings: append(unknownMembers(k, body), warnings(stored)...)})
		return nil
	}
}

// writeResult is the answer to a write.
type writeResult struct {
	Warnings []string `json:"warnings,omitempty"`
}

func warnings(o *resource.Object) []string {
	if o.Kind.Warnings == nil {
		return nil
	}
	return o.Kind.Warnings(o)
}

// maxUnknown bounds how many members of one document are warned about.
const maxUnknown = 20

// unknownMembers warns of what a body says and the kind does not have, such as a
// name with a slip in it. Like the reference, the API accepts and drops it.
func unknownMembers(k *resource.Kind, body []byte) []string {
	var out []string
	for i, path := range k.Unknown(body) {
		if i == maxUnknown {
			return append(out, "there are more such fields")
		}
		out = append(out, fmt.Sprintf("%s is no field of %s and has no effect", path, k.Type))
	}
	return out
}

func author(r *http.Request) string { return auth.UserFrom(r.Context()).Name }

// mayWrite checks, in this order, that the kind can be written here, that the
// mesh exists and that the caller may.
func (a *API) mayWrite(r *http.Request, k *resource.Kind) error {
	if err := a.writable(k); err != nil {
		return err
	}
	return a.may(auth.Write, a.View.Snapshot(), r, k)
}

// decodeAndCheck turns a body into a resource that would be valid here.
func (a *API) decodeAndCheck(k *resource.Kind, id resource.ID, body []byte) (*resource.Object, error) {
	o, err := decode(k, body)
	if err != nil {
		return nil, err
	}
	if !k.Proto && k.Validate != nil {
		if err := invalid(titlePut, checkSpec(o)); err != nil {
			return nil, err
		}
	}
	if err := invalid(titlePut, a.checkRequest(k, o.Meta, id)); err != nil {
		return nil, err
	}
	return k.New(resource.Meta{ID: id, Labels: o.Labels}, o.Spec, nil)
}

// checkSpec returns what is wrong with a spec: what its kind knows, and what has
// to be known of Envoy.
func checkSpec(o *resource.Object) resource.FieldErrors {
	errs := o.Kind.Validate(o)
	for _, e := range compile.CheckPatchValues(o) {
		if !slices.ContainsFunc(errs, func(known resource.FieldError) bool { return known.Field == e.Field }) {
			errs = append(errs, e)
		}
	}
	return errs
}

// admit makes of a valid request what is stored in place of old.
func (a *API) admit(sent, old *resource.Object, title string) (*resource.Object, error) {
	meta := resource.Meta{ID: sent.ID, Labels: sent.Labels}
	var status any
	if old != nil {
		status = old.Status
	} else if err := invalid(title, a.checkWorkload(sent)); err != nil {
		return nil, err
	}
	o, err := sent.Kind.New(meta, sent.Spec, status)
	if err != nil {
		return nil, err
	}
	next, err := a.Site.Admit(o, old)
	if err != nil {
		return nil, err
	}
	var errs resource.FieldErrors
	if old != nil && old.Zone() != "" && next.Zone() != old.Zone() {
		errs.Add(resource.LabelPath(resource.LabelZone), "cannot be changed or removed, it is %q", old.Zone())
	}
	if next.Kind.Proto && next.Kind.Validate != nil {
		errs = append(errs, next.Kind.Validate(next)...)
	}
	return next, invalid(title, errs)
}

// putOps are the ops that store next, with all that comes into being with it.
func (a *API) putOps(s *view.Snapshot, next, old *resource.Object, author string) ([]store.Op, error) {
	if old != nil {
		if next.SameContent(old) {
			return nil, nil
		}
		return []store.Op{store.Put(next, int64(old.Version), author)}, nil
	}
	ops := []store.Op{store.Put(next, store.Absent, author)}
	if next.Type != kind.Mesh || a.MeshDefaults == nil {
		return ops, nil
	}
	defaults, err := a.MeshDefaults(next)
	if err != nil {
		return nil, err
	}
	for _, d := range defaults {
		if s.Get(d.ID) == nil {
			ops = append(ops, store.Put(d, store.Absent, author))
		}
	}
	return ops, nil
}

// delete removes a resource and what belongs to it.
func (a *API) delete(k *resource.Kind) endpoint {
	return func(w http.ResponseWriter, r *http.Request) error {
		if err := a.mayWrite(r, k); err != nil {
			return err
		}
		id := idOf(k, r)
		var gone *resource.Object
		var owned []resource.ID
		plan := func(s *view.Snapshot) ([]store.Op, error) {
			o := s.Get(id)
			if !a.shows(r, o) {
				return nil, notFound(titleDelete)
			}
			if err := a.mayWriteThis(r, o, nil); err != nil {
				return nil, err
			}
			if err := precondition(r, o); err != nil {
				return nil, err
			}
			errs := append(a.checkDelete(o), a.deleteGuard(s, o)...)
			if len(errs) > 0 {
				return nil, invalid(titleDelete, errs)
			}
			ops := []store.Op{store.Delete(id, int64(o.Version), author(r))}
			gone, owned = o, a.owned(s, o)
			for _, id := range owned {
				ops = append(ops, store.Delete(id, store.Any, author(r)))
			}
			return ops, nil
		}
		if dry, err := dryRun(r); err != nil {
			return err
		} else if dry {
			s := a.View.Snapshot()
			if _, err := plan(s); err != nil {
				return titled(titleDelete, err)
			}
			return a.preview(w, r, s, gone, nil, owned, nil)
		}
		if err := a.commit(w, r, id, plan); err != nil {
			return titled(titleDelete, err)
		}
		writeJSON(w, http.StatusOK, writeResult{})
		return nil
	}
}

// deleteGuard protects what is in use.
func (a *API) deleteGuard(s *view.Snapshot, o *resource.Object) resource.FieldErrors {
	var errs resource.FieldErrors
	if a.UnsafeDelete {
		return nil
	}
	switch o.Type {
	case kind.Mesh:
		if n := s.Count(kind.Dataplane, o.Name); n > 0 {
			errs.Add("mesh", "unable to delete the mesh, there are still %d Dataplanes in it", n)
		}
	case kind.Zone:
		if i := zoneInsight(s, o.Name); i != nil && kind.ZoneOnline(i) {
			errs.Add("zone", "unable to delete the zone, its control plane is still connected: shut it down first")
		}
	}
	return errs
}

// insights are the kinds that describe resources of another kind, one each.
var insights = map[resource.Type]resource.Type{
	kind.Dataplane: kind.DataplaneInsight,
	kind.Zone:      kind.ZoneInsight,
	kind.Mesh:      "MeshInsight",
}

// owned are the resources that go with o: its insight; all that is in a mesh;
// and at a global all that came from a zone.
func (a *API) owned(s *view.Snapshot, o *resource.Object) []resource.ID {
	var ids []resource.ID
	for k := range a.Kinds.All() {
		switch {
		case o.Type == kind.Mesh && k.Scope == resource.ScopeMesh:
			for x := range s.List(k.Type, o.Name) {
				ids = append(ids, x.ID)
			}
		case k.Type == insights[o.Type]:
			id := resource.ID{Type: k.Type, Mesh: o.Mesh, Name: o.Name}
			if s.Get(id) != nil {
				ids = append(ids, id)
			}
		case o.Type == kind.Zone && a.Site.Global && k.Flows.Has(resource.ZoneToGlobal):
			for x := range s.List(k.Type, "") {
				if x.Zone() == o.Name && !a.Site.LocallyOriginated(x.Labels) {
					ids = append(ids, x.ID)
				}
			}
		}
	}
	return ids
}

// precondition evaluates If-Match and If-None-Match; old is nil when there is
// no such resource.
func precondition(r *http.Request, old *resource.Object) error {
	fail := func(detail string) error {
		return &problem{http.StatusPreconditionFailed, "Precondition Failed", detail, nil}
	}
	if h := r.Header.Get("If-Match"); h != "" && !matchesETag(h, old) {
		if old == nil {
			return fail("the resource does not exist")
		}
		return fail(fmt.Sprintf("the resource is at version %s, not %s: get it again and redo the change", etagOf(old), h))
	}
	if h := r.Header.Get("If-None-Match"); h != "" && matchesETag(h, old) {
		return fail("the resource exists already, at version " + etagOf(old))
	}
	return nil
}

// commitPatience bounds how long a write competes with other writers. Each time
// it loses, one of them made progress.
const commitPatience = 5 * time.Second

// commit writes what plan makes of the newest snapshot, in one transaction, and
// returns when the view has it, so that the caller reads what it wrote. Plan is
// called again when somebody else was faster. No ops means nothing to do.
func (a *API) commit(w http.ResponseWriter, r *http.Request, id resource.ID, plan func(*view.Snapshot) ([]store.Op, error)) error {
	ctx := r.Context()
	unlock, err := a.turns.wait(ctx, id)
	if err != nil {
		return err
	}
	defer unlock()
	for start := time.Now(); time.Since(start) < commitPatience; {
		s := a.View.Snapshot()
		ops, err := plan(s)
		if err != nil {
			return err
		}
		if len(ops) == 0 {
			noteRevision(w, s.Revision())
			return nil
		}
		rev, err := a.Store.Write(ctx, ops...)
		switch {
		case err == nil:
			noteRevision(w, rev)
			return a.await(r, rev)
		case !errors.Is(err, store.ErrConflict):
			return err
		}
		if err := a.catchUp(ctx, r, s, err); err != nil {
			return err
		}
	}
	return fmt.Errorf("%w: other writers were faster for %s", store.ErrConflict, commitPatience)
}

// turns lets callers of this process write a resource one after the other, since
// of those who write at once all but one would have to begin again. Resources
// share turns by chance, which costs time but is not wrong.
type turns [64]chan struct{}

func newTurns() *turns {
	t := &turns{}
	for i := range t {
		t[i] = make(chan struct{}, 1)
	}
	return t
}

func (t *turns) wait(ctx context.Context, id resource.ID) (done func(), err error) {
	turn := t[maphash.Comparable(turnSeed, id)%uint64(len(t))]
	select {
	case turn <- struct{}{}:
		return func() { <-turn }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

var turnSeed = maphash.MakeSeed()

// catchUp waits for the commit that a write conflicted with.
func (a *API) catchUp(ctx context.Context, r *http.Request, s *view.Snapshot, conflict error) error {
	head := s.Revision() + 1
	b, err := a.Store.Read(ctx, s.Revision(), 1)
	switch {
	case errors.Is(err, store.ErrCompacted): // certainly newer
	case err != nil:
		return err
	case b.Head <= s.Revision(): // nothing newer explains the conflict
		if a.View.Snapshot().Revision() > s.Revision() {
			return nil
		}
		return conflict
	default:
		head = b.Head
	}
	return a.await(r, head)
}
