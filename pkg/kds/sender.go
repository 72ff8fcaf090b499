package kds

import (
	"context"
	"log/slog"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"github.com/atoll-mesh/atoll/pkg/delta"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/view"
)

const (
	// chunkBytes is how large a response gets that may be cut into several.
	chunkBytes = 1 << 20
	// window is how many responses of one type may be unanswered. Changes that
	// come while it is full make up the next response together.
	window = 4
)

// duplex is a stream seen from the side that sends resources: a server's
// GlobalToZoneSync or a client's ZoneToGlobalSync.
type duplex interface {
	Recv() (*discovery.DeltaDiscoveryRequest, error)
	SendMsg(m any) error
}

// sender is the sending side of one stream. Everything but receiving happens on
// the goroutine of run.
type sender struct {
	self     string // control_plane.identifier
	box      *outbox
	zone     string // whose resources are not echoed; empty: a global's peer has none
	features features
	progress *progress
	log      *slog.Logger
	// first is told about the node that the first request states. Nil: nobody.
	first func(*core.Node)
	// recheck is called when secrets may have changed who may be here. Nil: never.
	recheck func() error

	stream  *delta.Stream
	index   map[resource.Type]int
	sources []*source // by index
	sent    *outState // that the stream wants
	epoch   uint64
	allow   func(*entry) bool
	asked   bool
	// refused counts responses whose rejection came with a list; the stream takes
	// those as acknowledged, because nothing is to be found out any more.
	refused []uint64
	named   map[resource.Type]map[string]string // those lists
}

// run serves the stream until it ends.
func (s *sender) run(ctx context.Context, peer duplex) error {
	s.begin()
	sub := s.box.view.Subscribe()
	defer sub.Close()
	requests := make(chan *discovery.DeltaDiscoveryRequest)
	failed := make(chan error, 1)
	go func() {
		for {
			req, err := peer.Recv()
			if err != nil {
				failed <- err
				return
			}
			select {
			case requests <- req:
			case <-ctx.Done():
				return
			}
		}
	}()
	var checked trustMark
	// retry is for resources that a stock peer rejected.
	retry := time.NewTimer(time.Hour)
	defer retry.Stop()
	for {
		retry.Stop()
		if at := s.stream.Deadline(time.Now()); !at.IsZero() {
			retry.Reset(time.Until(at))
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case err := <-failed:
			return err
		case req := <-requests:
			if err := s.request(req); err != nil {
				return err
			}
		case <-sub.C():
			if s.recheck != nil && checked.touched(s.box.view) {
				if err := s.recheck(); err != nil {
					return err
				}
			}
		case <-retry.C:
		}
		if err := s.flush(peer); err != nil {
			return err
		}
	}
}

func (s *sender) begin() {
	cfg := &delta.Config{
		Identifier: s.self, MaxBytes: chunkBytes, Window: window,
		RetryMin: retryFirst, RetryMax: retryMax,
	}
	s.index = map[resource.Type]int{}
	for i, t := range s.box.types {
		s.index[t] = i
		// A stock peer deletes whatever its first response of a type lacks.
		cfg.Types = append(cfg.Types, delta.Type{URL: string(t), WholeFirst: !s.features[featureAtoll]})
	}
	s.stream = delta.New(cfg)
	s.sources = make([]*source, len(cfg.Types))
	s.refused = make([]uint64, len(cfg.Types))
	s.named = map[resource.Type]map[string]string{}
}

// request takes a subscription, an acknowledgement or a rejection.
func (s *sender) request(req *discovery.DeltaDiscoveryRequest) error {
	if s.first != nil && req.GetNode() != nil {
		s.features.addNode(req.GetNode())
		s.allow = nil
		s.first(req.GetNode())
		s.first = nil
	}
	s.asked = true
	t := resource.Type(req.GetTypeUrl())
	i, known := s.index[t]
	if !known {
		// Such a type is empty, but that is no reason to delete what the peer has.
		req.InitialResourceVersions = nil
		return s.stream.Handle(req, time.Now())
	}
	if req.GetErrorDetail() != nil {
		s.log.Warn("resources were rejected", "type", t, "error", req.GetErrorDetail().GetMessage())
	}
	if list, ok := readRejections(req.GetErrorDetail()); ok {
		// The peer stored the rest, tries these again by itself, and always sends
		// the whole list.
		s.named[t] = list
		acked := s.stream.Counters(i).Acked
		err := s.stream.Handle(&discovery.DeltaDiscoveryRequest{TypeUrl: req.GetTypeUrl(), ResponseNonce: req.GetResponseNonce()}, time.Now())
		s.refused[i] += s.stream.Counters(i).Acked - acked
		s.report()
		return err
	}
	if req.GetResponseNonce() != "" && s.named[t] != nil {
		delete(s.named, t)
		defer s.report()
	}
	if len(req.GetInitialResourceVersions()) == 0 && req.GetResponseNonce() != "" {
		// A stock peer that rejects subscribes to everything once more.
		req = &discovery.DeltaDiscoveryRequest{
			TypeUrl: req.GetTypeUrl(), ResponseNonce: req.GetResponseNonce(), ErrorDetail: req.GetErrorDetail(),
		}
	}
	return s.stream.Handle(req, time.Now())
}

// flush sends what may be sent now and reports how far the peer is.
func (s *sender) flush(peer duplex) error {
	if !s.asked {
		return nil
	}
	s.want(s.box.current())
	for {
		m := s.stream.Next(time.Now())
		if m == nil {
			break
		}
		if err := peer.SendMsg(m); err != nil {
			return err
		}
	}
	rev := uint64(s.sent.rev)
	if s.stream.Delivered() == rev {
		s.progress.inStep(rev)
	} else {
		s.progress.pending(rev)
	}
	if s.stream.News() {
		s.report()
	}
	return nil
}

// want gives the stream what changed.
func (s *sender) want(state *outState) {
	if state == s.sent && s.allow != nil {
		return
	}
	if s.allow == nil || state.epoch != s.sent.epoch {
		s.epoch++
		s.allow = s.filter(state.disabled)
	}
	for t, i := range s.index {
		tab := state.tables[t]
		if src := s.sources[i]; src == nil || src.tab != tab || src.epoch != s.epoch {
			s.sources[i] = &source{tab: tab, allow: s.allow, epoch: s.epoch}
			s.stream.Want(i, s.sources[i])
		}
	}
	s.sent = state
	s.stream.At(uint64(state.rev))
}

// filter says which entries this peer may have.
func (s *sender) filter(disabled map[string]bool) func(*entry) bool {
	zone, may := s.zone, make(features, len(s.features))
	for f := range s.features {
		may[f] = true
	}
	return func(e *entry) bool {
		if e.zone != "" && (e.zone == zone || disabled[e.zone]) {
			return false
		}
		return e.feature == "" || may[e.feature]
	}
}

func (s *sender) report() {
	refused := map[resource.Type]map[string]string{}
	for _, r := range s.stream.Rejections() {
		t := resource.Type(r.Type)
		if refused[t] == nil {
			refused[t] = map[string]string{}
		}
		refused[t][r.Name] = r.Error
	}
	for t, i := range s.index {
		if !s.stream.Asked(i) {
			continue
		}
		c := s.stream.Counters(i)
		c.Rejected += s.refused[i]
		c.Acked -= min(c.Acked, s.refused[i])
		s.progress.stat(t, c)
		s.progress.count(t, s.sources[i].Len)
		list := s.named[t]
		if list == nil {
			list = refused[t]
		}
		s.progress.reject(t, list)
	}
	s.progress.changed(false)
}

// trustMark remembers up to where the secrets were looked at.
type trustMark struct{ snap *view.Snapshot }

// touched reports whether a GlobalSecret may have changed since the last call.
func (m *trustMark) touched(v *view.View) bool {
	snap := v.Snapshot()
	prev := m.snap
	m.snap = snap
	if prev == nil || prev == snap {
		return false
	}
	keys, ok := v.Touched(prev.Revision(), snap)
	if !ok {
		return true
	}
	for _, k := range keys {
		if k.Table == view.Objects && k.Type == kind.GlobalSecret {
			return true
		}
	}
	return false
}
