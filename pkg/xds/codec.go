package xds

import (
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"

	"github.com/atoll-mesh/atoll/pkg/delta"
)

// ServerOptions are the gRPC options that suit thousands of streams: responses
// refer to the shared bytes of resources instead of copying them, and
// connections have small buffers. All other messages and services of the server
// are encoded as usual.
func ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.ForceServerCodecV2(&codec{CodecV2: encoding.GetCodecV2(proto.Name)}),
		grpc.ReadBufferSize(0), // TLS has one
		grpc.WriteBufferSize(16 << 10),
		// What proxies send is short; fixed windows spare a ping with each request.
		grpc.InitialWindowSize(window),
		grpc.InitialConnWindowSize(window),
	}
}

// window is how much of its requests a proxy may send before they are read.
const window = 64 << 10

// codec is the usual one, except for delta messages and requests that name much.
type codec struct {
	encoding.CodecV2
	lists lists
}

const (
	// copyBelow is the size under which copying costs less than another buffer.
	copyBelow = 512
	// smallBuffer is a size that gRPC pools.
	smallBuffer = 4 << 10
)

// Marshal implements encoding.CodecV2.
func (c *codec) Marshal(v any) (mem.BufferSlice, error) {
	m, ok := v.(*delta.Message)
	if !ok {
		return c.CodecV2.Marshal(v)
	}
	// Shared bytes need a header each, and there may be a small buffer before and
	// after each of them.
	n := m.Pieces()
	shared := make([]mem.SliceBuffer, 0, n)
	out := make(mem.BufferSlice, 0, n+n/4+2)
	pool := mem.DefaultBufferPool() // gRPC gives buffers back once they are sent
	var small *[]byte
	flush := func() {
		if small != nil {
			out = append(out, mem.NewBuffer(small, pool))
			small = nil
		}
	}
	m.Segments(func(b []byte) {
		if len(b) >= copyBelow {
			flush()
			shared = append(shared, b)
			out = append(out, &shared[len(shared)-1])
			return
		}
		if small != nil && len(*small)+len(b) > smallBuffer {
			flush()
		}
		if small == nil {
			small = pool.Get(smallBuffer)
			*small = (*small)[:0]
		}
		*small = append(*small, b...)
	})
	flush()
	return out, nil
}
