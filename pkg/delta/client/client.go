package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
)

// Client is a State with a connection. Its methods may be called concurrently.
type Client struct {
	// Method is the gRPC method; by default the aggregated discovery service.
	Method string

	mu    sync.Mutex
	state *State
	send  func() error // of the connection, nil without one
	waits []*waiter
}

type waiter struct {
	met  func(*State) bool
	done chan struct{}
}

// New returns a client that is not connected.
func New(opts Options) *Client {
	return &Client{Method: discovery.AggregatedDiscoveryService_DeltaAggregatedResources_FullMethodName, state: NewState(opts)}
}

// Run holds one stream until it ends or ctx does, and returns why it ended; nil
// when the server ended it without an error. When Run is called again the client
// reconnects: it states what it has.
func (c *Client) Run(ctx context.Context, conn grpc.ClientConnInterface, opts ...grpc.CallOption) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	desc := &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}
	opts = append(opts, grpc.ForceCodecV2(codec{encoding.GetCodecV2(proto.Name)}))
	stream, err := conn.NewStream(ctx, desc, c.Method, opts...)
	if err != nil {
		return fmt.Errorf("open stream: %w", err)
	}
	if err := c.connect(stream); err != nil {
		return err
	}
	defer func() {
		c.mu.Lock()
		c.send = nil
		c.mu.Unlock()
	}()
	for {
		var in mem.BufferSlice
		if err := stream.RecvMsg(&in); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		b := rooms.Get().(*[]byte)
		*b = slices.Grow((*b)[:0], in.Len())
		for _, part := range in {
			*b = append(*b, part.ReadOnlyData()...)
		}
		in.Free()
		err := c.receive(*b)
		rooms.Put(b)
		if err != nil {
			return err
		}
	}
}

// rooms are where responses are put together. One of thousands of resources is
// megabytes large: its room belongs to whoever reads one now, not to each client.
var rooms = sync.Pool{New: func() any { return new([]byte) }}

func (c *Client) connect(stream grpc.ClientStream) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.send != nil {
		return errors.New("the client is connected already")
	}
	c.send = func() error {
		for _, req := range c.state.Requests() {
			// An error ends the stream, and RecvMsg says which.
			if err := stream.SendMsg(req); err != nil && !errors.Is(err, io.EOF) {
				return err
			}
		}
		return nil
	}
	c.state.Reconnect()
	return c.send()
}

func (c *Client) receive(b []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.state.Receive(b); err != nil {
		return err
	}
	return c.changed()
}

// changed sends what there is to be sent and ends waits. c.mu is held.
func (c *Client) changed() error {
	var err error
	if c.send != nil {
		err = c.send()
	}
	rest := c.waits[:0]
	for _, w := range c.waits {
		if w.met(c.state) {
			close(w.done)
		} else {
			rest = append(rest, w)
		}
	}
	c.waits = rest
	return err
}

// Do calls f with the state and sends what it asked for.
func (c *Client) Do(f func(*State)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	f(c.state)
	return c.changed()
}

// Wait returns when the condition holds, which is looked at now, after every
// response and after Do, or when ctx ends. The condition must not keep the state.
func (c *Client) Wait(ctx context.Context, met func(*State) bool) error {
	c.mu.Lock()
	if met(c.state) {
		c.mu.Unlock()
		return nil
	}
	w := &waiter{met, make(chan struct{})}
	c.waits = append(c.waits, w)
	c.mu.Unlock()
	select {
	case <-w.done:
		return nil
	case <-ctx.Done():
		c.mu.Lock()
		defer c.mu.Unlock()
		for i := range c.waits {
			if c.waits[i] == w {
				c.waits = append(c.waits[:i], c.waits[i+1:]...)
				break
			}
		}
		return status.FromContextError(ctx.Err()).Err()
	}
}

// codec leaves responses as they arrived; State decodes what it needs.
type codec struct{ encoding.CodecV2 }

// Unmarshal implements encoding.CodecV2.
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	if raw, ok := v.(*mem.BufferSlice); ok {
		data.Ref()
		*raw = data
		return nil
	}
	return c.CodecV2.Unmarshal(data, v)
}
