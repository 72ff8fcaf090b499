package kds

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/store"
)

const (
	applyBatch    = 500 // ops of one write
	conflictTries = 5
	outageMin     = 50 * time.Millisecond
	outageMax     = 2 * time.Second
)

// apply makes changes in the store: those that make a difference, in few
// writes. What cannot be applied ends up in it.refused; an error ends the
// stream. When it returns the view has everything.
func (r *receiver) apply(ctx context.Context, it *inType, changes []*incoming, rev uint64) error {
	for len(changes) > 0 {
		n := min(len(changes), applyBatch)
		if err := r.applyBatch(ctx, it, changes[:n], rev); err != nil {
			return err
		}
		changes = changes[n:]
	}
	return nil
}

func (r *receiver) applyBatch(ctx context.Context, it *inType, changes []*incoming, rev uint64) error {
	pause := outageMin
	for tries := 0; ; {
		snap := r.view.Snapshot()
		var ops []store.Op
		var written []*incoming
		more := 0
		for _, c := range changes {
			op, change := r.decide(it, c, snap.Get(c.id))
			if op == nil {
				continue
			}
			more += change
			ops, written = append(ops, *op), append(written, c)
		}
		if len(ops) == 0 {
			return nil
		}
		at, err := r.store.Write(ctx, append(ops, r.ward.applying(rev)...)...)
		switch {
		case err == nil:
			it.held.Add(int64(more))
			if _, err := r.view.Wait(ctx, at); err != nil {
				return err
			}
			for _, c := range written {
				if c.obj != nil {
					r.ward.arrived(c.obj)
				}
			}
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case ended(err):
			return err
		case errors.Is(err, store.ErrConflict) && tries < conflictTries:
			tries++
			if err := r.newer(ctx, snap.Revision()); err != nil {
				return err
			}
		case errors.Is(err, store.ErrUnavailable):
			r.log.Warn("the store is away; received changes wait", "type", it.t, "error", err, "retryIn", pause)
			// Whoever has the first write tells the others that the store is back.
			wait, cancel := context.WithTimeout(ctx, pause)
			_, _ = r.view.Wait(wait, snap.Revision()+1) // or the pause is over
			cancel()
			if ctx.Err() != nil {
				return ctx.Err()
			}
			pause = min(2*pause, outageMax)
		case len(changes) > 1: // one of them spoils the write for all
			for i := range changes {
				if err := r.applyBatch(ctx, it, changes[i:i+1], rev); err != nil {
					return err
				}
			}
			return nil
		default:
			it.refuse(changes[0], false, err)
			return nil
		}
	}
}

// newer waits until the view has what was in the way of a write.
func (r *receiver) newer(ctx context.Context, than store.Revision) error {
	b, err := r.store.Read(ctx, than, 1)
	if errors.Is(err, store.ErrUnavailable) || errors.Is(err, store.ErrCompacted) {
		return sleep(ctx, outageMin)
	}
	if err != nil {
		return err
	}
	_, err = r.view.Wait(ctx, b.Head)
	return err
}

// decide turns a change into an op, given what is stored: nil when nothing is to
// be done or the change is refused. change is how many more resources of the
// peer are stored afterwards.
func (r *receiver) decide(it *inType, c *incoming, old *resource.Object) (op *store.Op, change int) {
	author := r.ward.author()
	delete(it.refused, c.name)
	if c.obj == nil {
		if old == nil || !r.ward.owns(old) {
			return nil, 0
		}
		if !it.seen[c.name] {
			if err := r.ward.mayDelete(); err != nil {
				it.refuse(c, true, err)
				return nil, 0
			}
		}
		d := store.Delete(c.id, int64(old.Version), author)
		return &d, -1
	}
	next := c.obj
	if old == nil {
		p := store.Put(next, store.Absent, author)
		return &p, 1
	}
	mine := r.ward.owns(old)
	if !mine && !r.ward.replaces(old) {
		it.refuse(c, false, fmt.Errorf("%s is there already and belongs to somebody else (%s); rename or delete one of the two", c.id, owner(old)))
		return nil, 0
	}
	if r.ward.keepsStatus() {
		kept, err := next.Kind.FromWire(next.Meta, next.SpecWire(), old.StatusWire())
		if err != nil {
			it.refuse(c, false, err)
			return nil, 0
		}
		next = kept
	}
	if next.SameContent(old) {
		r.ward.arrived(next)
		return nil, 0
	}
	if !mine {
		change = 1
	}
	p := store.Put(next, int64(old.Version), author)
	return &p, change
}

// owner says in words where a resource comes from.
func owner(o *resource.Object) string {
	switch {
	case o.Labels[resource.LabelOrigin] == resource.OriginZone && o.Zone() != "":
		return "zone " + o.Zone()
	case o.Labels[resource.LabelOrigin] == resource.OriginGlobal:
		return "the global"
	default:
		return "this control plane"
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
