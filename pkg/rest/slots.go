package rest

import (
	"context"
	"net/http"
	"sync"
)

// defaultRequests bounds the requests that are answered at a time unless it is
// configured.
const defaultRequests = 1000

// slots bounds how many requests are answered at a time. Who sends a body slowly
// has none while it is awaited, and streams have none at all, so that only work
// counts and no client can starve others by being slow.
type slots chan struct{}

// slot is the place of one request.
type slot struct {
	of   slots
	mu   sync.Mutex
	held bool
}

type slotKey struct{}

// enter gives a request a place, or refuses it at once when there is none.
func (s slots) enter(r *http.Request) (*http.Request, *slot, bool) {
	if s == nil {
		return r, &slot{}, true
	}
	select {
	case s <- struct{}{}:
	default:
		return r, nil, false
	}
	p := &slot{of: s, held: true}
	return r.WithContext(context.WithValue(r.Context(), slotKey{}, p)), p, true
}

func (p *slot) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.held {
		p.held = false
		<-p.of
	}
}

// again takes a place after waiting for the client; by then it waits its turn.
func (p *slot) again(ctx context.Context) error {
	select {
	case p.of <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held = true
	return nil
}

// releaseSlot gives up the place of a request.
func releaseSlot(ctx context.Context) {
	if p, ok := ctx.Value(slotKey{}).(*slot); ok {
		p.leave()
	}
}

// whileReading gives up the place of a request while f waits for its body.
func whileReading(ctx context.Context, f func() ([]byte, error)) ([]byte, error) {
	p, ok := ctx.Value(slotKey{}).(*slot)
	if !ok {
		return f()
	}
	p.leave()
	body, err := f()
	if again := p.again(ctx); again != nil && err == nil {
		err = again
	}
	return body, err
}
