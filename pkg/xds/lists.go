package xds

import (
	"bytes"
	"hash/maphash"
	"sync"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// lists are long lists of names that were asked for of late, so that a thousand
// proxies which start and ask for the same thousand names are understood without
// making these anew for each.
type lists struct {
	mu   sync.Mutex
	last []list // newest last
}

// list is names as they are in requests. It is immutable.
type list struct {
	sum     uint64 // of encoded
	encoded []byte
	names   []string
}

const (
	maxLists = 8
	// longList is how many bytes of names are worth it.
	longList = 2 << 10
	// hugeList is too much to be kept.
	hugeList = 1 << 20
)

var listSeed = maphash.MakeSeed()

// find returns the names that are encoded so.
func (l *lists) find(sum uint64, encoded []byte) ([]string, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, known := range l.last {
		if known.sum == sum && bytes.Equal(known.encoded, encoded) {
			return known.names, true
		}
	}
	return nil, false
}

func (l *lists) keep(n list) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.last) >= maxLists {
		l.last = append(l.last[:0:0], l.last[1:]...)
	}
	l.last = append(l.last, n)
}

// requests is room for one while it is decoded.
var requests = sync.Pool{New: func() any { return new([]byte) }}

const fieldSubscribe = 3 // resource_names_subscribe of DeltaDiscoveryRequest

// Unmarshal implements encoding.CodecV2. Who gets a request does not change the
// names in it.
func (c *codec) Unmarshal(data mem.BufferSlice, v any) error {
	req, ok := v.(*discovery.DeltaDiscoveryRequest)
	if !ok || data.Len() < longList {
		return c.CodecV2.Unmarshal(data, v)
	}
	room := requests.Get().(*[]byte)
	b := (*room)[:0]
	for _, part := range data {
		b = append(b, part.ReadOnlyData()...)
	}
	if cap(b) <= hugeList {
		*room = b
		defer requests.Put(room)
	}
	from, to := subscribed(b)
	if to-from < longList || to-from > hugeList {
		return proto.Unmarshal(b, req)
	}
	encoded := b[from:to]
	sum := maphash.Bytes(listSeed, encoded)
	if names, known := c.lists.find(sum, encoded); known {
		if err := proto.Unmarshal(b[:from], req); err != nil {
			return err
		}
		if err := (proto.UnmarshalOptions{Merge: true}).Unmarshal(b[to:], req); err != nil {
			return err
		}
		req.ResourceNamesSubscribe = names
		return nil
	}
	if err := proto.Unmarshal(b, req); err != nil {
		return err
	}
	c.lists.keep(list{sum, bytes.Clone(encoded), req.ResourceNamesSubscribe})
	return nil
}

// subscribed returns where in a request the names are that it subscribes to; it
// is nowhere when they are not all in one place.
func subscribed(b []byte) (from, to int) {
	from = -1
	for at := 0; at < len(b); {
		num, typ, n := protowire.ConsumeTag(b[at:])
		if n < 0 {
			return 0, 0
		}
		size := protowire.ConsumeFieldValue(num, typ, b[at+n:])
		if size < 0 {
			return 0, 0
		}
		end := at + n + size
		if num == fieldSubscribe {
			switch {
			case from < 0:
				from = at
			case to != at:
				return 0, 0
			}
			to = end
		}
		at = end
	}
	if from < 0 {
		return 0, 0
	}
	return from, to
}
