package rest

import (
	"fmt"
	"net/http"
	"slices"

	"github.com/atoll-mesh/atoll/pkg/auth"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/store"
	"github.com/atoll-mesh/atoll/pkg/view"
)

const titleRevert = "Could not revert a revision"

// revertedBody is one change that undoes another.
type revertedBody struct {
	Operation string        `json:"operation"`
	Type      resource.Type `json:"type"`
	Mesh      string        `json:"mesh,omitempty"`
	Name      string        `json:"name"`
	Diff      []patchOp     `json:"diff,omitempty"`
}

// skippedBody is a change that cannot be undone here.
type skippedBody struct {
	Type   resource.Type `json:"type"`
	Mesh   string        `json:"mesh,omitempty"`
	Name   string        `json:"name"`
	Reason string        `json:"reason"`
}

type revertBody struct {
	DryRun   bool           `json:"dryRun,omitempty"`
	Reverted []revertedBody `json:"reverted"`
	Skipped  []skippedBody  `json:"skipped,omitempty"`
}

// undo is what brings one resource back to what it was.
type undo struct {
	id     resource.ID
	before *resource.Object // nil: there was none
}

// revert makes the inverse of what a revision changed, all of it or nothing, and
// only while everything is as that revision left it.
func (a *API) revert(w http.ResponseWriter, r *http.Request) error {
	c, err := a.commitAt(r)
	if err != nil {
		return err
	}
	dry, err := dryRun(r)
	if err != nil {
		return err
	}
	undos, skipped, err := a.undos(r, c)
	if err != nil {
		return err
	}
	var body revertBody
	plan := func(s *view.Snapshot) (ops []store.Op, err error) {
		body = revertBody{DryRun: dry, Reverted: []revertedBody{}, Skipped: skipped}
		for _, u := range undos {
			op, done, err := a.undoOp(r, s, c, u)
			if err != nil {
				return nil, err
			}
			ops = append(ops, op)
			body.Reverted = append(body.Reverted, done)
		}
		return ops, a.checkUndo(s, ops, undos)
	}
	if dry {
		s := a.View.Snapshot()
		if _, err := plan(s); err != nil {
			return titled(titleRevert, err)
		}
		noteRevision(w, s.Revision())
	} else if err := a.commit(w, r, undos[0].id, plan); err != nil {
		return titled(titleRevert, err)
	}
	writeJSON(w, http.StatusOK, body)
	return nil
}

// undos says what of a revision is to be undone.
func (a *API) undos(r *http.Request, c *store.Commit) ([]undo, []skippedBody, error) {
	f, err := a.parseChangeFilter(r.URL.Query())
	if err != nil {
		return nil, nil, err
	}
	user := auth.UserFrom(r.Context())
	shown, before, err := a.changesBy(r.Context(), user, c, &f)
	if err != nil {
		return nil, nil, err
	}
	var undos []undo
	var skipped []skippedBody
	authors := map[string]bool{}
	for _, ch := range shown {
		k := a.Kinds.ByType(ch.Type)
		reason := ""
		switch {
		case k == nil || k.Internal || k.ReadOnly:
			reason = "it is written by control planes only"
		case a.writable(k) != nil:
			reason = "resources of this type cannot be written here"
		}
		if reason != "" {
			skipped = append(skipped, skippedBody{ch.Type, ch.Mesh, ch.Name, reason})
			continue
		}
		u := undo{id: ch.ID}
		if !created(c, ch) {
			rec := before[ch.ID]
			if rec == nil {
				return nil, nil, gone("what %s was before revision %d is no longer kept, so that it cannot be brought back; write it as it should be (atollctl apply) or remove it (atollctl delete)", ch.ID, c.Revision)
			}
			if u.before, err = rec.Object(a.Kinds); err != nil {
				return nil, nil, err
			}
		}
		authors[ch.Author] = true
		undos = append(undos, u)
	}
	if len(shown) == 0 {
		all, _, err := a.changesBy(r.Context(), user, c, &changeFilter{})
		if err != nil {
			return nil, nil, err
		}
		if len(all) == 0 { // all is hidden
			return nil, nil, notFound(titleRevert)
		}
	}
	switch {
	case len(undos) == 0:
		return nil, nil, badRequest("nothing in revision %d can be reverted here", c.Revision)
	case len(authors) > 1: // writes of several callers that were committed together
		return nil, nil, badRequest("revision %d has changes of several authors: say which to revert with kind, mesh, name or author", c.Revision)
	}
	slices.SortFunc(undos, func(a, b undo) int { return a.id.Compare(b.id) })
	return undos, skipped, nil
}

// undoOp is the op that undoes one change, if the resource is as the revision
// left it and the caller may write it.
func (a *API) undoOp(r *http.Request, s *view.Snapshot, c *store.Commit, u undo) (store.Op, revertedBody, error) {
	now := s.Get(u.id)
	done := revertedBody{Operation: opUpdate, Type: u.id.Type, Mesh: u.id.Mesh, Name: u.id.Name}
	var op store.Op
	if err := a.mayWriteThis(r, now, u.before); err != nil {
		return op, done, err
	}
	var put bool
	for i := range c.Changes {
		put = put || c.Changes[i].ID == u.id && c.Changes[i].Record != nil
	}
	switch {
	case put && (now == nil || now.Version != uint64(c.Revision)):
		return op, done, changedSince(u.id, c, now)
	case !put && now != nil:
		return op, done, changedSince(u.id, c, now)
	}
	if now != nil {
		if err := invalid(titleRevert, a.checkDelete(now)); err != nil { // of another control plane
			return op, done, err
		}
	}
	var from, to []byte
	if now != nil {
		from = now.JSON()
	}
	var err error
	switch {
	case u.before == nil:
		done.Operation = opDelete
		if err := invalid(titleRevert, a.deleteGuard(s, now)); err != nil {
			return op, done, err
		}
		op = store.Delete(u.id, int64(now.Version), author(r))
	default:
		next, expect := u.before, store.Absent
		if now == nil {
			done.Operation = opCreate
		} else {
			expect = int64(now.Version)
		}
		var status any // what is observed is not undone
		if now != nil {
			status = now.Status
		}
		if next, err = next.Kind.New(resource.Meta{ID: u.id, Labels: next.Labels}, next.Spec, status); err != nil {
			return op, done, err
		}
		if next.Kind.Validate != nil { // written by an older version, perhaps
			if err := invalid(titleRevert, next.Kind.Validate(next)); err != nil {
				return op, done, err
			}
		}
		op, to = store.Put(next, expect, author(r)), next.JSON()
	}
	if !a.Kinds.ByType(u.id.Type).AdminOnly {
		done.Diff, err = diffOf(from, to)
	}
	return op, done, err
}

func changedSince(id resource.ID, c *store.Commit, now *resource.Object) error {
	state := "was deleted since"
	if now != nil {
		state = fmt.Sprintf("was changed since, in revision %d", now.Version)
	}
	return &problem{http.StatusConflict, "Conflict", fmt.Sprintf("%s %s; revision %d can no longer be undone as a whole", id, state, c.Revision), nil}
}

// checkUndo keeps what is left whole: nothing may come back into a mesh that is
// not there, and no mesh may go while there is something else in it.
func (a *API) checkUndo(s *view.Snapshot, ops []store.Op, undos []undo) error {
	touched := map[resource.ID]*store.Op{}
	for i := range ops {
		touched[ops[i].ID] = &ops[i]
	}
	for _, u := range undos {
		mesh := resource.ID{Type: kind.Mesh, Name: u.id.Mesh}
		if op := touched[mesh]; u.before != nil && u.id.Mesh != "" && s.Get(mesh) == nil && (op == nil || op.Delete) {
			return &problem{http.StatusBadRequest, titleRevert, fmt.Sprintf("%s: its mesh does not exist", u.id), nil}
		}
		if u.id.Type != kind.Mesh || u.before != nil {
			continue
		}
		for _, id := range a.owned(s, s.Get(u.id)) {
			if op := touched[id]; op == nil || !op.Delete {
				return &problem{http.StatusConflict, "Conflict", fmt.Sprintf("mesh %q is in use by now: %s is in it", u.id.Name, id), nil}
			}
		}
	}
	return nil
}
