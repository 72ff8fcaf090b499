package delta

import "sync"

// differ is one name to be looked at: what is wanted, nil for nothing, and what
// the peer holds.
type differ struct {
	name string
	want *Resource
	offset
}

// part returns what is to be sent of it, or 0.
func (d *differ) part() part {
	switch {
	case d.want != nil && (d.force || d.want.Version != d.version):
		return upserts
	case d.want == nil && d.version != "":
		return removals
	case d.want == nil && d.force:
		return answers
	}
	return 0
}

// held reports whether it has to wait.
func (d *differ) held(h *holding) bool {
	if h == nil || d.want == nil {
		return false
	}
	if d.want.Refers == nil || h.refer && len(d.want.Refers) > 0 || h.added && d.version == "" {
		return true
	}
	for _, name := range d.want.Refers {
		if h.has(name) {
			return true
		}
	}
	return false
}

// each yields the names, at least all those of which something is to be sent,
// until yield returns false. It works in O(changes) when the source can tell them.
func (t *state) each(yield func(differ) bool) {
	for name, o := range t.off {
		if !yield(differ{name, t.want.Get(name), o}) {
			return
		}
	}
	for name := range t.group.names.all() {
		if _, done := t.off[name]; done {
			continue
		}
		if !yield(differ{name, t.want.Get(name), offset{version: t.has(name), force: true}}) {
			return
		}
	}
	look := func(name string) bool {
		if _, done := t.off[name]; done || t.group.names.has(name) || !t.subscribed(name) {
			return true
		}
		return yield(differ{name, t.want.Get(name), offset{version: t.has(name)}})
	}
	switch {
	case t.base == t.want:
	case t.base == nil && t.wildcard:
		for r := range t.want.All() {
			if _, done := t.off[r.Name]; !done && !yield(differ{name: r.Name, want: r}) {
				return
			}
		}
	case t.base == nil:
		for name := range t.names.all() {
			if !look(name) {
				return
			}
		}
	default:
		if names, ok := t.want.ChangedSince(t.base); ok {
			for _, name := range names {
				if !look(name) {
					return
				}
			}
			return
		}
		for r := range t.want.All() {
			if !look(r.Name) {
				return
			}
		}
		for r := range t.base.All() {
			if t.want.Get(r.Name) == nil && !look(r.Name) {
				return
			}
		}
	}
}

// some is about how many names each yields, as far as that is known at no cost.
func (t *state) some() int {
	switch {
	case t.base == t.want:
		return len(t.off) + t.group.names.len()
	case t.base == nil && t.wildcard:
		return 64
	case t.base == nil:
		return t.names.len()
	}
	return 1
}

// pending reports whether there is something of that part to be sent.
func (t *state) pending(what part) bool {
	if t.greet && what&upserts != 0 {
		return true
	}
	if what&upserts == 0 {
		// Only names that were asked for or sent before are answered or removed.
		if len(t.off) == 0 && (what == removals && !t.group.held || !t.missing()) && (what&removals == 0 || !t.loses()) {
			return false
		}
	}
	found := false
	t.each(func(d differ) bool {
		found = d.part()&what != 0
		return !found
	})
	return found
}

// missing reports whether the group has names that do not exist.
func (t *state) missing() bool {
	if t.group.names == nil || t.group.there == t.want {
		return false
	}
	for name := range t.group.names.all() {
		if t.want.Get(name) == nil {
			return true
		}
	}
	t.group.there = t.want
	return false
}

// loses reports whether something may be wanted no more that base has.
func (t *state) loses() bool {
	if t.base == nil || t.base == t.want {
		return false
	}
	now, ok := t.want.(layered)
	before, also := t.base.(layered)
	if !ok || !also || now.Layers() != before.Layers() {
		return true
	}
	for i := range now.Layers() {
		table, prev := now.Layer(i), before.Layer(i)
		switch {
		case table == prev || prev.Len() == 0:
		case table == nil:
			return true
		case table.differ(prev, nil) >= fewest:
			if table.since(prev, nil).gone {
				return true
			}
		default:
			for _, name := range table.Changed(prev) {
				if table.Get(name) == nil && prev.Get(name) != nil {
					return true
				}
			}
		}
	}
	return false
}

// rests is room for what compose leaves: a stream whose listeners wait looks at all
// of them at each acknowledgement.
var rests = sync.Pool{New: func() any { return new([]differ) }}

const maxRests = 1 << 14

// compose takes into a message what fits of that part, and notes that the peer
// holds it. left: there is more of that part, or the window is full. What has to
// wait for hold is left.
func (s *Stream) compose(t *state, what part, hold *holding) (m *Message, left bool) {
	if len(t.inflight) >= s.cfg.window() {
		return nil, t.pending(what)
	}
	if what&upserts != 0 && hold == nil {
		if m, ok := s.whole(t); ok {
			return m, false
		}
	}
	d := drafting{limit: s.cfg.MaxBytes, room: t.some()}
	if !t.greeted && t.cfg != nil && t.cfg.WholeFirst {
		d.limit = 0
	}
	var later []differ // to be looked at again
	room := rests.Get().(*[]differ)
	rest := *room // wanted, but not in this message
	look := func(diff differ) bool {
		switch p := diff.part(); {
		case p == 0:
			if t.base == t.want {
				delete(t.off, diff.name) // says what base says
			}
		case p != removals && what&removals != 0 && later != nil:
			later = append(later, diff)
		case p&what != 0 && !diff.held(hold) && d.take(diff):
		default:
			left = left || p&what != 0
			rest = append(rest, diff)
		}
		return true
	}
	if what&removals != 0 && t.pending(removals) {
		// Removals make room for what takes their place, so they are the first to go.
		later = make([]differ, 0, 8)
		t.each(look)
		again := later
		later = nil
		for _, diff := range again {
			look(diff)
		}
	} else {
		t.each(look)
	}
	t.sent(&d.msg, rest)
	if cap(rest) <= maxRests {
		clear(rest)
		*room = rest[:0]
		rests.Put(room)
	}
	if len(d.msg.Resources)+len(d.msg.Removed) == 0 && (!t.greet || what&upserts == 0) {
		return nil, left
	}
	return &d.msg, left
}

// sent makes base and off account for a message. Whichever is fewer is written
// down by name: what was sent, or what is yet to be.
func (t *state) sent(m *Message, rest []differ) {
	n := len(m.Resources) + len(m.Removed)
	if len(rest) <= 2*n+32 {
		t.base, t.off, t.group = t.want, nil, group{}
		if len(rest) > 0 {
			t.off = make(map[string]offset, len(rest))
		}
		for _, d := range rest {
			t.set(d.name, d.offset)
		}
		return
	}
	if n == 0 {
		return
	}
	t.spill()
	note := func(name, version string) {
		if t.base != nil && t.subscribed(name) {
			if r := t.base.Get(name); r != nil && r.Version == version || r == nil && version == "" {
				delete(t.off, name)
				return
			}
		} else if version == "" {
			delete(t.off, name)
			return
		}
		t.set(name, offset{version: version})
	}
	for _, r := range m.Resources {
		note(r.Name, r.Version)
	}
	for _, name := range m.Removed {
		note(name, "")
	}
	if len(t.off) == 0 {
		t.off = nil // a map keeps the room that it once had
	}
}

// drafting is a message under construction.
type drafting struct {
	msg   Message
	size  int
	limit int // bytes; 0: none
	full  bool
	room  int // for how many resources there is room at first
}

// headroom is kept for what a message has besides resources and names.
const headroom = 512

// take adds one name, unless there is no room for it.
func (d *drafting) take(diff differ) bool {
	n := removedSize(diff.name)
	if diff.want != nil {
		n = len(diff.want.encoded())
	}
	empty := len(d.msg.Resources)+len(d.msg.Removed) == 0
	if d.full || !empty && (diff.alone || d.limit > 0 && d.size+n > d.limit-headroom) {
		return false
	}
	d.full = diff.alone
	d.size += n
	d.msg.gates = d.msg.gates || diff.force || diff.version == ""
	if diff.want != nil {
		if d.msg.Resources == nil {
			d.msg.Resources = make([]*Resource, 0, d.room)
		}
		d.msg.Resources = append(d.msg.Resources, diff.want)
	} else {
		d.msg.Removed = append(d.msg.Removed, diff.name)
	}
	return true
}
