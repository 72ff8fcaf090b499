package delta

import (
	"slices"
	"sync"
	"sync/atomic"
)

// fewest is how many resources make a batch. Tests lower it.
var fewest = 32

// batch is many resources of one table as messages carry them: chosen and encoded
// once for all streams that are sent the same. It is immutable.
type batch struct {
	resources []*Resource
	gone      bool // the older table has names that this one does not have
	adds      bool // the older table does not have all of them
	size      int  // encoded

	again atomic.Bool // it was chosen more than once

	mu     sync.Mutex // guards what follows
	wire   []byte
	index  map[string]struct{}
	within *names // see subscribed
	common *names
}

// choice says of what there is a batch: of what differs from an older table, nil
// being an empty one, and has one of the names, nil being all.
type choice struct {
	prev  *identity
	names *names
}

type chosen struct {
	choice
	*batch
}

const maxBatches = 16

// since returns the batch of what differs from an older table of the same owner
// and has one of the names; it is remembered for the next stream that asks.
func (t *Table) since(prev *Table, of *names) *batch {
	key := choice{names: of}
	if prev != nil {
		key.prev = prev.self
	}
	if b := t.remembered(key); b != nil {
		b.again.Store(true)
		return b
	}
	b := t.choose(prev, of)
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range t.batches { // made by two at a time
		if c.choice == key {
			return c.batch
		}
	}
	if len(t.batches) >= maxBatches {
		t.batches = t.batches[1:]
	}
	t.batches = append(t.batches, chosen{key, b})
	return b
}

func (t *Table) remembered(key choice) *batch {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range t.batches {
		if c.choice == key {
			return c.batch
		}
	}
	return nil
}

func (t *Table) choose(prev *Table, of *names) *batch {
	b := &batch{}
	take := func(name string, r *Resource) {
		old := prev.Get(name)
		switch {
		case r == nil:
			b.gone = b.gone || old != nil
		case !sameVersion(old, r):
			b.resources = append(b.resources, r)
			b.size += len(r.encoded())
			b.adds = b.adds || old == nil
		}
	}
	switch {
	case prev == nil && (of == nil || t.Len() < of.len()):
		b.resources = make([]*Resource, 0, t.Len())
		for r := range t.All() {
			if of == nil || of.has(r.Name) {
				take(r.Name, r)
			}
		}
	case prev == nil:
		b.resources = make([]*Resource, 0, of.len())
		for name := range of.all() {
			take(name, t.Get(name))
		}
	default:
		for _, name := range t.Changed(prev) {
			if of == nil || of.has(name) {
				take(name, t.Get(name))
			}
		}
	}
	return b
}

// encoded returns the bytes of all resources, one after the other, or nil: what one
// stream only is sent is not worth the room.
func (b *batch) encoded() []byte {
	if !b.again.Load() {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.wire == nil {
		b.wire = make([]byte, 0, b.size)
		for _, r := range b.resources {
			b.wire = append(b.wire, r.encoded()...)
		}
	}
	return b.wire
}

func (b *batch) has(name string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.index == nil {
		b.index = make(map[string]struct{}, len(b.resources))
		for _, r := range b.resources {
			b.index[r.Name] = struct{}{}
		}
	}
	_, ok := b.index[name]
	return ok
}

// subscribed returns the names of the batch that are in a set too.
func (b *batch) subscribed(to *names, p *Pool) *names {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.within != to || b.common == nil {
		var common []string
		for _, r := range b.resources {
			if to.has(r.Name) {
				common = append(common, r.Name)
			}
		}
		b.within, b.common = to, p.with(nil, common, nil)
	}
	return b.common
}

// layered is a Source that consists of tables: of resources with one name that of
// the last table counts. A layer keeps its place in the sources of one owner.
type layered interface {
	Layers() int
	Layer(i int) *Table
}

// Layers returns 1: a table is one layer of itself.
func (t *Table) Layers() int { return 1 }

// Layer returns the table.
func (t *Table) Layer(int) *Table { return t }

// sameLayers reports whether two sources are known to have the same resources.
func sameLayers(a, b Source) bool {
	x, ok := a.(layered)
	y, also := b.(layered)
	if !ok || !also || x.Layers() != y.Layers() {
		return false
	}
	for i := range x.Layers() {
		if x.Layer(i) != y.Layer(i) {
			return false
		}
	}
	return true
}

// apart reports whether no two layers are seen to have a name in common; at most
// one of them may be large.
func apart(l layered) bool {
	n := l.Layers()
	largest := 0
	for i := range n {
		if l.Layer(i).Len() > l.Layer(largest).Len() {
			largest = i
		}
	}
	for i := range n {
		t := l.Layer(i)
		if i == largest || t.Len() == 0 {
			continue
		}
		if t.Len() > maxApart {
			return false
		}
		for r := range t.All() {
			for j := range n {
				if j != i && l.Layer(j).Get(r.Name) != nil {
					return false
				}
			}
		}
	}
	return true
}

const maxApart = 64

// aligned returns the layers of two sources of one owner; old may be nil. ok is
// false when they cannot be compared one by one.
func aligned(now, old Source) (a, b layered, ok bool) {
	a, ok = now.(layered)
	if !ok || old == nil {
		return a, nil, ok
	}
	b, ok = old.(layered)
	return a, b, ok && a.Layers() == b.Layers()
}

func layerOf(l layered, i int) *Table {
	if l == nil {
		return nil
	}
	return l.Layer(i)
}

// whole takes all that is to be sent of a type into one message, from batches that
// are shared with other streams, and notes that the peer holds it. ok is false
// when that is not possible, or not worth it; nothing happened then.
func (s *Stream) whole(t *state) (m *Message, ok bool) {
	if len(t.off) > 0 {
		return nil, false
	}
	var of *names
	old := t.base
	asked := t.group.names
	switch {
	case asked != nil && (t.base == t.want || asked == t.names && !t.wildcard):
		of, old = asked, nil
	case asked != nil || !t.wildcard && (t.base == nil || t.names.len() == 0):
		return nil, false
	case !t.wildcard:
		of = t.names
	}
	now, before, ok := aligned(t.want, old)
	if !ok || !apart(now) {
		return nil, false
	}
	limit := s.cfg.MaxBytes
	if !t.greeted && t.cfg != nil && t.cfg.WholeFirst {
		limit = 0
	}
	var batches []*batch
	var singles []*Resource
	count, size := 0, headroom
	gates := asked != nil
	for i := range now.Layers() {
		table, prev := now.Layer(i), layerOf(before, i)
		if table == prev {
			continue
		}
		if table == nil {
			return nil, false
		}
		var b *batch
		switch n := table.differ(prev, of); {
		case n == 0:
			continue
		case n >= fewest:
			b = table.since(prev, of)
			batches = append(batches, b)
		default:
			b = table.choose(prev, of)
			singles = append(singles, b.resources...)
		}
		if b.gone {
			return nil, false
		}
		count += len(b.resources)
		size += b.size
		gates = gates || b.adds
	}
	if count < fewest || asked != nil && count != asked.len() || limit > 0 && size > limit {
		return nil, false
	}
	m = &Message{gates: gates, batches: batches}
	if len(batches) == 1 && len(singles) == 0 {
		m.Resources = slices.Clip(batches[0].resources)
	} else {
		m.Resources = make([]*Resource, 0, count)
		for _, b := range batches {
			m.Resources = append(m.Resources, b.resources...)
		}
		m.Resources = append(m.Resources, singles...)
	}
	t.base, t.group = t.want, group{}
	return m, true
}

// differ is about how many resources differ from an older table and have one of
// the names.
func (t *Table) differ(prev *Table, of *names) int {
	n := t.Len()
	if prev != nil {
		n = len(t.Changed(prev))
	}
	if of != nil {
		n = min(n, of.len())
	}
	return n
}
