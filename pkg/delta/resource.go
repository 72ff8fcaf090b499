// Package delta is the state of one incremental xDS stream, on the side that
// owns the resources: what the peer subscribed to, what it was sent, what it
// acknowledged or rejected, and what may be sent next. It does no I/O, reads no
// clock and starts no goroutine. Envoy's ADS and both directions of KDS use it.
//
// Rules: https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol
package delta

import (
	"iter"
	"sync/atomic"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/anypb"
)

// Resource is one named, encoded resource. It is immutable and shared by all
// streams that send it; equal versions mean equal bytes.
type Resource struct {
	Name    string
	Version string     // content hash
	Body    *anypb.Any // encoded once
	// Refers names all resources of earlier phases that this one refers to; it
	// waits for no others. Nil: not known, it waits for all.
	Refers []string

	wire atomic.Pointer[[]byte] // see encoded
}

// NewResource makes a resource whose bytes are kept once, in the form in which
// they travel; Body.Value points into it.
func NewResource(name, version, typeURL string, value []byte) *Resource {
	r := &Resource{Name: name, Version: version, Body: &anypb.Any{TypeUrl: typeURL, Value: value}}
	wire := r.encode()
	r.Body.Value = wire[len(wire)-len(value) : len(wire) : len(wire)]
	r.wire.Store(&wire)
	return r
}

// Field numbers of envoy.service.discovery.v3.Resource and google.protobuf.Any.
// They are written in this order, which ends with the value, so that a Body can
// share its bytes with the encoded resource.
const (
	fieldResources       protowire.Number = 2 // of DeltaDiscoveryResponse
	fieldResourceName    protowire.Number = 3
	fieldResourceVersion protowire.Number = 1
	fieldResourceBody    protowire.Number = 2
	fieldAnyTypeURL      protowire.Number = 1
	fieldAnyValue        protowire.Number = 2
)

// encoded returns the resource as an element of the field resources of a
// DeltaDiscoveryResponse, tag and length included. It is made once, for all
// streams; two goroutines that race make it twice and keep one.
func (r *Resource) encoded() []byte {
	if wire := r.wire.Load(); wire != nil {
		return *wire
	}
	wire := r.encode()
	r.wire.CompareAndSwap(nil, &wire)
	return *r.wire.Load()
}

func (r *Resource) encode() []byte {
	bytesSize := func(n int) int { return 1 + protowire.SizeBytes(n) } // all tags are one byte
	body := 0
	if n := len(r.Body.GetTypeUrl()); n > 0 {
		body += bytesSize(n)
	}
	if n := len(r.Body.GetValue()); n > 0 {
		body += bytesSize(n)
	}
	size := bytesSize(len(r.Name)) + bytesSize(len(r.Version))
	if r.Body != nil {
		size += bytesSize(body)
	}
	b := make([]byte, 0, bytesSize(size))
	b = protowire.AppendTag(b, fieldResources, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(size))
	b = protowire.AppendTag(b, fieldResourceName, protowire.BytesType)
	b = protowire.AppendString(b, r.Name)
	b = protowire.AppendTag(b, fieldResourceVersion, protowire.BytesType)
	b = protowire.AppendString(b, r.Version)
	if r.Body == nil {
		return b
	}
	b = protowire.AppendTag(b, fieldResourceBody, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(body))
	if url := r.Body.GetTypeUrl(); url != "" {
		b = protowire.AppendTag(b, fieldAnyTypeURL, protowire.BytesType)
		b = protowire.AppendString(b, url)
	}
	if value := r.Body.GetValue(); len(value) > 0 {
		b = protowire.AppendTag(b, fieldAnyValue, protowire.BytesType)
		b = protowire.AppendBytes(b, value)
	}
	return b
}

// Source is the desired state of one type at one moment. It is immutable.
type Source interface {
	// Get returns the resource of that name, or nil.
	Get(name string) *Resource
	// All yields every resource once, in no particular order.
	All() iter.Seq[*Resource]
	Len() int
	// ChangedSince returns the names that may differ between prev and this
	// source, each once. ok is false when that is not known and all must be
	// compared. prev comes from the same owner, earlier or later.
	ChangedSince(prev Source) (names []string, ok bool)
}
