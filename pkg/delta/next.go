package delta

import "time"

// part says what of a type may go into a message.
type part uint8

const (
	upserts  part = 1 << iota
	answers       // that a name does not exist, which the peer does not hold
	removals      // of what the peer holds
)

// Next returns the next message that may be sent, or nil. It counts as sent.
func (s *Stream) Next(now time.Time) *Message {
	for i := range s.types {
		s.retry(&s.types[i], now)
	}
	s.covered(now)
	m, unsent := s.nextPhase(now)
	if m == nil {
		// What has no place in a phase waits for nothing, and nothing for it.
		var more bool
		m, more = s.nextFree(now)
		unsent = unsent || more
	}
	s.judge(now)
	if m == nil && !unsent {
		s.complete()
	}
	return m
}

// nextPhase looks at the phases in order. unsent: something is held back.
func (s *Stream) nextPhase(now time.Time) (m *Message, unsent bool) {
	for p := range s.cfg.Phases {
		phase := &s.cfg.Phases[p]
		t := &s.types[phase.Type]
		what := upserts | answers
		if phase.Remove {
			what = removals
		}
		if !t.settled || t.inStep() {
			s.held[p] = time.Time{}
			continue
		}
		if phase.Replace && !unsent && !s.unanswered(p, true, now) && t.pending(upserts) {
			what |= removals
		}
		if phase.Remove && s.stillUsed(phase.Type) {
			continue // until what uses it is accepted again; the revision does not wait
		}
		var hold *holding
		if phase.Wait && (unsent || s.unanswered(p, phase.Remove, now) || !phase.Remove && s.unready(t, now)) {
			if !t.pending(what) {
				s.held[p] = time.Time{}
				continue
			}
			if s.held[p].IsZero() {
				s.held[p] = now
			}
			switch within := now.Before(s.held[p].Add(s.cfg.Gate)); {
			case within && !phase.Remove && !unsent && !t.greet:
				hold = s.holding(t, now) // what refers to none of it may go
				// What is new may have to take the place of what is yet to go.
				hold.added = phase.Replace && t.pending(removals)
			case within || phase.Remove:
				unsent = true
				if what &= answers; !t.pending(what) {
					continue
				}
			}
		} else {
			s.held[p] = time.Time{}
		}
		m, left := s.compose(t, what, hold)
		hold.done()
		if m != nil {
			m.phase = p
			m.gates = m.gates || !phase.Light
			s.post(t, m, now)
			return m, true
		}
		unsent = unsent || left
	}
	return nil, unsent
}

// nextFree looks at the types that have no phase, each time another one first.
func (s *Stream) nextFree(now time.Time) (m *Message, unsent bool) {
	first := 0
	if len(s.cfg.Phases) > 0 {
		first = len(s.cfg.Types)
	}
	n := len(s.types) - first
	for i := range n {
		at := (s.turn + i) % n
		t := &s.types[first+at]
		if !t.settled || t.inStep() {
			continue
		}
		m, left := s.compose(t, upserts|answers|removals, nil)
		if m != nil {
			m.gates = false
			s.turn = at + 1
			s.post(t, m, now)
			return m, true
		}
		unsent = unsent || left
	}
	return nil, unsent
}

// unanswered reports whether a message of an earlier phase that this one waits
// for has no verdict. Upserts do not wait for ever.
func (s *Stream) unanswered(phase int, remove bool, now time.Time) bool {
	for i := range s.types {
		for _, m := range s.types[i].inflight {
			if m.gates && m.phase < phase && (remove || now.Before(m.sent.Add(s.cfg.Gate))) {
				return true
			}
		}
	}
	return false
}

// stillUsed reports whether a refused resource may refer to what would be removed.
func (s *Stream) stillUsed(kind int) bool {
	for i := range s.cfg.Types {
		if len(s.types[i].rejected) == 0 {
			continue
		}
		for _, used := range s.cfg.Types[i].Uses {
			if used == kind {
				return true
			}
		}
	}
	return false
}

// judge notes whether the peer leaves messages unanswered for too long.
func (s *Stream) judge(now time.Time) {
	late := false
	for i := range s.types {
		for _, m := range s.types[i].inflight {
			if m.gates && s.cfg.Gate > 0 && !now.Before(m.sent.Add(s.cfg.Gate)) {
				late = true
			}
		}
	}
	if late != s.degraded {
		s.degraded, s.news = late, true
	}
}

// post makes a message the one sent last.
func (s *Stream) post(t *state, m *Message, now time.Time) {
	s.seq++
	m.URL, m.Identifier = t.url, s.cfg.Identifier
	m.seq, m.Nonce, m.sent = s.seq, nonceOf(s.seq), now
	t.greet, t.greeted = false, true
	if t.inStep() {
		m.Revision = s.systemVersion()
	}
	t.inflight = append(t.inflight, m)
	t.count.Sent++
	s.news = true
	if t.cfg != nil {
		for _, other := range t.cfg.Rearm {
			s.types[other].rearm(m, s.pool())
		}
	}
}

// rearm has those resources sent again that have the names of those of a message.
func (t *state) rearm(m *Message, p *Pool) {
	if !t.settled || !t.wildcard && t.names.len() == 0 {
		return
	}
	singles := m.Resources
	if len(m.batches) == 1 && t.rearmAll(m.batches[0], p) {
		singles = m.singles()
	}
	for _, r := range singles {
		if t.subscribed(r.Name) && t.has(r.Name) != "" && t.want.Get(r.Name) != nil {
			t.force(r.Name)
		}
	}
}

// rearmAll makes a group of those that have the names of a batch, if the peer is
// in step, so that what it has is what it is to have.
func (t *state) rearmAll(b *batch, p *Pool) bool {
	if t.wildcard || !t.inStep() {
		return false
	}
	again := b.subscribed(t.names, p)
	if again == nil {
		return true
	}
	g := t.group
	t.group = group{names: again, held: true}
	if t.missing() {
		t.group = g
		return false
	}
	return true
}
