package xds

import (
	"context"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
)

// Source is the configuration of one proxy as it changes.
type Source interface {
	// Set returns the newest set, or nil until there is one. Streams ask often:
	// it only loads a pointer.
	Set() *Set
	// Changed carries a value when Set may return something new. It has room for
	// one value, and changes that nobody looked at yet count once.
	Changed() <-chan struct{}
}

// Handler decides who may open a stream and what is served on it.
type Handler interface {
	// Open is called with the first request of a stream: it authenticates the
	// peer (metadata and addresses are in ctx) and attaches the proxy. returns says
	// that the peer had another stream before and has what it got there. An error
	// ends the stream; one that is no gRPC status becomes PermissionDenied. ctx
	// ends with the stream; End ends it earlier, for instance because the same
	// proxy opened another one.
	Open(ctx context.Context, node *core.Node, returns bool) (Session, error)
}

// Session is one stream of a proxy. The server calls its methods from one
// goroutine at a time.
type Session interface {
	Source
	// Delivered is told when something in the report changed. Many changes may
	// make one report. It must not block.
	Delivered(Report)
	// Close is called once, when the stream has ended; err says why (nil: the
	// peer closed it).
	Close(err error)
}

// Report is what is known about one stream.
type Report struct {
	// Revision of the last set of which everything that the proxy asked for was
	// answered with an acknowledgement, but for Rejections. 0: none yet.
	Revision uint64
	Types    [NumTypes]Counters
	// Listening says that the proxy once acknowledged the listeners that it should
	// have, with their routes and secrets: it has opened their ports.
	Listening bool
	// Rejections are the resources that the proxy refused and that are still
	// wanted as they are. Receivers do not change the slice.
	Rejections []Rejection
	// Degraded says that the proxy left clusters, listeners or routes
	// unacknowledged for longer than the gate, so that removals are held back.
	Degraded bool
}

// Counters count the responses of one type.
type Counters struct {
	Sent, Acked, Rejected uint64
}

// Rejection is one resource that a proxy refused.
type Rejection struct {
	Type    Type
	Name    string
	Version string
	Error   string    // in the proxy's words
	Since   time.Time // of the first refusal of this version
}

type streamKey struct{}

// End ends the stream that ctx, as given to Handler.Open, belongs to. The peer
// gets err, which should be a gRPC status.
func End(ctx context.Context, err error) {
	if cancel, ok := ctx.Value(streamKey{}).(context.CancelCauseFunc); ok {
		cancel(err)
	}
}
