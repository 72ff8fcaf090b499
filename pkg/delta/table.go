package delta

import (
	"iter"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/tidwall/btree"
)

// Table is an immutable Source that shares what it has in common with the
// tables it was made from, so that a change of k resources costs O(k log n), and
// remembers what its last ancestors changed. A nil Table is an empty one.
type Table struct {
	self  *identity
	steps []step // newest last; see With

	// mu guards copying rows, which marks them as shared, diffs and batches. Reads
	// of rows need no lock: nothing changes them once the table is made.
	mu      sync.Mutex
	rows    btree.Map[string, *Resource]
	diffs   []diff
	batches []chosen

	// index finds rows without comparing names, which begin alike. It is made
	// when a table was asked as often as it has rows: a thousand streams that
	// start ask a thousand times each, those that follow a change hardly ever.
	asked atomic.Int32
	index atomic.Pointer[map[string]*Resource]
}

// identity names a table without keeping it alive. It must not be empty: two
// empty values may have one address.
type identity struct{ _ byte }

// step says what a table changed in the one it was made from.
type step struct {
	from  *identity
	names []string
}

// diff is the remembered difference to a table that is not an ancestor.
type diff struct {
	from  *identity
	names []string
}

const (
	maxSteps = 64 // a stream further behind compares everything
	maxDiffs = 16
)

// NewTable makes a table of the resources given, which have distinct names.
func NewTable(resources ...*Resource) *Table {
	t := &Table{self: new(identity)}
	for _, r := range resources {
		t.rows.Set(r.Name, r)
	}
	return t
}

// With returns the table with the changes applied: nil removes a name. What has
// the version that is already there keeps its old pointer; when nothing differs
// the result is t itself.
func (t *Table) With(changes map[string]*Resource) *Table {
	var names []string
	for name, r := range changes {
		if !sameVersion(t.Get(name), r) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return t
	}
	slices.Sort(names) // peers ask for what goes with them in this order
	if t == nil {
		t = NewTable()
	}
	next := &Table{self: new(identity), rows: t.copyRows()}
	for _, name := range names {
		if r := changes[name]; r != nil {
			next.rows.Set(name, r)
		} else {
			next.rows.Delete(name)
		}
	}
	next.steps = t.stepsWith(names, next.rows.Len())
	return next
}

// Becoming returns a table of exactly the resources given, made from t by With,
// so that streams that have t find the difference without comparing everything.
func (t *Table) Becoming(resources map[string]*Resource) *Table {
	changes := make(map[string]*Resource)
	for name, r := range resources {
		if !sameVersion(t.Get(name), r) {
			changes[name] = r
		}
	}
	for r := range t.All() {
		if resources[r.Name] == nil {
			changes[r.Name] = nil
		}
	}
	return t.With(changes)
}

func (t *Table) copyRows() btree.Map[string, *Resource] {
	t.mu.Lock()
	defer t.mu.Unlock()
	return *t.rows.IsoCopy()
}

// stepsWith adds a step, and forgets the oldest ones when following them would
// cost as much as comparing n rows.
func (t *Table) stepsWith(names []string, n int) []step {
	steps := append(append(make([]step, 0, len(t.steps)+1), t.steps...), step{t.self, names})
	total := 0
	for i := len(steps) - 1; i >= 0; i-- {
		total += len(steps[i].names)
		if len(steps)-i > maxSteps || total > n && i < len(steps)-1 {
			return append([]step(nil), steps[i+1:]...)
		}
	}
	return steps
}

// Get returns the resource of that name, or nil.
func (t *Table) Get(name string) *Resource {
	if t == nil {
		return nil
	}
	if index := t.index.Load(); index != nil {
		return (*index)[name]
	}
	if n := t.rows.Len(); n > smallTable && int(t.asked.Add(1)) > n {
		t.makeIndex()
	}
	r, _ := t.rows.Get(name)
	return r
}

// smallTable is the size up to which an index would not be faster.
const smallTable = 32

func (t *Table) makeIndex() {
	index := make(map[string]*Resource, t.rows.Len())
	for r := range t.All() {
		index[r.Name] = r
	}
	t.index.Store(&index)
}

// All yields every resource in the order of names.
func (t *Table) All() iter.Seq[*Resource] {
	return func(yield func(*Resource) bool) {
		if t == nil {
			return
		}
		t.rows.Scan(func(_ string, r *Resource) bool { return yield(r) })
	}
}

// Len returns the number of resources.
func (t *Table) Len() int {
	if t == nil {
		return 0
	}
	return t.rows.Len()
}

// ChangedSince implements Source; the answer is always known between tables.
func (t *Table) ChangedSince(prev Source) (names []string, ok bool) {
	if p, isTable := prev.(*Table); isTable {
		return t.Changed(p), true
	}
	return nil, false
}

// Changed returns the names that may differ between the two tables, each once:
// in O(changes) if one was made from the other by a few steps of With, else by
// comparing all. It is remembered for the next stream that asks.
func (t *Table) Changed(prev *Table) []string {
	switch {
	case t == prev || t.Len() == 0 && prev.Len() == 0:
		return nil
	case t == nil:
		return prev.names()
	case prev == nil:
		return t.names()
	}
	if n := len(t.steps); n > 0 && t.steps[n-1].from == prev.self {
		return t.steps[n-1].names
	}
	return t.compare(prev)
}

// follow collects the names of the steps since a table.
func follow(steps []step, from *identity) (names []string, ok bool) {
	for i := len(steps) - 1; i >= 0; i-- {
		if steps[i].from != from {
			continue
		}
		if i == len(steps)-1 {
			return steps[i].names, true
		}
		total := 0
		for _, s := range steps[i:] {
			total += len(s.names)
		}
		seen := make(map[string]struct{}, total)
		names = make([]string, 0, total)
		for _, s := range steps[i:] {
			for _, name := range s.names {
				if _, dup := seen[name]; !dup {
					seen[name] = struct{}{}
					names = append(names, name)
				}
			}
		}
		slices.Sort(names)
		return names, true
	}
	return nil, false
}

// compare finds out what differs and remembers it: of a thousand streams that are
// as far behind, each asks several times.
func (t *Table) compare(prev *Table) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, d := range t.diffs {
		if d.from == prev.self {
			return d.names
		}
	}
	names, ok := follow(t.steps, prev.self)
	if !ok {
		names, ok = follow(prev.steps, t.self)
	}
	if !ok {
		for r := range t.All() {
			if !sameVersion(prev.Get(r.Name), r) {
				names = append(names, r.Name)
			}
		}
		for r := range prev.All() {
			if t.Get(r.Name) == nil {
				names = append(names, r.Name)
			}
		}
	}
	if len(t.diffs) >= maxDiffs {
		t.diffs = t.diffs[1:]
	}
	t.diffs = append(t.diffs, diff{prev.self, names})
	return names
}

func (t *Table) names() []string {
	names := make([]string, 0, t.Len())
	for r := range t.All() {
		names = append(names, r.Name)
	}
	return names
}

func sameVersion(a, b *Resource) bool {
	return a == b || a != nil && b != nil && a.Version == b.Version
}
