package delta

import (
	"slices"
	"time"

	"google.golang.org/genproto/googleapis/rpc/status"
)

// rejection is a resource that the peer refused. That version counts as sent, so
// it is not sent again until it differs or is to be retried.
type rejection struct {
	version string
	text    string
	since   time.Time
	wait    time.Duration // before the next retry
	retry   time.Time     // zero: none is due
}

func (t *state) stillRejected(name string, r *rejection) bool {
	wanted := t.want.Get(name)
	return wanted != nil && wanted.Version == r.version
}

// verdict takes what the peer says of a response. A stale nonce says nothing.
func (s *Stream) verdict(t *state, nonce string, refused *status.Status, now time.Time) {
	if nonce == "" {
		return
	}
	i := slices.IndexFunc(t.inflight, func(m *Message) bool { return m.Nonce == nonce })
	if i < 0 {
		return
	}
	// Peers answer in order; one that answers only the last accepts the others.
	for _, m := range t.inflight[:i] {
		s.accepted(t, m, now)
	}
	if m := t.inflight[i]; refused == nil {
		s.accepted(t, m, now)
	} else {
		s.refused(t, m, refused.GetMessage(), now)
	}
	if i+1 == len(t.inflight) {
		t.inflight = nil
	} else {
		t.inflight = slices.Delete(t.inflight, 0, i+1)
	}
	s.news = true
	s.advance()
}

func (s *Stream) accepted(t *state, m *Message, now time.Time) {
	t.count.Acked++
	s.bared(t, m)
	if len(t.rejected) == 0 {
		return
	}
	for _, r := range m.Resources {
		delete(t.rejected, r.Name)
	}
	for _, name := range m.Removed {
		delete(t.rejected, name)
	}
	if len(m.Removed) > 0 && s.replaces(t) {
		// What is gone may have been what stood in the way of what was refused.
		for _, r := range t.rejected {
			r.retry = now
		}
	}
}

// replaces reports whether removals of a type make room for others.
func (s *Stream) replaces(t *state) bool {
	return slices.ContainsFunc(s.cfg.Phases, func(p Phase) bool { return p.Replace && &s.types[p.Type] == t })
}

// refused remembers the resource of a message that has only one. Any other
// message is refused as a whole, whatever was wrong with it: its resources are
// sent again one by one to find out.
func (s *Stream) refused(t *state, m *Message, text string, now time.Time) {
	t.count.Rejected++
	single := len(m.Resources)+len(m.Removed) == 1
	if !single {
		// What was sent with it or later is not all that is to be sent, after all.
		s.marks = slices.DeleteFunc(s.marks, func(k mark) bool { return k.seq >= m.seq })
	}
	for _, r := range m.Resources {
		switch {
		case !t.subscribed(r.Name):
		case single:
			s.reject(t, r, text, now)
		default:
			t.set(r.Name, offset{version: t.has(r.Name), force: true, alone: true})
		}
	}
	for _, name := range m.Removed {
		if !single && t.subscribed(name) {
			t.set(name, offset{version: unknownVersion, force: true, alone: true})
		}
	}
}

func (s *Stream) reject(t *state, r *Resource, text string, now time.Time) {
	if t.rejected == nil {
		t.rejected = make(map[string]*rejection)
	}
	known := t.rejected[r.Name]
	if known == nil || known.version != r.Version {
		known = &rejection{version: r.Version, since: now, wait: s.cfg.RetryMin}
		t.rejected[r.Name] = known
	} else {
		known.wait = min(2*known.wait, max(s.cfg.RetryMax, s.cfg.RetryMin))
	}
	known.text = text
	if known.wait > 0 {
		known.retry = now.Add(known.wait)
	}
}

// retry has resources sent again whose time has come.
func (s *Stream) retry(t *state, now time.Time) {
	for name, r := range t.rejected {
		if r.retry.IsZero() || r.retry.After(now) {
			continue
		}
		r.retry = time.Time{}
		if t.subscribed(name) && t.stillRejected(name, r) {
			t.set(name, offset{version: t.has(name), force: true, alone: true})
		}
	}
}

// advance finds out up to which revision everything is answered.
func (s *Stream) advance() {
	oldest := s.seq + 1
	for i := range s.types {
		if q := s.types[i].inflight; len(q) > 0 {
			oldest = min(oldest, q[0].seq)
		}
	}
	n := 0
	for n < len(s.marks) && s.marks[n].seq < oldest {
		n++
	}
	if n == 0 {
		return
	}
	if revision := s.marks[n-1].revision; revision != s.acked {
		s.acked = revision
		s.news = true
	}
	if n == len(s.marks) {
		s.marks = nil
	} else {
		s.marks = slices.Delete(s.marks, 0, n)
	}
}

// complete notes that everything wanted now was sent.
func (s *Stream) complete() {
	asked := false
	for i := range s.types {
		t := &s.types[i]
		if t.cfg != nil && t.cfg.Required && !t.asked || t.asked && !t.settled {
			return
		}
		asked = asked || t.asked
	}
	if !asked || s.revision == s.acked && len(s.marks) == 0 {
		return
	}
	switch n := len(s.marks); {
	case n > 0 && s.marks[n-1].seq == s.seq:
		s.marks[n-1].revision = s.revision
	case n > 0 && s.marks[n-1].revision == s.revision:
	default:
		s.marks = append(s.marks, mark{s.revision, s.seq})
	}
	s.advance()
}
