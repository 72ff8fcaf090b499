package delta

import (
	"sync"
	"time"
)

// holding says what may not be sent while a gate is closed.
type holding struct {
	names   map[string]bool // what refers to one of them
	batches []*batch        // or to one of these
	refer   bool            // what refers to anything
	added   bool            // what the peer does not have yet
}

func (h *holding) has(name string) bool {
	if h.names[name] {
		return true
	}
	for _, b := range h.batches {
		if b.has(name) {
			return true
		}
	}
	return false
}

// holdings is room for them: a stream makes one at each acknowledgement as long as
// it waits for others.
var holdings = sync.Pool{New: func() any { return &holding{names: map[string]bool{}} }}

// done gives the room back.
func (h *holding) done() {
	if h == nil || len(h.names) > maxRests {
		return
	}
	clear(h.names)
	clear(h.batches)
	h.batches = h.batches[:0]
	holdings.Put(h)
}

// holding names what is unanswered, or not ready, of the types that t uses.
func (s *Stream) holding(t *state, now time.Time) *holding {
	h := holdings.Get().(*holding)
	h.refer, h.added = s.unasked(t), false
	for _, i := range t.cfg.Uses {
		used := &s.types[i]
		for _, m := range used.inflight {
			if m.gates && now.Before(m.sent.Add(s.cfg.Gate)) {
				h.batches = append(h.batches, m.batches...)
				for _, r := range m.singles() {
					h.names[r.Name] = true
				}
				for _, name := range m.Removed {
					h.names[name] = true
				}
			}
		}
		for _, b := range used.bare {
			if now.Before(b.since.Add(s.cfg.Gate)) {
				for _, r := range b.resources {
					if s.needs(used, r.Name) {
						h.names[r.Name] = true
					}
				}
			}
		}
	}
	return h
}

// unready reports whether something that t uses is acknowledged and yet not
// ready, or cannot be told to be.
func (s *Stream) unready(t *state, now time.Time) bool {
	if t.cfg == nil {
		return false
	}
	for _, i := range t.cfg.Uses {
		for _, b := range s.types[i].bare {
			if now.Before(b.since.Add(s.cfg.Gate)) {
				return true
			}
		}
	}
	return s.unasked(t)
}

// unasked reports whether a peer that came back has yet to ask for a required
// type that t uses. An Envoy whose clusters are warming asks for all else first.
func (s *Stream) unasked(t *state) bool {
	if !s.returns {
		return false
	}
	for _, i := range t.cfg.Uses {
		if s.cfg.Types[i].Required && !s.types[i].asked {
			return true
		}
	}
	return false
}

// bare is resources that the peer acknowledged, and for which it has yet to ask
// for what goes with them under the same name; at least for the first of them.
type bare struct {
	resources []*Resource
	since     time.Time // when they were sent
}

// bared notes of acknowledged resources that they are bare: a starting Envoy
// acknowledges clusters whose endpoints it does not have.
func (s *Stream) bared(t *state, m *Message) {
	if t.cfg == nil || !m.gates || len(t.cfg.Rearm) == 0 {
		return
	}
	// Most often it is all of them, or none.
	begin, n := 0, 0
	var some []*Resource
	for i, r := range m.Resources {
		if !s.needs(t, r.Name) {
			continue
		}
		switch {
		case n == 0:
			begin = i
		case some == nil && begin+n < i:
			some = append(make([]*Resource, 0, len(m.Resources)), m.Resources[begin:begin+n]...)
		}
		if n++; some != nil {
			some = append(some, r)
		}
	}
	if some == nil {
		some = m.Resources[begin : begin+n]
	}
	if n > 0 {
		t.bare = append(t.bare, bare{some, m.sent})
	}
}

// needs reports whether a resource of a type is wanted and something is to go with
// it for which the peer has not asked.
func (s *Stream) needs(t *state, name string) bool {
	for _, j := range t.cfg.Rearm {
		with := &s.types[j]
		if with.want != nil && !with.subscribed(name) && with.want.Get(name) != nil {
			return t.want.Get(name) != nil
		}
	}
	return false
}

// covered forgets what is bare no more: the peer asked, nothing goes with it now,
// or it is not wanted itself. What the peer asked for and has not got holds back
// others by itself.
func (s *Stream) covered(now time.Time) {
	for i := range s.cfg.Types {
		t := &s.types[i]
		if len(t.bare) == 0 {
			continue
		}
		left := t.bare[:0]
		for _, b := range t.bare {
			if !now.Before(b.since.Add(s.cfg.Gate)) {
				continue
			}
			for len(b.resources) > 0 && !s.needs(t, b.resources[0].Name) {
				b.resources = b.resources[1:]
			}
			if len(b.resources) > 0 {
				left = append(left, b)
			}
		}
		clear(t.bare[len(left):])
		if t.bare = left; len(left) == 0 {
			t.bare = nil
		}
	}
}
