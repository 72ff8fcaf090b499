// Package delta is the state of one incremental xDS stream, on the side that
// owns the resources: what the peer subscribed to, what it was sent, what it
// acknowledged or rejected, and what may be sent next. It does no I/O, reads no
// clock and starts no goroutine. Envoy's ADS and both directions of KDS use it.
//
// Rules: https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol
package delta

import (
	"iter"

	"google.golang.org/protobuf/types/known/anypb"
)

// Resource is one named, encoded resource. It is immutable and shared by all
// streams that send it; equal versions mean equal bytes.
type Resource struct {
	Name    string
	Version string     // content hash
	Body    *anypb.Any // encoded once
}

// Source is the desired state of one type at one moment. It is immutable.
type Source interface {
	// Get returns the resource of that name, or nil.
	Get(name string) *Resource
	// All yields every resource, in no particular order.
	All() iter.Seq[*Resource]
	Len() int
	// ChangedSince returns the names that may differ between prev and this
	// source. ok is false when that is not known and all must be compared.
	ChangedSince(prev Source) (names []string, ok bool)
}
