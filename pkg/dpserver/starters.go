package dpserver

import "sync/atomic"

// mostStarters is how many proxies may be held back at a time until their Envoys
// listen. When more start, those that would call them are starting themselves, and
// to tell all of them of each that listens would cost more than it saves.
const mostStarters = 200

// starters counts proxies that start.
type starters struct{ n atomic.Int64 }

// enter counts one more, unless there are too many.
func (s *starters) enter() bool {
	if s.n.Add(1) <= mostStarters {
		return true
	}
	s.n.Add(-1)
	return false
}

// leaveStart takes the session off the count of those that start, once.
func (s *session) leaveStart() {
	s.mu.Lock()
	counted := s.starter
	s.starter = false
	s.mu.Unlock()
	if counted {
		s.s.proxies.starters.n.Add(-1)
	}
}
