package delta

import (
	"sync"
	"time"
)

// holding says what may not be sent while a gate is closed.
type holding struct {
	names map[string]bool // what refers to one of them
	refer bool            // what refers to anything
	added bool            // what the peer does not have yet
}

// holdings is room for them: a stream makes one at each acknowledgement as long as
// it waits for others, of a thousand names as often as not.
var holdings = sync.Pool{New: func() any { return &holding{names: map[string]bool{}} }}

// done gives the room back.
func (h *holding) done() {
	if h == nil || len(h.names) > maxRests {
		return
	}
	clear(h.names)
	holdings.Put(h)
}

// holding names what is unanswered, or not ready, of the types that t uses.
func (s *Stream) holding(t *state, now time.Time) *holding {
	h := holdings.Get().(*holding)
	h.refer, h.added = s.unasked(t), false
	for _, i := range t.cfg.Uses {
		for _, m := range s.types[i].inflight {
			if m.gates && now.Before(m.sent.Add(s.cfg.Gate)) {
				for _, r := range m.Resources {
					h.names[r.Name] = true
				}
				for _, name := range m.Removed {
					h.names[name] = true
				}
			}
		}
		for name, since := range s.types[i].bare {
			if now.Before(since.Add(s.cfg.Gate)) {
				h.names[name] = true
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
		for _, since := range s.types[i].bare {
			if now.Before(since.Add(s.cfg.Gate)) {
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

// bared notes of acknowledged resources that the peer has yet to ask for what
// goes with them under the same name: a starting Envoy acknowledges clusters
// whose endpoints it does not have.
func (s *Stream) bared(t *state, m *Message) {
	if t.cfg == nil || !m.gates {
		return
	}
	for _, i := range t.cfg.Rearm {
		with := &s.types[i]
		if with.wildcard || with.want == nil {
			continue
		}
		for _, r := range m.Resources {
			if !with.names.has(r.Name) && with.want.Get(r.Name) != nil {
				if t.bare == nil {
					t.bare = make(map[string]time.Time, len(m.Resources))
				}
				t.bare[r.Name] = m.sent
			}
		}
	}
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
		for name, since := range t.bare {
			needs := t.want.Get(name) != nil && now.Before(since.Add(s.cfg.Gate))
			for _, j := range t.cfg.Rearm {
				with := &s.types[j]
				needs = needs && !with.subscribed(name) && with.want.Get(name) != nil
			}
			if !needs {
				delete(t.bare, name)
			}
		}
		if len(t.bare) == 0 {
			t.bare = nil
		}
	}
}
