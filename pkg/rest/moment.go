package rest

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/store"
)

// moment is what a read looks at: the newest snapshot, or what the query's at
// names, of which the given types can be read then.
func (a *API) moment(r *http.Request, types ...resource.Type) (rows, error) {
	s := a.View.Snapshot()
	text := r.URL.Query().Get("at")
	if text == "" {
		return s, nil
	}
	for _, t := range types {
		if k := a.Kinds.ByType(t); k != nil && k.AdminOnly {
			return nil, badRequest("at: earlier values of %s are not shown", k.Displays)
		}
	}
	done, err := a.logReads.wait(r.Context())
	if err != nil {
		return nil, err
	}
	defer done()
	rev, err := a.revisionAt(r.Context(), "at", text, s.Revision())
	if err != nil {
		return nil, err
	}
	if rev == s.Revision() {
		return s, nil
	}
	return a.reconstruct(r.Context(), s, rev, types)
}

func gone(format string, args ...any) error {
	return &problem{http.StatusGone, "Gone", fmt.Sprintf(format, args...) +
		"; how much history is kept is set by store.history", nil}
}

// revisionAt reads a revision, or a time, which means the newest revision then.
func (a *API) revisionAt(ctx context.Context, parameter, text string, head store.Revision) (store.Revision, error) {
	if n, err := strconv.ParseUint(text, 10, 64); err == nil {
		if store.Revision(n) > head {
			return 0, badRequest("%s: revision %d is not there yet, the newest is %d", parameter, n, head)
		}
		return store.Revision(n), nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return 0, badRequest("%s: must be a revision or a time such as %s, got %q", parameter, "2026-01-31T12:00:00Z", text)
	}
	floor, err := store.Floor(ctx, a.Store, head)
	if err != nil {
		return 0, err
	}
	rev, err := store.LastBefore(ctx, a.Store, floor, head, t)
	if err == nil && rev == floor && floor > 0 {
		return 0, gone("%s: the history begins after %s, with revision %d; ask for that one or a later one", parameter, text, floor+1)
	}
	return rev, err
}

// past is rows of some types at an earlier revision.
type past struct {
	rev  store.Revision
	byID map[resource.ID]*resource.Object
	list map[resource.Type][]*resource.Object // ordered by mesh and name
}

func (p *past) Revision() store.Revision { return p.rev }

func (p *past) Get(id resource.ID) *resource.Object { return p.byID[id] }

func (p *past) List(t resource.Type, mesh string) iter.Seq[*resource.Object] {
	return func(yield func(*resource.Object) bool) {
		for _, o := range p.list[t] {
			if (mesh == "" || o.Mesh == mesh) && !yield(o) {
				return
			}
		}
	}
}

func (p *past) Count(t resource.Type, mesh string) int {
	n := 0
	for range p.List(t, mesh) {
		n++
	}
	return n
}

// reconstruct undoes what the log has since rev: what did not change since is as
// it is now, the rest is as the log had it last before.
func (a *API) reconstruct(ctx context.Context, now rows, rev store.Revision, types []resource.Type) (*past, error) {
	want := map[resource.Type]bool{}
	for _, t := range types {
		want[t] = true
	}
	changed := map[resource.ID]bool{} // whether it existed at rev
	for c, err := range a.forwards(ctx, rev, now.Revision()) {
		if err != nil {
			return nil, err
		}
		for i := range c.Changes {
			ch := &c.Changes[i]
			if _, seen := changed[ch.ID]; want[ch.Type] && !seen {
				changed[ch.ID] = !created(&c, ch)
			}
		}
	}
	p := &past{rev: rev, byID: map[resource.ID]*resource.Object{}, list: map[resource.Type][]*resource.Object{}}
	for t := range want {
		for o := range now.List(t, "") {
			if _, ok := changed[o.ID]; !ok {
				p.byID[o.ID] = o
			}
		}
	}
	var missing []resource.ID
	for id, existed := range changed {
		if existed {
			missing = append(missing, id)
		}
	}
	before, err := a.lastAt(ctx, rev, missing)
	if err != nil {
		return nil, err
	}
	for _, id := range missing {
		rec := before[id]
		if rec == nil {
			return nil, gone("a resource of type %s changed after revision %d, and what it was before is no longer kept; ask for a later revision, or without at for what it is now", id.Type, rev)
		}
		o, err := rec.Object(a.Kinds)
		if err != nil {
			return nil, err
		}
		p.byID[id] = o
	}
	for _, o := range p.byID {
		p.list[o.Type] = append(p.list[o.Type], o)
	}
	for _, l := range p.list {
		slices.SortFunc(l, func(a, b *resource.Object) int { return a.Compare(b.ID) })
	}
	return p, nil
}

// created tells whether a change brought a resource into being.
func created(c *store.Commit, ch *store.Change) bool {
	return ch.Record != nil && ch.Record.Created.Equal(c.Time)
}

// lastAt is what each resource was at a revision, as far as the log says: the
// newest record not after it. Those that the log does not know are left out.
func (a *API) lastAt(ctx context.Context, rev store.Revision, ids []resource.ID) (map[resource.ID]*store.Record, error) {
	open := map[resource.ID]bool{}
	for _, id := range ids {
		open[id] = true
	}
	found := map[resource.ID]*store.Record{}
	if len(open) == 0 {
		return found, nil
	}
	for c, err := range a.backwards(ctx, rev) {
		if errors.Is(err, store.ErrCompacted) {
			break
		}
		if err != nil {
			return nil, err
		}
		for i := range c.Changes {
			if ch := &c.Changes[i]; open[ch.ID] {
				delete(open, ch.ID)
				found[ch.ID] = ch.Record
			}
		}
		if len(open) == 0 {
			break
		}
	}
	return found, nil
}

// logChunk is how many commits are read at a time.
const logChunk = 256

// forwards yields the commits after < rev ≤ upTo. What is no longer kept is gone.
func (a *API) forwards(ctx context.Context, after, upTo store.Revision) iter.Seq2[store.Commit, error] {
	return func(yield func(store.Commit, error) bool) {
		for after < upTo {
			b, err := a.Store.Read(ctx, after, logChunk)
			if errors.Is(err, store.ErrCompacted) {
				err = gone("revision %d is no longer kept", after)
			}
			if err == nil && len(b.Commits) == 0 {
				return
			}
			if err != nil {
				yield(store.Commit{}, err)
				return
			}
			for _, c := range b.Commits {
				if c.Revision > upTo || !yield(c, nil) {
					return
				}
				after = c.Revision
			}
		}
	}
}

// backwards yields the commits from a revision down to the oldest that is kept.
// The error store.ErrCompacted, last, says that there were older ones.
func (a *API) backwards(ctx context.Context, from store.Revision) iter.Seq2[store.Commit, error] {
	return func(yield func(store.Commit, error) bool) {
		floor := store.Revision(0)
		for from > floor {
			after := max(floor, from-min(from, logChunk))
			var commits []store.Commit
			for next := after; next < from; {
				b, err := a.Store.Read(ctx, next, int(from-next))
				if errors.Is(err, store.ErrCompacted) && floor == 0 {
					if floor, err = store.Floor(ctx, a.Store, a.View.Snapshot().Revision()); err == nil {
						commits, next = nil, max(floor, after)
						if floor == 0 || floor >= from {
							yield(store.Commit{}, store.ErrCompacted)
							return
						}
						continue
					}
				}
				if err == nil && len(b.Commits) == 0 {
					err = fmt.Errorf("read after revision %d: %w", next, store.ErrCompacted)
				}
				if err != nil {
					yield(store.Commit{}, err)
					return
				}
				commits = append(commits, b.Commits...)
				next = b.Commits[len(b.Commits)-1].Revision
			}
			for _, c := range slices.Backward(commits) {
				if !yield(c, nil) {
					return
				}
				from = c.Revision - 1
			}
		}
		if floor > 0 {
			yield(store.Commit{}, store.ErrCompacted)
		}
	}
}
