// Package lease holds what leadership needs in every store: fences, which travel
// in a context from the holder of a lease to the writes they guard, and a table
// of leases for stores that belong to a single process.
package lease

import (
	"context"
	"slices"
)

// Fence states which holding of a lease a write depends on. Token numbers the
// holdings of one lease: it grows each time the lease changes hands.
type Fence struct {
	Name   string
	Holder string
	Token  int64
}

type fenceKey struct{}

// WithFence adds a fence to those that ctx has.
func WithFence(ctx context.Context, f Fence) context.Context {
	return context.WithValue(ctx, fenceKey{}, append(slices.Clip(Fences(ctx)), f))
}

// Fences returns the fences that guard writes made with ctx.
func Fences(ctx context.Context) []Fence {
	f, _ := ctx.Value(fenceKey{}).([]Fence)
	return f
}
