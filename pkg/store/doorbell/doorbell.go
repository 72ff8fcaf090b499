// Package doorbell rings the readers of a store's log. A ring carries nothing:
// it says "look again".
package doorbell

import (
	"context"
	"sync"
)

// Set is a set of doorbells that are rung together. The zero Set is ready.
type Set struct {
	mu    sync.Mutex
	bells map[chan struct{}]struct{}
}

// Add returns a new doorbell, which is part of the set until ctx ends. It has
// room for one ring; further rings before somebody looks count once.
func (s *Set) Add(ctx context.Context) <-chan struct{} {
	bell := make(chan struct{}, 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bells == nil {
		s.bells = map[chan struct{}]struct{}{}
	}
	s.bells[bell] = struct{}{}
	context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.bells, bell)
	})
	return bell
}

// Ring rings every doorbell of the set. It never blocks.
func (s *Set) Ring() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for bell := range s.bells {
		select {
		case bell <- struct{}{}:
		default: // rung already and not looked at yet
		}
	}
}
