package rest

import (
	"iter"
	"net/http"

	"github.com/atoll-mesh/atoll/pkg/auth"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/store"
)

// rows is what a read looks at: the newest snapshot, an earlier moment, or the
// part of either that a caller may see.
type rows interface {
	Revision() store.Revision
	Get(id resource.ID) *resource.Object
	List(t resource.Type, mesh string) iter.Seq[*resource.Object]
	Count(t resource.Type, mesh string) int
}

// visible is rows without what the caller may not read.
type visible struct {
	rows
	sees func(*resource.Object) bool
}

// visibleTo narrows rows to what the caller of r may read.
func (a *API) visibleTo(r *http.Request, s rows) rows {
	if sees := a.Access.Sees(auth.UserFrom(r.Context())); sees != nil {
		return visible{s, sees}
	}
	return s
}

func (v visible) Get(id resource.ID) *resource.Object {
	if o := v.rows.Get(id); o != nil && v.sees(o) {
		return o
	}
	return nil
}

func (v visible) List(t resource.Type, mesh string) iter.Seq[*resource.Object] {
	return func(yield func(*resource.Object) bool) {
		for o := range v.rows.List(t, mesh) {
			if v.sees(o) && !yield(o) {
				return
			}
		}
	}
}

func (v visible) Count(t resource.Type, mesh string) int {
	n := 0
	for range v.List(t, mesh) {
		n++
	}
	return n
}

// mayReadThis checks that the caller may read one resource.
func (a *API) mayReadThis(r *http.Request, o *resource.Object) error {
	return a.Access.Object(auth.UserFrom(r.Context()), auth.Read, auth.TargetOf(o.Kind, &o.Meta))
}

// shows tells whether there is a resource and the caller may read it. Answers do
// not tell these apart.
func (a *API) shows(r *http.Request, o *resource.Object) bool {
	return o != nil && a.mayReadThis(r, o) == nil
}

// mayWriteThis checks that the caller may put next in the place of old, either of
// which may be nil.
func (a *API) mayWriteThis(r *http.Request, old, next *resource.Object) error {
	for _, o := range []*resource.Object{old, next} {
		if o == nil {
			continue
		}
		if err := a.Access.Object(auth.UserFrom(r.Context()), auth.Write, auth.TargetOf(o.Kind, &o.Meta)); err != nil {
			return err
		}
	}
	return nil
}
