package xds

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/atoll-mesh/atoll/pkg/delta"
)

// Options are what a Server may be told.
type Options struct {
	// Identifier names this control plane in every response.
	Identifier string
	// Log gets the ends of streams that have a cause; nil: nothing is logged.
	Log *slog.Logger
}

// Server is the aggregated discovery service, in its incremental form only. It
// serves each stream the sets of the Session that its Handler opened for it.
type Server struct {
	discovery.UnimplementedAggregatedDiscoveryServiceServer
	handler Handler
	cfg     *delta.Config
	log     *slog.Logger
}

// NewServer returns a server to be registered with Register.
func NewServer(h Handler, opts Options) *Server {
	log := opts.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Server{handler: h, cfg: streamConfig(opts.Identifier), log: log}
}

// Register adds the service to a gRPC server. One that was made with
// ServerOptions shares the bytes of resources between streams; any other copies
// them into every response.
func (s *Server) Register(r grpc.ServiceRegistrar) {
	discovery.RegisterAggregatedDiscoveryServiceServer(r, s)
}

// StreamAggregatedResources is the state-of-the-world form, which is refused: it
// would be a second way to the same secrets.
func (s *Server) StreamAggregatedResources(grpc.BidiStreamingServer[discovery.DiscoveryRequest, discovery.DiscoveryResponse]) error {
	return status.Error(codes.Unimplemented, "only incremental xDS is served: set api_type DELTA_GRPC in ads_config")
}

// DeltaAggregatedResources serves one proxy until the stream ends.
func (s *Server) DeltaAggregatedResources(gs grpc.BidiStreamingServer[discovery.DeltaDiscoveryRequest, discovery.DeltaDiscoveryResponse]) error {
	first, err := gs.Recv()
	if err != nil {
		return ended(err)
	}
	if first.GetNode() == nil {
		return status.Error(codes.InvalidArgument, "node: the first request of a stream must say which proxy it is")
	}
	ctx, cancel := context.WithCancelCause(gs.Context())
	defer cancel(nil)
	session, err := s.handler.Open(context.WithValue(ctx, streamKey{}, cancel), first.GetNode(), len(first.GetInitialResourceVersions()) > 0)
	if err != nil {
		return asStatus(err, codes.PermissionDenied)
	}
	id := first.GetNode().GetId()
	st := &stream{gs: gs, session: session, state: delta.New(s.cfg)}
	err = st.run(ctx, first)
	if err != nil {
		s.log.Info("xds stream ended", "node", id, "error", err)
	}
	session.Close(err)
	return asStatus(err, codes.Internal)
}

// stream connects one gRPC stream to its state. All but receive runs in one
// goroutine.
type stream struct {
	gs        grpc.BidiStreamingServer[discovery.DeltaDiscoveryRequest, discovery.DeltaDiscoveryResponse]
	session   Session
	state     *delta.Stream
	set       *Set // what state was told
	listening bool
}

// run returns nil when the peer ended the stream.
func (st *stream) run(ctx context.Context, first *discovery.DeltaDiscoveryRequest) error {
	// Until there is a set, nothing more is read: what a peer states when it
	// reconnects waits in its own memory. Thousands may do so at once.
	for st.session.Set() == nil {
		select {
		case <-st.session.Changed():
		case <-ctx.Done():
			return cause(ctx)
		}
	}
	requests := make(chan *discovery.DeltaDiscoveryRequest)
	received := make(chan error, 1)
	go receive(ctx, st.gs, requests, received)

	if err := st.handle(first); err != nil {
		return err
	}
	first = nil
	// The timer fires when a gate expires or the proxy becomes degraded.
	timer := time.NewTimer(0)
	timer.Stop()
	defer timer.Stop()
	for {
		if err := st.deliver(requests); err != nil {
			return err
		}
		if st.state.News() {
			st.session.Delivered(st.report())
		}
		timer.Stop()
		now := time.Now()
		if at := st.state.Deadline(now); !at.IsZero() {
			timer.Reset(at.Sub(now))
		}
		select {
		case req := <-requests:
			if err := st.handle(req); err != nil {
				return err
			}
		case <-st.session.Changed():
		case <-timer.C:
		case err := <-received:
			return ended(err)
		case <-ctx.Done():
			return cause(ctx)
		}
	}
}

// deliver sends everything that may be sent. Requests that have arrived are taken
// first: what they ask for then shares a response.
func (st *stream) deliver(requests <-chan *discovery.DeltaDiscoveryRequest) error {
	for {
		for more := true; more; {
			select {
			case req := <-requests:
				if err := st.handle(req); err != nil {
					return err
				}
			default:
				more = false
			}
		}
		st.update()
		m := st.state.Next(time.Now())
		if m == nil {
			return nil
		}
		if err := st.gs.SendMsg(m); err != nil {
			return ended(err)
		}
	}
}

func (st *stream) handle(req *discovery.DeltaDiscoveryRequest) error {
	st.update()
	if err := st.state.Handle(req, time.Now()); err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	return nil
}

// update tells the state what is wanted now.
func (st *stream) update() {
	set := st.session.Set()
	if set == st.set || set == nil {
		return
	}
	st.set = set
	for t := range NumTypes {
		st.state.Want(int(t), set.Source(t))
	}
	st.state.At(set.Revision)
}

func (st *stream) report() Report {
	st.listening = st.listening || st.listens()
	r := Report{Revision: st.state.Delivered(), Degraded: st.state.Degraded(), Listening: st.listening}
	for t := range NumTypes {
		r.Types[t] = Counters(st.state.Counters(int(t)))
	}
	for _, rejected := range st.state.Rejections() {
		if t, ok := TypeOf(rejected.Type); ok {
			r.Rejections = append(r.Rejections, Rejection{t, rejected.Name, rejected.Version, rejected.Error, rejected.Since})
		}
	}
	return r
}

// listens tells whether the proxy has its listeners and what they wait for. It
// asks for their routes and secrets before it acknowledges them.
func (st *stream) listens() bool {
	if st.state.Counters(int(Listeners)).Acked == 0 {
		return false
	}
	for _, t := range []Type{Listeners, Routes, Secrets} {
		if i := int(t); st.state.Asked(i) && (!st.state.InStep(i) || st.state.Unanswered(i) > 0) {
			return false
		}
	}
	return true
}

// receive hands on requests until the stream ends.
func receive(ctx context.Context, gs grpc.BidiStreamingServer[discovery.DeltaDiscoveryRequest, discovery.DeltaDiscoveryResponse], requests chan<- *discovery.DeltaDiscoveryRequest, received chan<- error) {
	for {
		req, err := gs.Recv()
		if err != nil {
			received <- err
			return
		}
		select {
		case requests <- req:
		case <-ctx.Done():
			return
		}
	}
}

// ended returns nil for the end that a peer chose.
func ended(err error) error {
	if errors.Is(err, io.EOF) || status.Code(err) == codes.Canceled {
		return nil
	}
	return err
}

// cause returns why ctx is done: the error given to End, or nil when the peer went.
func cause(ctx context.Context) error {
	if err := context.Cause(ctx); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// asStatus makes an error a gRPC status, with a code if it has none.
func asStatus(err error, code codes.Code) error {
	if err == nil {
		return nil
	}
	if st, ok := status.FromError(err); ok {
		return st.Err()
	}
	return status.Error(code, err.Error())
}
