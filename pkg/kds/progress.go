package kds

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	systemv1 "github.com/atoll-mesh/atoll/api/kuma/system/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/delta"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// progress is what is known about one direction of sync with one peer. Streams
// write it, anybody may read it.
type progress struct {
	// changed is called without lock after something happened; urgent marks what
	// people wait for, as opposed to counters.
	changed func(urgent bool)

	mu      sync.Mutex
	sender  uint64 // last revision of the sender that concerns the receiver
	applied uint64
	behind  time.Time // since when something is not applied; zero: in step
	since   time.Time
	counts  map[resource.Type]func() int // resources that the receiver has
	refused map[resource.Type]map[string]string
	stats   map[resource.Type]delta.Counters
}

func newProgress(changed func(urgent bool)) *progress {
	return &progress{
		changed: changed, since: time.Now(),
		counts:  map[resource.Type]func() int{},
		refused: map[resource.Type]map[string]string{},
		stats:   map[resource.Type]delta.Counters{},
	}
}

// reset starts a stream: what earlier ones knew no longer holds, but for
// rejections, which stay until they are resolved.
func (p *progress) reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sender, p.applied, p.behind, p.since = 0, 0, time.Time{}, time.Now()
	clear(p.counts)
	clear(p.stats)
}

// pending notes that the sender has a revision that the receiver lacks.
func (p *progress) pending(rev uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sender = max(p.sender, rev)
	if p.behind.IsZero() {
		p.behind = time.Now()
		p.since = p.behind
	}
}

// miss notes a revision of the sender that nobody is there to receive. It
// returns true if the receiver was in step before.
func (p *progress) miss(rev uint64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if rev <= p.sender {
		return false
	}
	p.sender = rev
	if !p.behind.IsZero() {
		return false
	}
	p.behind = time.Now()
	p.since = p.behind
	return true
}

// inStep notes that the receiver has everything.
func (p *progress) inStep(rev uint64) {
	p.mu.Lock()
	p.sender = max(p.sender, rev)
	if p.applied == p.sender && p.behind.IsZero() {
		p.mu.Unlock()
		return
	}
	p.applied = p.sender
	p.behind, p.since = time.Time{}, time.Now()
	p.mu.Unlock()
	p.changed(false)
}

// count says how to count the resources of a type that the receiver has. The
// function is called at any time, by anybody.
func (p *progress) count(t resource.Type, n func() int) {
	p.mu.Lock()
	p.counts[t] = n
	p.mu.Unlock()
}

// stat records the responses of a type.
func (p *progress) stat(t resource.Type, c delta.Counters) {
	p.mu.Lock()
	p.stats[t] = c
	p.mu.Unlock()
}

// reject replaces what is refused of a type: wire name to reason.
func (p *progress) reject(t resource.Type, reasons map[string]string) {
	p.mu.Lock()
	same := maps.Equal(p.refused[t], reasons)
	if len(reasons) == 0 {
		delete(p.refused, t)
	} else {
		p.refused[t] = maps.Clone(reasons)
	}
	p.mu.Unlock()
	if !same {
		p.changed(true)
	}
}

// direction is the state for people.
func (p *progress) direction() *systemv1.SyncDirection {
	p.mu.Lock()
	defer p.mu.Unlock()
	d := &systemv1.SyncDirection{
		GlobalRevision: p.sender, AppliedRevision: p.applied, Since: timestamppb.New(p.since),
		Kinds: map[string]*systemv1.SyncKind{},
	}
	if !p.behind.IsZero() {
		d.LagSeconds = time.Since(p.behind).Seconds()
	}
	for t, n := range p.counts {
		d.Kinds[string(t)] = &systemv1.SyncKind{Applied: uint64(n())}
	}
	for t, reasons := range p.refused {
		k := d.Kinds[string(t)]
		if k == nil {
			k = &systemv1.SyncKind{}
			d.Kinds[string(t)] = k
		}
		k.Rejected = rejections(reasons)
	}
	return d
}

// rejectionStatus is the error of a rejecting request: a text as the reference
// has it, and a list that Atoll peers read.
func rejectionStatus(reasons map[string]string) *rpcstatus.Status {
	list := rejections(reasons)
	if len(list) == 0 {
		return nil
	}
	texts := make([]string, len(list))
	for i, r := range list {
		texts[i] = r.Name + ": " + r.Reason
	}
	st := &rpcstatus.Status{Message: userError + strings.Join(texts, "; ")}
	if detail, err := anypb.New(&systemv1.SyncKind{Rejected: list}); err == nil {
		st.Details = []*anypb.Any{detail}
	}
	return st
}

// userError is how the text of a rejection starts when its cause is the
// resource and not the receiver.
const userError = "user error: "

// readRejections returns the list in an error; ok is false if it has none.
func readRejections(st *rpcstatus.Status) (reasons map[string]string, ok bool) {
	for _, d := range st.GetDetails() {
		var k systemv1.SyncKind
		if d.MessageIs(&k) && d.UnmarshalTo(&k) == nil {
			out := make(map[string]string, len(k.GetRejected()))
			for _, r := range k.GetRejected() {
				out[r.GetName()] = r.GetReason()
			}
			return out, true
		}
	}
	return nil, false
}

func rejections(reasons map[string]string) []*systemv1.SyncRejection {
	out := make([]*systemv1.SyncRejection, 0, len(reasons))
	for name, reason := range reasons {
		out = append(out, &systemv1.SyncRejection{Name: name, Reason: reason})
	}
	slices.SortFunc(out, func(a, b *systemv1.SyncRejection) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// status is the counters in the form that subscriptions have.
func (p *progress) status() *systemv1.KDSSubscriptionStatus {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := &systemv1.KDSSubscriptionStatus{
		LastUpdateTime: timestamppb.Now(), Total: &systemv1.KDSServiceStats{},
		Stat: map[string]*systemv1.KDSServiceStats{},
	}
	for t, c := range p.stats {
		s.Stat[string(t)] = &systemv1.KDSServiceStats{
			ResponsesSent: c.Sent, ResponsesAcknowledged: c.Acked, ResponsesRejected: c.Rejected,
		}
		s.Total.ResponsesSent += c.Sent
		s.Total.ResponsesAcknowledged += c.Acked
		s.Total.ResponsesRejected += c.Rejected
	}
	return s
}
