package notice

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/store"
	"github.com/atoll-mesh/atoll/pkg/view"
)

// Config is what Run needs.
type Config struct {
	View  *view.View
	Store store.Store
	Log   *slog.Logger
	// Gaps finds what would break, as conditions. It is told what changed since it
	// was asked last, or that all may have. Nil: nobody looks.
	Gaps func(s *view.Snapshot, changed []resource.ID, all bool) []Condition
	// Metrics of Run; nil: none.
	Metrics *Metrics
}

// Metrics count notices. They outlive each time of leading.
type Metrics struct {
	written *prometheus.CounterVec
	lasting *prometheus.GaugeVec
	looks   prometheus.Histogram
}

// NewMetrics registers the metrics of notices.
func NewMetrics(r prometheus.Registerer) *Metrics {
	m := &Metrics{
		written: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "atoll_notices_total", Help: "Notices written, by event."}, []string{"event"}),
		lasting: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "atoll_conditions", Help: "What holds now and was noticed, by the event that it began with; where this instance leads."}, []string{"event"}),
		looks:   prometheus.NewHistogram(prometheus.HistogramOpts{Name: "atoll_gap_analysis_seconds", Help: "Time that looking for gaps took.", Buckets: prometheus.ExponentialBuckets(.001, 4, 8)}),
	}
	r.MustRegister(m.written, m.lasting, m.looks)
	return m
}

const (
	// keep is how many notices remain when nothing needs older ones, keepMost when
	// a webhook does.
	keep, keepMost = 1000, 10000
	batch          = 200 // notices of one transaction
	retry          = time.Second
)

// herald writes notices. It belongs to one goroutine.
type herald struct {
	Config
	done  *view.Snapshot // looked at completely
	holds map[resource.ID][]Condition
	gaps  []Condition
	found bool // gaps is known
	dirty bool // what holds changed since the last notices
}

// Run writes notices until ctx ends. The caller leads: ctx ends when that is
// lost, and carries the fence.
func Run(ctx context.Context, cfg Config) error {
	select {
	case <-cfg.View.Loaded():
	case <-ctx.Done():
		return ctx.Err()
	}
	h := &herald{Config: cfg, holds: map[resource.ID][]Condition{}, dirty: true}
	gaps := make(chan []Condition, 1)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if cfg.Gaps != nil {
		done := make(chan struct{})
		go func() {
			defer close(done)
			foresee(ctx, cfg, gaps)
		}()
		defer func() { cancel(); <-done }()
	}
	sub := cfg.View.Subscribe()
	defer sub.Close()
	for {
		again := time.Time{}
		switch err := h.pass(ctx); {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, store.ErrNotLeader), errors.Is(err, store.ErrClosed):
			return err
		case err != nil:
			cfg.Log.Warn("a notice could not be written; it is tried again", "error", err, "retryIn", retry)
			again = time.Now().Add(retry)
		}
		var expired <-chan time.Time
		if !again.IsZero() {
			expired = time.After(time.Until(again)) // the store is away
		}
		select {
		case <-sub.C():
		case h.gaps = <-gaps:
			h.found, h.dirty = true, true
		case <-expired:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// pass writes what follows from the newest snapshot.
func (h *herald) pass(ctx context.Context) error {
	s := h.View.Snapshot()
	h.look(s)
	for h.dirty {
		ops := h.ops(s)
		if len(ops) == 0 {
			h.dirty = false
			return nil
		}
		rev, err := h.Store.Write(ctx, ops...)
		if err != nil {
			return err
		}
		if s, err = h.View.Wait(ctx, rev); err != nil {
			return err
		}
	}
	return nil
}

// look finds what holds anew where something changed.
func (h *herald) look(s *view.Snapshot) {
	site := h.View.Site()
	look := func(id resource.ID) {
		c := conditions(s, site, id)
		if slices.EqualFunc(c, h.holds[id], Condition.same) {
			return
		}
		h.dirty = true
		if h.holds[id] = c; len(c) == 0 {
			delete(h.holds, id)
		}
	}
	var keys []view.Key
	known := false
	if h.done != nil {
		keys, known = h.View.Touched(h.done.Revision(), s)
	}
	h.done = s
	if !known {
		h.dirty = true
		clear(h.holds)
		for _, t := range []resource.Type{kind.ZoneLink, kind.ZoneInsight, kind.ZoneTraffic, kind.DataplaneInsight} {
			for o := range s.List(t, "") {
				for _, id := range about(s, o.ID) {
					look(id)
				}
			}
		}
		return
	}
	for _, k := range keys {
		if k.Table == view.Objects {
			for _, id := range about(s, k.ID) {
				look(id)
			}
		}
	}
}

// ops are the notices that are missing, and those that nobody needs any more.
func (h *herald) ops(s *view.Snapshot) []store.Op {
	last, lastNumber := lasting(s)
	now := map[string]Condition{}
	for _, list := range h.holds {
		for _, c := range list {
			now[c.Key] = c
		}
	}
	for _, c := range h.gaps {
		now[c.Key] = c
	}
	var fresh []kind.NoticeSpec
	at := time.Now().UTC().Truncate(time.Millisecond)
	for _, key := range slices.Sorted(maps.Keys(now)) {
		c := now[key]
		if was := last[key]; was == nil || was.Event != c.Event {
			fresh = append(fresh, kind.NoticeSpec{
				Event: c.Event, Key: key, Lasts: true, Time: at, Mesh: c.Mesh, Zone: c.Zone, Service: c.Service, Message: c.Message, Details: c.Details,
			})
		}
	}
	for _, key := range slices.Sorted(maps.Keys(last)) {
		was := last[key]
		if _, holds := now[key]; holds || was.Event == kind.EventGapOpened && !h.found {
			continue
		}
		fresh = append(fresh, kind.NoticeSpec{
			Event: ends[was.Event], Key: key, Time: at, Mesh: was.Mesh, Zone: was.Zone, Service: was.Service,
			Message: "over: " + was.Message, Details: was.Details,
		})
	}
	h.measure(now)
	more := len(fresh) > batch
	fresh = fresh[:min(len(fresh), batch)]
	var ops []store.Op
	k := h.View.Kinds().ByType(kind.Notice)
	for i := range fresh {
		n := &fresh[i]
		labels := map[string]string{}
		if n.Mesh != "" {
			labels[resource.LabelMesh] = n.Mesh
		}
		if n.Zone != "" {
			labels[resource.LabelZone] = n.Zone
		}
		id := resource.ID{Type: kind.Notice, Name: kind.NoticeName(lastNumber + 1 + uint64(i))}
		o, err := k.New(resource.Meta{ID: id, Labels: labels}, n, nil)
		if err != nil {
			h.Log.Error("a notice cannot be encoded", "event", n.Event, "key", n.Key, "error", err)
			continue
		}
		ops = append(ops, store.Put(o, store.Absent, store.ControlPlane))
		h.Log.Info("notice", "event", n.Event, "mesh", n.Mesh, "zone", n.Zone, "service", n.Service, "message", n.Message)
		if h.Metrics != nil {
			h.Metrics.written.WithLabelValues(n.Event).Inc()
		}
	}
	if len(ops) > 0 && !more {
		ops = append(ops, forget(s, last)...)
	}
	return ops
}

func (h *herald) measure(now map[string]Condition) {
	if h.Metrics == nil {
		return
	}
	counts := map[string]float64{}
	for _, c := range now {
		counts[c.Event]++
	}
	for begins := range ends {
		h.Metrics.lasting.WithLabelValues(begins).Set(counts[begins])
	}
}

// lasting are the notices whose ends nobody told yet, by key, and the number of
// the newest notice.
func lasting(s *view.Snapshot) (map[string]*kind.NoticeSpec, uint64) {
	last := map[string]*kind.NoticeSpec{}
	newest := uint64(0)
	for o := range s.List(kind.Notice, "") { // in order of their names
		n := resource.SpecOf[kind.NoticeSpec](o)
		newest = max(newest, kind.NoticeNumber(o.Name))
		if n.Lasts {
			last[n.Key] = n
		} else {
			delete(last, n.Key)
		}
	}
	return last, newest
}

// forget deletes the oldest notices: none that lasts, and none that a webhook has
// yet to tell, unless there are far too many.
func forget(s *view.Snapshot, last map[string]*kind.NoticeSpec) []store.Op {
	count := s.Count(kind.Notice, "")
	if count <= keep {
		return nil
	}
	needed := ""
	for o := range s.List(kind.Webhook, "") {
		st := resource.StatusOf[kind.WebhookStatus](o)
		if st == nil || resource.SpecOf[kind.WebhookSpec](o).Disabled {
			continue
		}
		if needed == "" || st.Cursor < needed {
			needed = st.Cursor
		}
	}
	var ops []store.Op
	for o := range s.List(kind.Notice, "") {
		excess := count - len(ops) - keep
		if excess <= 0 || len(ops) >= batch {
			break
		}
		if excess <= keepMost-keep && needed != "" && o.Name > needed {
			break
		}
		if n := resource.SpecOf[kind.NoticeSpec](o); last[n.Key] != n {
			ops = append(ops, store.Delete(o.ID, store.Any, store.ControlPlane))
		}
	}
	return ops
}
