package webhook

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"net/url"
	"reflect"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	system_proto "github.com/atoll-mesh/atoll/api/kuma/system/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/notice"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/store"
	"github.com/atoll-mesh/atoll/pkg/view"
)

// Config is what Run needs.
type Config struct {
	View  *view.View
	Store store.Store
	Log   *slog.Logger
	// Allow are addresses that hooks may call though they are the control plane's
	// own.
	Allow   []netip.Prefix
	Metrics *Metrics // nil: none
	// Pause after the first failure; it doubles with each. 0: one second.
	Pause time.Duration
}

// Metrics count deliveries. They outlive each time of leading.
type Metrics struct {
	attempts *prometheus.CounterVec
	pending  *prometheus.GaugeVec
}

// NewMetrics registers the metrics of webhooks.
func NewMetrics(r prometheus.Registerer) *Metrics {
	m := &Metrics{
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "atoll_webhook_attempts_total", Help: "Attempts to deliver a notice: delivered, failed (tried again) or dead (given up)."}, []string{"webhook", "outcome"}),
		pending:  prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "atoll_webhook_failures", Help: "Failures in a row of the delivery that a webhook is at; where this instance leads."}, []string{"webhook"}),
	}
	r.MustRegister(m.attempts, m.pending)
	return m
}

// Pauses between attempts double from the first to the most, with jitter.
const (
	pauseFirst = time.Second
	pauseMost  = 3 * time.Minute
	// storeRetry is the pause after the store could not be written.
	storeRetry = time.Second
	// unwanted is how many notices a hook passes over before it remembers that.
	unwanted = 200
	// maxDead is how many dead letters a hook keeps.
	maxDead = 50
)

// Run delivers notices until ctx ends. The caller leads: ctx ends when that is
// lost, and carries the fence. Each hook has its own goroutine, so that a slow
// receiver holds back nobody else.
func Run(ctx context.Context, cfg Config) error {
	select {
	case <-cfg.View.Loaded():
	case <-ctx.Done():
		return ctx.Err()
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	running := map[string]context.CancelFunc{}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel(nil)
	sub := cfg.View.Subscribe()
	defer sub.Close()
	var done *view.Snapshot
	for {
		s := cfg.View.Snapshot()
		if done == nil || touchesHooks(cfg.View, done, s) {
			here := map[string]bool{}
			for o := range s.List(kind.Webhook, "") {
				here[o.Name] = true
				if running[o.Name] == nil {
					hookCtx, stop := context.WithCancel(ctx)
					running[o.Name] = stop
					h := &hook{Config: cfg, id: o.ID}
					wg.Go(func() {
						if err := h.run(hookCtx); err != nil && hookCtx.Err() == nil {
							cancel(err)
						}
					})
				}
			}
			for name, stop := range running {
				if !here[name] {
					stop()
					delete(running, name)
				}
			}
		}
		done = s
		select {
		case <-sub.C():
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func touchesHooks(v *view.View, old, s *view.Snapshot) bool {
	keys, ok := v.Touched(old.Revision(), s)
	if !ok {
		return true
	}
	for _, k := range keys {
		if k.Type == kind.Webhook {
			return true
		}
	}
	return false
}

// hook delivers to one receiver. It belongs to one goroutine.
type hook struct {
	Config
	id     resource.ID
	spec   *kind.WebhookSpec // that client is for
	client *http.Client
}

// run delivers one notice after the other until the hook is gone.
func (h *hook) run(ctx context.Context) error {
	sub := h.View.Subscribe()
	defer sub.Close()
	for {
		next, err := h.step(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, store.ErrNotLeader), errors.Is(err, store.ErrClosed):
			return err
		case errors.Is(err, store.ErrConflict):
			continue // the view has what somebody else wrote
		case err != nil:
			h.Log.Warn("the progress of a webhook could not be written; it is tried again", "webhook", h.id.Name, "error", err, "retryIn", storeRetry)
			next = time.Now().Add(storeRetry)
		case next.IsZero():
		case !next.After(time.Now()):
			continue
		}
		if err := sub.Wait(ctx, next); err != nil {
			return err
		}
	}
}

// step makes at most one attempt, and returns when the next may follow: zero when
// there is nothing to deliver.
func (h *hook) step(ctx context.Context) (time.Time, error) {
	s := h.View.Snapshot()
	o := s.Get(h.id)
	if o == nil {
		return time.Time{}, nil // Run stops this
	}
	spec := resource.SpecOf[kind.WebhookSpec](o)
	st := &kind.WebhookStatus{}
	if was := resource.StatusOf[kind.WebhookStatus](o); was != nil {
		*st = *was
	} else { // new: what was before does not concern it
		st.Cursor = kind.NoticeName(newest(s))
		return time.Now(), h.write(ctx, o, st)
	}
	if spec.Disabled {
		return time.Time{}, nil
	}
	n, missed := following(s, spec, st.Cursor)
	if missed > 0 {
		h.Log.Warn("notices were forgotten before a webhook was told of them", "webhook", h.id.Name, "count", missed)
		st.Missed += missed
		st.Cursor = kind.NoticeName(kind.NoticeNumber(st.Cursor) + uint64(missed))
	}
	if n == nil {
		// Notices that it does not want are not kept for it for ever.
		if top := newest(s); top >= kind.NoticeNumber(st.Cursor)+unwanted {
			st.Cursor = kind.NoticeName(top)
			return time.Now(), h.write(ctx, o, st)
		}
		return time.Time{}, nil
	}
	f := st.Failing
	if f != nil && f.Notice != n.Name {
		f = nil
	}
	if f != nil && f.Next.After(time.Now()) && reflect.DeepEqual(h.spec, spec) {
		return f.Next, nil
	}
	if !reflect.DeepEqual(h.spec, spec) {
		if h.client != nil {
			h.client.CloseIdleConnections()
		}
		h.spec, h.client = spec, client(spec, h.Allow)
	}
	content := resource.SpecOf[kind.NoticeSpec](n)
	err := h.deliver(ctx, s, spec, n.Name, content)
	if ctx.Err() != nil {
		return time.Time{}, ctx.Err()
	}
	_, limit := spec.Limits()
	now := time.Now().UTC().Truncate(time.Millisecond)
	var never *refusal
	attempts := int32(1)
	if f != nil {
		attempts += f.Attempts
	}
	switch {
	case err == nil:
		h.count("delivered", 0)
		st.Cursor, st.Failing = n.Name, nil
		st.Delivered++
	case errors.As(err, &never) || attempts >= limit:
		h.count("dead", 0)
		h.Log.Warn("a notice could not be delivered and is given up", "webhook", h.id.Name, "notice", n.Name, "attempts", attempts, "error", err)
		st.Cursor, st.Failing = n.Name, nil
		st.Dead++
		st.DeadLetters = append(st.DeadLetters[max(0, len(st.DeadLetters)-maxDead+1):len(st.DeadLetters):len(st.DeadLetters)],
			kind.DeadLetter{Notice: n.Name, Attempts: attempts, Time: now, Error: err.Error(), Content: *content})
	default:
		h.count("failed", attempts)
		since := now
		if f != nil {
			since = f.Since
		}
		st.Failing = &kind.Failing{Notice: n.Name, Attempts: attempts, Since: since, Next: now.Add(h.pause(attempts)), Error: err.Error()}
		return st.Failing.Next, h.write(ctx, o, st)
	}
	return time.Now(), h.write(ctx, o, st)
}

// pause before the next attempt: between half and all of what doubles each time.
func (h *hook) pause(attempts int32) time.Duration {
	first := h.Pause
	if first == 0 {
		first = pauseFirst
	}
	d := pauseMost
	if attempts < 10 {
		d = min(pauseMost, first<<(attempts-1))
	}
	return d/2 + rand.N(d/2)
}

func (h *hook) count(outcome string, failures int32) {
	if h.Metrics != nil {
		h.Metrics.attempts.WithLabelValues(h.id.Name, outcome).Inc()
		h.Metrics.pending.WithLabelValues(h.id.Name).Set(float64(failures))
	}
}

// deliver makes one attempt.
func (h *hook) deliver(ctx context.Context, s *view.Snapshot, spec *kind.WebhookSpec, name string, n *kind.NoticeSpec) error {
	var secret []byte
	if spec.Secret != nil {
		o := s.Get(resource.ID{Type: kind.GlobalSecret, Name: spec.Secret.Name})
		if o != nil {
			if v, ok := o.Spec.(*system_proto.Secret); ok {
				secret = v.GetData().GetValue()
			}
		}
		if len(secret) == 0 {
			return errors.New("the GlobalSecret " + spec.Secret.Name + " with which requests are signed does not exist, or is empty")
		}
	}
	err := post(ctx, h.client, spec.URL, secret, notice.Encode(notice.Source(s, h.View.Site()), name, n))
	var u *url.Error
	if errors.As(err, &u) { // it holds the URL, whose query may be secret
		err = u.Err
	}
	return err
}

// write stores how far the hook is, and waits until the view has it.
func (h *hook) write(ctx context.Context, o *resource.Object, st *kind.WebhookStatus) error {
	meta := o.Meta
	meta.Modified = time.Time{}
	next, err := o.Kind.New(meta, o.Spec, st)
	if err != nil {
		return err
	}
	rev, err := h.Store.Write(ctx, store.Put(next, int64(o.Version), store.ControlPlane))
	if errors.Is(err, store.ErrConflict) {
		b, readErr := h.Store.Read(ctx, h.View.Snapshot().Revision(), 1)
		if readErr != nil {
			return readErr
		}
		if _, waitErr := h.View.Wait(ctx, b.Head); waitErr != nil {
			return waitErr
		}
		return err
	}
	if err != nil {
		return err
	}
	_, err = h.View.Wait(ctx, rev)
	return err
}

func newest(s *view.Snapshot) uint64 {
	n := uint64(0)
	for o := range s.List(kind.Notice, "") {
		n = max(n, kind.NoticeNumber(o.Name))
	}
	return n
}

// following is the first notice after a cursor that a hook wants, and how many
// before it are gone.
func following(s *view.Snapshot, spec *kind.WebhookSpec, cursor string) (first *resource.Object, missed int64) {
	at := kind.NoticeNumber(cursor)
	begun := false
	for o := range s.List(kind.Notice, "") {
		n := kind.NoticeNumber(o.Name)
		if n <= at {
			begun = true
			continue
		}
		if !begun && n > at+1 && missed == 0 {
			missed = int64(n - at - 1)
		}
		begun = true
		if spec.Wants(resource.SpecOf[kind.NoticeSpec](o)) {
			return o, missed
		}
	}
	return nil, 0
}
