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

// whole takes all that is to be sent of a type into one message, from batches that
// are shared with other streams, and notes that the peer holds it. ok is false
// when that is not possible, or not worth it; nothing happened then.
func (s *Stream) whole(t *state) (m *Message, ok bool) {
	if len(t.off) > 0 || !t.wildcard && (t.base == nil || t.names.len() == 0) {
		return nil, false
	}
	now, ok := t.want.(layered)
	if !ok || !apart(now) {
		return nil, false
	}
	limit := s.cfg.MaxBytes
	if !t.greeted && t.cfg != nil && t.cfg.WholeFirst {
		limit = 0
	}
	c := collection{}
	asked := t.group.names
	if asked != nil {
		for i := range now.Layers() {
			c.add(now.Layer(i), nil, asked)
		}
		if c.count != asked.len() {
			return nil, false // some do not exist
		}
		c.gates = true
	}
	if t.base != t.want && (asked != t.names || t.wildcard) {
		before, ok := t.base.(layered)
		if t.base != nil && (!ok || before.Layers() != now.Layers()) {
			return nil, false
		}
		of := t.names
		if t.wildcard {
			of = nil
		}
		for i := range now.Layers() {
			table, prev := now.Layer(i), (*Table)(nil)
			if before != nil {
				prev = before.Layer(i)
			}
			switch {
			case table == prev:
			case asked == nil:
				c.add(table, prev, of)
			case prev == nil || !c.addFew(table, prev, of, asked):
				return nil, false
			}
		}
	}
	if c.gone || c.count < fewest || limit > 0 && c.size+headroom > limit {
		return nil, false
	}
	t.base, t.group = t.want, group{}
	return c.message(), true
}

// collection is what a message is made of.
type collection struct {
	batches []*batch
	singles []*Resource
	count   int
	size    int
	gates   bool
	gone    bool // something is to be removed
}

// add takes what differs from an older table and has one of the names.
func (c *collection) add(t, prev *Table, of *names) {
	n := t.differ(prev, of)
	if n == 0 {
		return
	}
	if t == nil {
		c.gone = true
		return
	}
	var b *batch
	if n >= fewest {
		b = t.since(prev, of)
		c.batches = append(c.batches, b)
	} else {
		b = t.choose(prev, of)
		c.singles = append(c.singles, b.resources...)
	}
	c.count += len(b.resources)
	c.size += b.size
	c.gates = c.gates || b.adds
	c.gone = c.gone || b.gone
}

// addFew takes what differs and was not taken as one of other names. It refuses
// when that may be much.
func (c *collection) addFew(t, prev *Table, of, but *names) bool {
	changed := t.Changed(prev)
	if len(changed) > fewest {
		return false
	}
	for _, name := range changed {
		if but.has(name) || of != nil && !of.has(name) {
			continue
		}
		r, old := t.Get(name), prev.Get(name)
		switch {
		case r == nil:
			c.gone = c.gone || old != nil
		case !sameVersion(r, old):
			c.singles = append(c.singles, r)
			c.count++
			c.size += len(r.encoded())
		}
	}
	return true
}

func (c *collection) message() *Message {
	m := &Message{gates: c.gates, batches: c.batches}
	if len(c.batches) == 1 && len(c.singles) == 0 {
		m.Resources = slices.Clip(c.batches[0].resources)
		return m
	}
	m.Resources = make([]*Resource, 0, c.count)
	for _, b := range c.batches {
		m.Resources = append(m.Resources, b.resources...)
	}
	m.Resources = append(m.Resources, c.singles...)
	return m
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
