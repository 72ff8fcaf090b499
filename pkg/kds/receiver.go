package kds

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/store"
	"github.com/atoll-mesh/atoll/pkg/view"
)

// inflow is a stream seen from the side that receives resources: a client's
// GlobalToZoneSync or a server's ZoneToGlobalSync.
type inflow interface {
	Context() context.Context
	Recv() (*discovery.DeltaDiscoveryResponse, error)
	Send(*discovery.DeltaDiscoveryRequest) error
}

// ward is what differs between a zone that receives from its global and a
// global that receives from a zone.
type ward interface {
	// owns tells whether a stored resource is the peer's to change and delete.
	owns(o *resource.Object) bool
	// replaces tells whether the peer may put its resource in the place of one
	// that it does not own.
	replaces(o *resource.Object) bool
	// accept rewrites what arrived to what is stored, or refuses it.
	accept(p *parcel) error
	// admits refuses a resource for what it says, with the reason.
	admits(o *resource.Object) error
	// wireName is the name by which the peer knows a resource it owns.
	wireName(o *resource.Object) string
	// mayDelete tells whether deletions of what did not come on this stream are
	// believed; if not, why.
	mayDelete() error
	// keepsStatus says that the status is this side's own.
	keepsStatus() bool
	// applying adds to a write what shall be remembered with it.
	applying(rev uint64) []store.Op
	// arrived is told about everything that was stored, or was there already.
	arrived(o *resource.Object)
	// author is who changes are attributed to.
	author() string
}

// receiver is the receiving side of one stream. Each type is worked on by its
// own goroutine, so that a slow one holds up no other.
type receiver struct {
	ward     ward
	types    []resource.Type // in the order in which they are asked for
	node     *core.Node
	view     *view.View
	store    store.Store
	progress *progress
	log      *slog.Logger
	// news says that the peer reads requests that are no answers.
	news func() bool
	// atoll is closed when the peer turns out to be an Atoll; only then it is asked
	// for kinds that the reference does not know. Nil: never.
	atoll <-chan struct{}
	// wake makes types that hold back deletions look again. Nil: never.
	wake <-chan struct{}

	stream inflow
	sendMu sync.Mutex
	rev    uint64 // newest revision the sender stated; guarded by sendMu
	open   int    // responses being worked on; guarded by sendMu
	silent int    // types that were not answered yet; guarded by sendMu
}

const (
	retryFirst = time.Second
	retryMax   = 30 * time.Second
	// queued responses of one type; a sender waits for an answer anyway.
	queueLength = 4
)

// run asks for every type and serves the stream until it ends.
func (r *receiver) run(ctx context.Context, stream inflow) error {
	r.stream = stream
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel(nil)

	byType := map[resource.Type]*inType{}
	r.silent = len(r.types)
	for _, t := range r.types {
		it := r.start(t)
		byType[t] = it
		req := &discovery.DeltaDiscoveryRequest{
			Node: r.node, TypeUrl: string(t), ResourceNamesSubscribe: []string{"*"}, InitialResourceVersions: it.stated,
		}
		if it.kind.Native {
			wg.Go(func() {
				select {
				case <-r.atoll:
				case <-ctx.Done():
					return
				}
				if err := r.send(req); err != nil {
					cancel(err)
				}
			})
		} else if err := r.send(req); err != nil {
			return err
		}
		wg.Go(func() {
			if err := r.work(ctx, it); err != nil {
				cancel(err)
			}
		})
	}
	if r.wake != nil {
		wg.Go(func() { r.fanOut(ctx, byType) })
	}
	failed := make(chan error, 1)
	go func() { failed <- r.receive(ctx, byType) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// start states what is here of a type, so that only differences travel. The
// versions are computed from what is stored: a copy that was tampered with has
// another version than the original and is sent again.
func (r *receiver) start(t resource.Type) *inType {
	it := &inType{
		t: t, kind: r.view.Kinds().ByType(t),
		queue:  make(chan *discovery.DeltaDiscoveryResponse, queueLength),
		look:   make(chan struct{}, 1),
		stated: map[string]string{}, seen: map[string]bool{}, refused: map[string]*refusal{},
	}
	for o := range r.view.Snapshot().List(t, "") {
		if !r.ward.owns(o) {
			continue
		}
		p := &parcel{kind: o.Kind, name: r.ward.wireName(o), mesh: o.Mesh, labels: o.Labels, spec: o.SpecWire()}
		if !r.ward.keepsStatus() {
			p.status = o.StatusWire()
		}
		if res, err := p.encode(); err == nil {
			it.stated[res.Name] = res.Version
		}
	}
	it.held.Store(int64(len(it.stated)))
	r.progress.count(t, func() int { return int(it.held.Load()) })
	return it
}

func (r *receiver) send(req *discovery.DeltaDiscoveryRequest) error {
	r.sendMu.Lock()
	defer r.sendMu.Unlock()
	return r.stream.Send(req)
}

func (r *receiver) receive(ctx context.Context, byType map[resource.Type]*inType) error {
	for {
		resp, err := r.stream.Recv()
		if err != nil {
			return err
		}
		it := byType[resource.Type(resp.GetTypeUrl())]
		if it == nil {
			return status.Errorf(codes.InvalidArgument, "type %q was not asked for", resp.GetTypeUrl())
		}
		r.arriving(resp)
		select {
		case it.queue <- resp:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (r *receiver) fanOut(ctx context.Context, byType map[resource.Type]*inType) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.wake:
		}
		for _, it := range byType {
			select {
			case it.look <- struct{}{}:
			default:
			}
		}
	}
}

// arriving and done keep account of what is on its way to the store.
func (r *receiver) arriving(resp *discovery.DeltaDiscoveryResponse) {
	rev, _ := strconv.ParseUint(resp.GetSystemVersionInfo(), 10, 64) // empty from a stock peer
	r.sendMu.Lock()
	r.rev = max(r.rev, rev)
	r.open++
	r.sendMu.Unlock()
	r.progress.pending(rev)
}

func (r *receiver) done(first bool) {
	r.sendMu.Lock()
	r.open--
	if first {
		r.silent--
	}
	// A stock peer does not answer types that it does not know.
	idle, rev := r.open == 0 && (r.silent == 0 || !r.news()), r.rev
	r.sendMu.Unlock()
	if idle {
		r.progress.inStep(rev)
	}
}

// work applies the responses of one type in their order, and tries again what
// was refused for reasons that may pass.
func (r *receiver) work(ctx context.Context, it *inType) error {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		timer.Stop()
		var due <-chan time.Time
		if at, any := it.nextRetry(); any {
			timer.Reset(time.Until(at))
			due = timer.C
		}
		var err error
		select {
		case <-ctx.Done():
			return nil
		case resp := <-it.queue:
			first := it.stated != nil
			err = r.handle(ctx, it, resp)
			r.done(first)
		case <-due:
			err = r.retry(ctx, it, func(f *refusal) bool { return !f.guarded && !f.due.After(time.Now()) })
		case <-it.look:
			err = r.retry(ctx, it, func(f *refusal) bool { return f.guarded })
		}
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
	}
}

// handle applies one response and answers it. What cannot be applied is refused
// alone.
func (r *receiver) handle(ctx context.Context, it *inType, resp *discovery.DeltaDiscoveryResponse) error {
	it.nonce = resp.GetNonce()
	rev, _ := strconv.ParseUint(resp.GetSystemVersionInfo(), 10, 64)
	var changes []*incoming
	concerned := make([]string, 0, len(resp.GetResources()))
	for _, res := range resp.GetResources() {
		name := res.GetName()
		concerned = append(concerned, name)
		it.seen[name] = true
		delete(it.refused, name)
		c, err := r.read(it.kind, res)
		if err != nil {
			it.refused[name] = &refusal{reason: err.Error()}
			continue
		}
		changes = append(changes, c)
	}
	for _, name := range it.removed(resp) {
		concerned = append(concerned, name)
		delete(it.refused, name)
		c, err := r.readRemoval(it, name)
		if err != nil {
			it.refused[name] = &refusal{reason: err.Error()}
			continue
		}
		changes = append(changes, c)
	}
	it.stated = nil
	if err := r.apply(ctx, it, changes, rev); err != nil {
		return err
	}
	return r.answer(it, concerned)
}

// read turns a received resource into a change, or says what is wrong with it.
func (r *receiver) read(k *resource.Kind, res *discovery.Resource) (*incoming, error) {
	p, err := decode(k, res.GetName(), res.GetResource())
	if err != nil {
		return nil, err
	}
	if err := r.ward.accept(p); err != nil {
		return nil, err
	}
	if r.ward.keepsStatus() {
		p.status = nil
	}
	o, err := k.FromWire(resource.Meta{ID: p.id(), Labels: p.labels}, p.spec, p.status)
	if err != nil {
		return nil, err
	}
	if k.Validate != nil {
		if err := k.Validate(o).Err(); err != nil {
			return nil, fmt.Errorf("is not valid: %w", err)
		}
	}
	if err := r.ward.admits(o); err != nil {
		return nil, err
	}
	return &incoming{name: res.GetName(), id: p.id(), obj: o}, nil
}

func (r *receiver) readRemoval(it *inType, wire string) (*incoming, error) {
	name, mesh, err := splitWireName(wire)
	if err != nil {
		return nil, err
	}
	p := &parcel{kind: it.kind, name: name, mesh: mesh, labels: map[string]string{}}
	if err := r.ward.accept(p); err != nil {
		return nil, err
	}
	return &incoming{name: wire, id: p.id()}, nil
}

// answer acknowledges the last response, or rejects it if anything in it was
// refused. An Atoll peer learns of everything of the type that is refused, each
// time anew.
func (r *receiver) answer(it *inType, concerned []string) error {
	req := r.reply(it)
	bad := r.news() && len(it.refused) > 0
	for _, name := range concerned {
		bad = bad || it.refused[name] != nil
	}
	if bad {
		if req.ErrorDetail = rejectionStatus(it.reasons()); req.ErrorDetail != nil {
			req.ResourceNamesSubscribe = []string{"*"}
		}
	}
	bad = req.ErrorDetail != nil
	it.stats.Sent++
	if bad {
		it.stats.Rejected++
	} else {
		it.stats.Acked++
	}
	r.publish(it)
	return r.send(req)
}

// reply is a request about the last response.
func (r *receiver) reply(it *inType) *discovery.DeltaDiscoveryRequest {
	return &discovery.DeltaDiscoveryRequest{
		Node: &core.Node{Id: r.node.GetId()}, TypeUrl: string(it.t), ResponseNonce: it.nonce,
	}
}

// publish makes the state of a type known.
func (r *receiver) publish(it *inType) {
	r.progress.stat(it.t, it.stats)
	r.progress.reject(it.t, it.reasons())
	r.progress.changed(false)
}

// retry applies again the refused changes that which selects, and tells the
// peer if that changed anything.
func (r *receiver) retry(ctx context.Context, it *inType, which func(*refusal) bool) error {
	var changes []*incoming
	before := map[string]*refusal{}
	for name, f := range it.refused {
		if f.retry != nil && which(f) {
			changes = append(changes, f.retry)
			before[name] = f
			delete(it.refused, name)
		}
	}
	if len(changes) == 0 {
		return nil
	}
	if err := r.apply(ctx, it, changes, 0); err != nil {
		return err
	}
	news := false
	for name, old := range before {
		f := it.refused[name]
		news = news || f == nil || f.reason != old.reason
		if f != nil {
			f.pause = min(max(2*old.pause, retryFirst), retryMax)
			f.due = time.Now().Add(f.pause)
		}
	}
	if !news {
		return nil
	}
	r.publish(it)
	if !r.news() {
		return nil
	}
	req := r.reply(it)
	req.ErrorDetail = rejectionStatus(it.reasons())
	return r.send(req)
}

// ended tells whether a store's error ends the stream, because nothing written
// here would count any more.
func ended(err error) bool {
	return errors.Is(err, store.ErrClosed) || errors.Is(err, store.ErrNotLeader)
}
