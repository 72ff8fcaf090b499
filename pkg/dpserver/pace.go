package dpserver

import (
	"context"
	"time"
)

// shortest and longest bound the pauses between writes that nobody waits for. The
// first few after a quiet time have none before them.
const (
	shortest = 20 * time.Millisecond
	longest  = time.Second
	few      = 20
)

// pace says when what nobody waits for was written last, and since when there was
// always more, and how often.
type pace struct {
	begun, last time.Time
	n           int
}

// due returns how long the next write has to wait, and takes note of it when that
// is not at all. After the first few, a pause is as long as this goes on already.
func (p *pace) due(now time.Time) time.Duration {
	gap := min(max(p.last.Sub(p.begun), shortest), longest)
	since := now.Sub(p.last)
	if since > 2*gap+shortest {
		p.begun, p.n = now, 0
	}
	if since < gap && p.n >= few {
		return gap - since
	}
	p.n++
	p.last = now
	return 0
}

// rest waits until it is time for what nobody waits for. It returns false when
// somebody waits for something else meanwhile, and the wake is still due.
func (w *writer) rest(ctx context.Context, p *pace) bool {
	for {
		wait := p.due(time.Now())
		if wait == 0 {
			return true
		}
		t := time.NewTimer(wait) // there is no event: this is about how often
		select {
		case <-t.C:
			continue
		case <-w.urgent:
		case <-ctx.Done():
		}
		t.Stop()
		select {
		case w.wake <- struct{}{}:
		default:
		}
		return false
	}
}
