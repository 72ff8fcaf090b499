package rest

import (
	"context"
	"sync"
)

// maxQueued bounds how many requests wait in a queue, so that those of one kind
// leave slots to all others.
const maxQueued = 64

// queue gives turns to requests that take much of the machine.
type queue struct {
	in    chan struct{} // has a turn, or waits for one
	turns chan struct{}
}

func newQueue(turns int) queue {
	return queue{make(chan struct{}, turns+maxQueued), make(chan struct{}, turns)}
}

// wait waits for a turn, which lasts until done is called.
func (q queue) wait(ctx context.Context) (done func(), err error) {
	select {
	case q.in <- struct{}{}:
	default:
		return nil, busy("too many such requests are waiting already; try again")
	}
	select {
	case q.turns <- struct{}{}:
		return sync.OnceFunc(func() { <-q.turns; <-q.in }), nil
	case <-ctx.Done():
		<-q.in
		return nil, ctx.Err()
	}
}

// inTurn does something in a turn of its own.
func inTurn[T any](ctx context.Context, q queue, f func() (T, error)) (T, error) {
	done, err := q.wait(ctx)
	if err != nil {
		var none T
		return none, err
	}
	defer done()
	return f()
}
