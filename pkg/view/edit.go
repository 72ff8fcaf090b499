package view

import (
	"context"
	"errors"
	"fmt"

	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/store"
)

// editTries bounds how often Edit competes with other writers of one resource.
const editTries = 10

// Edit changes one resource: fn gets what is stored, nil when there is nothing,
// and returns what shall be stored, nil to delete. Returning old, or an object
// with the same content, writes nothing. fn is called again with the newer
// object when somebody else was faster. The revision returned holds the change.
func Edit(ctx context.Context, v *View, st store.Store, id resource.ID, author string,
	fn func(old *resource.Object) (*resource.Object, error),
) (store.Revision, error) {
	for range editTries {
		s := v.Snapshot()
		old := s.Get(id)
		next, err := fn(old)
		if err != nil {
			return 0, err
		}
		var op store.Op
		switch {
		case next == old, next != nil && old != nil && next.SameContent(old):
			return s.Revision(), nil
		case next == nil:
			op = store.Delete(id, int64(old.Version), author)
		case old == nil:
			op = store.Put(next, store.Absent, author)
		default:
			op = store.Put(next, int64(old.Version), author)
		}
		rev, err := st.Write(ctx, op)
		if !errors.Is(err, store.ErrConflict) {
			return rev, err
		}
		// The view is behind the store: wait for the commit that was in the way.
		b, err := st.Read(ctx, s.Revision(), 1)
		if err != nil {
			return 0, err
		}
		if b.Head <= s.Revision() { // nothing newer explains it, so trying again would not help
			return 0, fmt.Errorf("%s: %w", id, store.ErrConflict)
		}
		if _, err := v.Wait(ctx, b.Head); err != nil {
			return 0, err
		}
	}
	return 0, fmt.Errorf("%s: %w: other writers were faster %d times", id, store.ErrConflict, editTries)
}
