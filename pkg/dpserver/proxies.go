package dpserver

import (
	"context"
	"sync"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	meshproto "github.com/atoll-mesh/atoll/api/kuma/mesh/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/auth"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/xds"
)

// proxies knows every connected proxy and those that left a moment ago. It is
// the xds.Handler of this server.
type proxies struct {
	s *Server

	// mu guards everything below, the fields of seats included. Nothing is waited
	// for and no foreign code runs while it is held.
	mu       sync.Mutex
	seats    map[resource.ID]*seat
	stopping bool
	streams  sync.WaitGroup
	starters starters
}

// seat is the place of one proxy: at most one session occupies it.
type seat struct {
	current *session
	opening int         // streams that are being admitted
	timer   *time.Timer // runs while a registered Dataplane waits for its proxy
	due     bool        // the timer ran out while a stream was being admitted
	removal chan struct{}
}

func newProxies(s *Server) *proxies {
	return &proxies{s: s, seats: map[resource.ID]*seat{}}
}

// Open admits a stream by its first request: who it is, whether it may be that,
// and its Dataplane. The former stream of the same proxy, if any, ends. An Envoy
// that has nothing yet is starting, until it says otherwise, on this stream or
// another; not so when very many are already.
func (ps *proxies) Open(ctx context.Context, node *core.Node, returns bool) (xds.Session, error) {
	p, err := parseNode(node)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	token, err := tokenOf(ctx)
	if err != nil {
		return nil, err
	}
	if err := ps.enter(ctx, p.ID); err != nil {
		return nil, err
	}
	starting := (!returns || ps.s.starting(p.ID)) && ps.starters.enter()
	sess := newSession(ps.s, p, starting, func(err error) { xds.End(ctx, err) })
	if err := ps.s.admit(ctx, sess, token); err != nil {
		sess.leaveStart()
		ps.leaveUnadmitted(p.ID)
		ps.s.log.Warn("a proxy was refused", "mesh", p.ID.Mesh, "proxy", p.ID.Name, "error", err)
		return nil, err
	}
	sess.proxy.Node = nil // it was read; its Dataplane as text alone is half a kilobyte
	old, ok := ps.occupy(p.ID, sess)
	if !ok {
		sess.leaveStart()
		return nil, status.Error(codes.Unavailable, "this control plane is stopping; connect again")
	}
	if old != nil {
		ps.s.log.Info("a proxy connected again; its former stream ends", "mesh", p.ID.Mesh, "proxy", p.ID.Name)
		old.replace()
	}
	sess.Attachment = ps.s.cfg.Attach(p.ProxyInfo)
	sess.Prove(sess.proved)
	sess.Exports(sess.exporting)
	ps.s.writer.changed(sess)
	return sess, nil
}

// starting tells whether a proxy was starting when it was last heard of.
func (s *Server) starting(id resource.ID) bool {
	o := s.cfg.View.Snapshot().Get(resource.ID{Type: kind.DataplaneInsight, Mesh: id.Mesh, Name: id.Name})
	return o != nil && kind.Starting(resource.SpecOf[meshproto.DataplaneInsight](o))
}

// tokenOf returns the token of a stream, empty when it has none.
func tokenOf(ctx context.Context) (string, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	switch v := md.Get("authorization"); len(v) {
	case 0:
		return "", nil
	case 1:
		return auth.RawOrBearer(v[0]), nil
	}
	return "", status.Error(codes.InvalidArgument, "more than one authorization was sent")
}

func (ps *proxies) seat(id resource.ID) *seat {
	st := ps.seats[id]
	if st == nil {
		st = &seat{}
		ps.seats[id] = st
	}
	return st
}

// enter holds off the removal of a Dataplane while a stream is being admitted,
// and waits for one that has begun.
func (ps *proxies) enter(ctx context.Context, id resource.ID) error {
	for {
		ps.mu.Lock()
		if ps.stopping {
			ps.mu.Unlock()
			return status.Error(codes.Unavailable, "this control plane is stopping; connect again")
		}
		st := ps.seat(id)
		removal := st.removal
		if removal == nil {
			st.opening++
			ps.mu.Unlock()
			return nil
		}
		ps.mu.Unlock()
		select {
		case <-removal:
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		}
	}
}

func (ps *proxies) leaveUnadmitted(id resource.ID) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	st := ps.seat(id)
	st.opening--
	if st.due && st.opening == 0 {
		ps.remove(id, st)
	}
	ps.tidy(id, st)
}

// occupy gives the seat to a new session and returns the one that had it.
func (ps *proxies) occupy(id resource.ID, s *session) (old *session, ok bool) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	st := ps.seat(id)
	st.opening--
	if ps.stopping {
		return nil, false
	}
	old, st.current = st.current, s
	st.due = false
	if st.timer != nil {
		st.timer.Stop()
		st.timer = nil
	}
	ps.streams.Add(1)
	return old, true
}

// left is called once for each session that occupied a seat, when it is over.
func (ps *proxies) left(s *session) {
	defer ps.streams.Done()
	id := s.proxy.ID
	ps.mu.Lock()
	defer ps.mu.Unlock()
	st := ps.seat(id)
	if st.current != s {
		return // replaced by a newer stream
	}
	st.current = nil
	ps.s.tellAgent(id, ps.s.questions.get(id)) // its Envoy may go to another replica
	if s.brought && !ps.stopping {
		ps.scheduleRemoval(id, st, ps.s.cfg.DeregistrationDelay)
	}
	ps.tidy(id, st)
}

// scheduleRemoval starts the time that a Dataplane outlives its proxy's stream.
func (ps *proxies) scheduleRemoval(id resource.ID, st *seat, delay time.Duration) {
	var t *time.Timer
	t = time.AfterFunc(delay, func() {
		ps.mu.Lock()
		defer ps.mu.Unlock()
		if st.timer != t || ps.stopping { // the proxy is back, or we are going
			return
		}
		st.timer = nil
		if st.opening > 0 {
			st.due = true
			return
		}
		ps.remove(id, st)
	})
	st.timer = t
}

// remove hands a Dataplane to the writer, which deletes it with its insight
// unless another control plane serves the proxy by now. Streams that arrive
// meanwhile wait for the outcome, so that their registration comes after it.
func (ps *proxies) remove(id resource.ID, st *seat) {
	st.due = false
	removal := make(chan struct{})
	st.removal = removal
	ps.s.writer.remove(id, func() {
		ps.mu.Lock()
		defer ps.mu.Unlock()
		st.removal = nil
		close(removal)
		ps.tidy(id, st)
	})
}

// tidy forgets an empty seat.
func (ps *proxies) tidy(id resource.ID, st *seat) {
	if st.current == nil && st.opening == 0 && st.timer == nil && st.removal == nil && !st.due && ps.seats[id] == st {
		delete(ps.seats, id)
	}
}

// stop refuses new streams and keeps every Dataplane from now on.
func (ps *proxies) stop() {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	ps.stopping = true
	for _, st := range ps.seats {
		if st.timer != nil {
			st.timer.Stop()
		}
	}
}

// wait returns when all sessions are over or ctx ends.
func (ps *proxies) wait(ctx context.Context) {
	done := make(chan struct{})
	go func() {
		ps.streams.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// Connected tells how a proxy that is connected here is doing.
func (s *Server) Connected(id resource.ID) (Status, bool) {
	s.proxies.mu.Lock()
	var sess *session
	if st := s.proxies.seats[id]; st != nil {
		sess = st.current
	}
	s.proxies.mu.Unlock()
	if sess == nil {
		return Status{}, false
	}
	return sess.snapshot(), true
}

// Count is the number of proxies that are connected here.
func (s *Server) Count() int {
	s.proxies.mu.Lock()
	defer s.proxies.mu.Unlock()
	n := 0
	for _, st := range s.proxies.seats {
		if st.current != nil {
			n++
		}
	}
	return n
}
