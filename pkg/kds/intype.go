package kds

import (
	"errors"
	"sync/atomic"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"github.com/atoll-mesh/atoll/pkg/delta"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// inType is the state of one type.
type inType struct {
	t      resource.Type
	kind   *resource.Kind
	queue  chan *discovery.DeltaDiscoveryResponse
	look   chan struct{}     // a bit: held deletions may have become possible
	stated map[string]string // versions that the first request stated; nil after the first response
	seen   map[string]bool   // names that came on this stream
	held   atomic.Int64      // resources that are stored here
	stats  delta.Counters
	nonce  string // of the last response
	// refused by wire name; retried when a refusal has a change.
	refused map[string]*refusal
}

type refusal struct {
	reason  string
	retry   *incoming
	due     time.Time
	pause   time.Duration
	guarded bool // a deletion that waits for the peer to be trusted
	silent  bool // nobody needs to know yet
}

// incoming is one change that the peer wants.
type incoming struct {
	name string // on the wire
	id   resource.ID
	obj  *resource.Object // nil: deletion
}

// removed is what a response takes away. A peer that ignored the stated
// versions, as one sees when it sends what it need not, sends the complete list
// first; then everything else is gone.
func (it *inType) removed(resp *discovery.DeltaDiscoveryResponse) []string {
	names := resp.GetRemovedResources()
	present := make(map[string]bool, len(resp.GetResources()))
	ignored := false
	for _, res := range resp.GetResources() {
		present[res.GetName()] = true
		ignored = ignored || it.stated != nil && it.stated[res.GetName()] == res.GetVersion()
	}
	out := make([]string, 0, len(names))
	for _, n := range names {
		if !present[n] {
			out = append(out, n)
			present[n] = true
		}
	}
	if ignored {
		for n := range it.stated {
			if !present[n] {
				out = append(out, n)
			}
		}
	}
	return out
}

// nextRetry is when the first of what was refused is due again.
func (it *inType) nextRetry() (at time.Time, any bool) {
	for _, f := range it.refused {
		if f.retry != nil && !f.guarded && (!any || f.due.Before(at)) {
			at, any = f.due, true
		}
	}
	return at, any
}

// reasons says what is refused and why, by wire name.
func (it *inType) reasons() map[string]string {
	reasons := make(map[string]string, len(it.refused))
	for name, f := range it.refused {
		if !f.silent {
			reasons[name] = f.reason
		}
	}
	return reasons
}

// refuse remembers that a change could not be made, to try it again.
func (it *inType) refuse(c *incoming, guarded bool, reason error) {
	it.refused[c.name] = &refusal{
		reason: reason.Error(), retry: c, guarded: guarded, silent: errors.Is(reason, errHeld),
		pause: retryFirst, due: time.Now().Add(retryFirst),
	}
}
