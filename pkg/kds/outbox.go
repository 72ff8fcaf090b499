package kds

import (
	"iter"
	"log/slog"
	"maps"
	"sync"

	"github.com/tidwall/btree"

	systemv1 "github.com/atoll-mesh/atoll/api/kuma/system/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/delta"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/store"
	"github.com/atoll-mesh/atoll/pkg/view"
)

// outbox holds what may be sent, encoded once for all streams of one mapping.
// It has no goroutine: the first stream that looks after a commit brings it up
// to date, and the others find the work done.
type outbox struct {
	view  *view.View
	types []resource.Type
	mapp  mapping
	log   *slog.Logger

	mu    sync.Mutex
	rev   store.Revision // up to which state is known to be right
	state *outState
	names map[resource.ID]string // wire name of every entry
}

// outState is what may be sent at one moment. It never changes; as long as a
// commit changes nothing of it, it is the same pointer.
type outState struct {
	rev      store.Revision // of the last commit that changed anything here
	tables   map[resource.Type]*table
	disabled map[string]bool // zones whose resources are not forwarded
	epoch    uint64          // counts changes of disabled
}

// table is the encoded resources of one type at one moment. It never changes.
type table struct {
	rows    *btree.Map[string, *entry] // by wire name
	changes []change                   // the newest ones, oldest first
	seq     uint64                     // of the newest change
}

type change struct {
	seq  uint64
	name string
}

// maxChanges bounds what is remembered per type; who lags further behind
// compares everything.
const maxChanges = 1 << 13

func newOutbox(v *view.View, types []resource.Type, m mapping, log *slog.Logger) *outbox {
	return &outbox{view: v, types: types, mapp: m, log: log, names: map[resource.ID]string{}}
}

// current returns what may be sent as of the view's newest snapshot.
func (b *outbox) current() *outState {
	b.mu.Lock()
	defer b.mu.Unlock()
	snap := b.view.Snapshot()
	switch {
	case b.state == nil:
		b.state = &outState{tables: map[resource.Type]*table{}}
		for _, t := range b.types {
			b.state.tables[t] = &table{rows: &btree.Map[string, *entry]{}}
		}
		b.update(snap, nil, false)
	case snap.Revision() != b.rev:
		keys, ok := b.view.Touched(b.rev, snap)
		b.update(snap, keys, ok && snap.Revision() > b.rev)
	}
	b.rev = snap.Revision()
	return b.state
}

// update makes the next state from the keys that changed, or, when they are not
// known, from everything.
func (b *outbox) update(snap *view.Snapshot, keys []view.Key, known bool) {
	fresh := map[resource.Type]*table{}
	zones := !known
	if !known {
		keys = nil
		b.compareAll(snap, fresh)
	}
	for _, k := range keys {
		if k.Table != view.Objects {
			continue
		}
		zones = zones || k.Type == kind.Zone
		if b.state.tables[k.Type] != nil {
			b.put(b.writable(fresh, k.Type), k.ID, snap.Get(k.ID))
		}
	}
	next := &outState{rev: snap.Revision(), tables: maps.Clone(b.state.tables), disabled: b.state.disabled, epoch: b.state.epoch}
	changed := b.state.rev == 0
	if zones {
		if d := disabledZones(snap); !maps.Equal(d, next.disabled) {
			next.disabled, changed = d, true
			next.epoch++
		}
	}
	for t, tab := range fresh {
		if tab.seq == b.state.tables[t].seq {
			continue
		}
		if extra := len(tab.changes) - maxChanges; extra > 0 {
			tab.changes = append([]change(nil), tab.changes[extra:]...)
		}
		next.tables[t], changed = tab, true
	}
	if changed {
		b.state = next
	}
}

func disabledZones(snap *view.Snapshot) map[string]bool {
	var out map[string]bool
	for o := range snap.List(kind.Zone, "") {
		if z, ok := o.Spec.(*systemv1.Zone); ok && !kind.ZoneEnabled(z) {
			if out == nil {
				out = map[string]bool{}
			}
			out[o.Name] = true
		}
	}
	return out
}

// compareAll brings every table up to date when nobody knows what changed.
func (b *outbox) compareAll(snap *view.Snapshot, fresh map[resource.Type]*table) {
	for _, t := range b.types {
		tab := b.writable(fresh, t)
		for o := range snap.List(t, "") {
			b.put(tab, o.ID, o)
		}
	}
	for id := range b.names {
		if snap.Get(id) == nil {
			b.put(fresh[id.Type], id, nil)
		}
	}
}

// writable returns a copy of the table, made once per update.
func (b *outbox) writable(fresh map[resource.Type]*table, t resource.Type) *table {
	if tab := fresh[t]; tab != nil {
		return tab
	}
	old := b.state.tables[t]
	// Capacity is cut so that appending never writes where an older table reads.
	tab := &table{rows: old.rows.Copy(), changes: old.changes[:len(old.changes):len(old.changes)], seq: old.seq}
	fresh[t] = tab
	return tab
}

// put writes what o maps to into a table, and takes away what id mapped to.
func (b *outbox) put(tab *table, id resource.ID, o *resource.Object) {
	var next *entry
	if o != nil {
		var err error
		if next, err = b.mapp(o); err != nil {
			b.log.Error("a resource cannot be encoded and is not sent", "resource", id.String(), "error", err)
			next = nil
		}
	}
	touch := func(name string) {
		tab.seq++
		tab.changes = append(tab.changes, change{tab.seq, name})
	}
	was, had := b.names[id]
	if had && (next == nil || next.res.Name != was) {
		tab.rows.Delete(was)
		delete(b.names, id)
		touch(was)
		had = false
	}
	if next == nil {
		return
	}
	old, taken := tab.rows.Get(next.res.Name)
	if taken && old.id != id {
		b.log.Error("two resources have the same name for other control planes; the second is not sent",
			"first", old.id.String(), "second", id.String())
		return
	}
	if had && old.res.Version == next.res.Version && old.zone == next.zone && old.feature == next.feature {
		return
	}
	tab.rows.Set(next.res.Name, next)
	b.names[id] = next.res.Name
	touch(next.res.Name)
}

// source is a table as one peer may see it.
type source struct {
	tab   *table
	allow func(*entry) bool // nil: everything
	epoch uint64            // differs when allow does
}

var _ delta.Source = (*source)(nil)

// Get returns the resource of that name, or nil.
func (s *source) Get(name string) *delta.Resource {
	e, ok := s.tab.rows.Get(name)
	if !ok || s.allow != nil && !s.allow(e) {
		return nil
	}
	return e.res
}

// All yields every resource in order of name.
func (s *source) All() iter.Seq[*delta.Resource] {
	return func(yield func(*delta.Resource) bool) {
		s.tab.rows.Scan(func(_ string, e *entry) bool {
			if s.allow != nil && !s.allow(e) {
				return true
			}
			return yield(e.res)
		})
	}
}

// Len is the number of resources that All yields.
func (s *source) Len() int {
	if s.allow == nil {
		return s.tab.rows.Len()
	}
	n := 0
	for range s.All() {
		n++
	}
	return n
}

// ChangedSince returns the names that may differ from an earlier source of the
// same outbox and peer.
func (s *source) ChangedSince(prev delta.Source) (names []string, ok bool) {
	p, ok := prev.(*source)
	if !ok || p == nil || p.epoch != s.epoch || p.tab.seq > s.tab.seq {
		return nil, false
	}
	c := s.tab.changes
	if p.tab.seq < s.tab.seq && (len(c) == 0 || c[0].seq > p.tab.seq+1) {
		return nil, false
	}
	first := len(c)
	for first > 0 && c[first-1].seq > p.tab.seq {
		first--
	}
	seen := make(map[string]struct{}, len(c)-first)
	for _, ch := range c[first:] {
		if _, dup := seen[ch.name]; !dup {
			seen[ch.name] = struct{}{}
			names = append(names, ch.name)
		}
	}
	return names, true
}
