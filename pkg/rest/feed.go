package rest

import (
	"context"
	"encoding/json"
	"sync"

	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/notice"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/store"
	"github.com/atoll-mesh/atoll/pkg/view"
)

// event is one change, encoded once for all streams.
type event struct {
	commit *store.Commit
	change *store.Change
	before *resource.Meta // of a deletion: what was deleted, nil if not known
	name   string         // of the server-sent event
	data   func() []byte
}

// batch is the events of one revision.
type batch struct {
	rev    store.Revision
	events []event
}

// Bounds of what is kept for streams that are a little behind. Who is further
// behind reads the log itself.
const (
	feedBatches = 1024
	feedRead    = 256
)

// feed is the newest part of the log, read once for all streams. It works only
// while somebody asks: nothing runs in the background.
type feed struct {
	mu      sync.Mutex
	batches []batch // consecutive revisions, the last is end
	end     store.Revision
	seen    *view.Snapshot // at end, to tell what deletions deleted
	streams int
}

// join counts a stream in; the first one begins at s.
func (f *feed) join(s *view.Snapshot) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.streams++; f.streams == 1 {
		f.batches, f.end, f.seen = nil, s.Revision(), s
	}
}

// leave counts a stream out; the last one frees what was kept.
func (f *feed) leave() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.streams--; f.streams == 0 {
		f.batches, f.seen = nil, nil
	}
}

// after returns events that follow a revision, at most feedRead revisions of
// them, and none when the view has nothing newer. The error is store.ErrCompacted
// when they are no longer kept.
func (f *feed) after(ctx context.Context, a *API, rev store.Revision) ([]batch, error) {
	s := a.View.Snapshot()
	if rev >= s.Revision() {
		return nil, nil
	}
	kept, end, ok, err := f.newest(ctx, a, s, rev)
	if ok || err != nil {
		return kept, err
	}
	// Without the lock: those who are far behind hold up only themselves.
	b, err := a.Store.Read(ctx, rev, feedRead)
	if err != nil {
		return nil, err
	}
	var out []batch
	for i := range b.Commits {
		if c := &b.Commits[i]; c.Revision <= end {
			out = append(out, a.batchOf(c, nil))
		}
	}
	return out, nil
}

// newest brings the feed up to a snapshot, and returns what it keeps of what
// follows a revision. It is not ok when that begins before what is kept, which
// goes up to end.
func (f *feed) newest(ctx context.Context, a *API, s *view.Snapshot, rev store.Revision) (kept []batch, end store.Revision, ok bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s.Revision() > f.end {
		if err := f.extend(ctx, a, s); err != nil {
			return nil, 0, false, err
		}
	}
	first := f.end - store.Revision(len(f.batches)) // the revision before the oldest kept
	if rev < first {
		return nil, f.end, false, nil
	}
	kept = f.batches[rev-first:]
	return kept[:min(len(kept), feedRead):min(len(kept), feedRead)], f.end, true, nil
}

// extend reads up to a snapshot. When that is too far it begins anew there.
func (f *feed) extend(ctx context.Context, a *API, s *view.Snapshot) error {
	if s.Revision()-f.end > feedBatches {
		f.batches, f.end, f.seen = nil, s.Revision(), s
		return nil
	}
	var fresh []batch
	was := map[resource.ID]*resource.Meta{}
	for next := f.end; next < s.Revision(); {
		b, err := a.Store.Read(ctx, next, int(s.Revision()-next))
		if err != nil {
			return err
		}
		if len(b.Commits) == 0 {
			break
		}
		for i := range b.Commits {
			c := &b.Commits[i]
			fresh = append(fresh, a.batchOf(c, func(id resource.ID) *resource.Meta {
				if m, ok := was[id]; ok {
					return m
				}
				if o := f.seen.Get(id); o != nil {
					return &o.Meta
				}
				return nil
			}))
			for j := range c.Changes {
				if ch := &c.Changes[j]; ch.Record != nil {
					was[ch.ID] = &resource.Meta{ID: ch.ID, Labels: ch.Record.Labels}
				}
			}
			next = c.Revision
		}
	}
	f.batches = append(f.batches, fresh...)
	f.end, f.seen = f.end+store.Revision(len(fresh)), s
	if extra := len(f.batches) - feedBatches; extra > 0 {
		f.batches = append([]batch(nil), f.batches[extra:]...)
	}
	return nil
}

func (a *API) batchOf(c *store.Commit, before func(resource.ID) *resource.Meta) batch {
	b := batch{rev: c.Revision}
	// What is kept must not hold the records: of them only labels are needed.
	light := &store.Commit{Revision: c.Revision, Time: c.Time, Changes: make([]store.Change, len(c.Changes))}
	for i, ch := range c.Changes {
		told := a.told(&ch)
		if ch.Record != nil {
			ch.Record = &store.Record{ID: ch.ID, Labels: ch.Record.Labels, Created: ch.Record.Created, Version: ch.Record.Version}
		}
		light.Changes[i] = ch
		e := event{commit: light, change: &light.Changes[i], name: "change"}
		if ch.Record == nil && before != nil {
			e.before = before(ch.ID)
		}
		e.data = sync.OnceValue(func() []byte {
			data, err := json.Marshal(changeOf(light, e.change))
			if err != nil {
				panic("rest: a change cannot be encoded: " + err.Error())
			}
			return data
		})
		if told != nil { // its type says more than that something was written
			e.name, e.data = told.Event, sync.OnceValue(func() []byte { return notice.Encode(notice.Source(a.View.Snapshot(), a.Site), ch.Name, told) })
		}
		b.events = append(b.events, e)
	}
	return b
}

// told is the notice that a change wrote, or nil.
func (a *API) told(ch *store.Change) *kind.NoticeSpec {
	if ch.Type != kind.Notice || ch.Record == nil {
		return nil
	}
	o, err := ch.Record.Object(a.Kinds)
	if err != nil {
		return nil // of a newer version; it is told as a change
	}
	if n := resource.SpecOf[kind.NoticeSpec](o); n.Event != "" {
		return n
	}
	return nil
}
