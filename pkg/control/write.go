package control

import (
	"context"
	"errors"

	"github.com/atoll-mesh/atoll/pkg/store"
)

// chunk bounds the ops of one transaction.
const chunk = 400

// write commits groups of ops, many groups in one transaction. Where somebody
// else was faster with one resource, the groups of that transaction are written
// one by one, so that the others pass; the conflict is returned at the end.
func write(ctx context.Context, st store.Store, groups [][]store.Op) (store.Revision, error) {
	var newest store.Revision
	var conflicts []error
	for len(groups) > 0 {
		var ops []store.Op
		n := 0
		for n < len(groups) && (n == 0 || len(ops)+len(groups[n]) <= chunk) {
			ops = append(ops, groups[n]...)
			n++
		}
		rev, err := st.Write(ctx, ops...)
		if errors.Is(err, store.ErrConflict) && n > 1 {
			rev, err = writeEach(ctx, st, groups[:n])
		}
		switch {
		case errors.Is(err, store.ErrConflict):
			conflicts = append(conflicts, err)
		case err != nil:
			return newest, err
		}
		newest = max(newest, rev)
		groups = groups[n:]
	}
	return newest, errors.Join(conflicts...)
}

func writeEach(ctx context.Context, st store.Store, groups [][]store.Op) (store.Revision, error) {
	var newest store.Revision
	var conflicts []error
	for _, ops := range groups {
		rev, err := st.Write(ctx, ops...)
		switch {
		case errors.Is(err, store.ErrConflict):
			conflicts = append(conflicts, err)
		case err != nil:
			return newest, err
		}
		newest = max(newest, rev)
	}
	return newest, errors.Join(conflicts...)
}
