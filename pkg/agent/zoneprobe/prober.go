// Package zoneprobe asks the entrances of other zones whether they are there. It
// asks through the agent's own Envoy, which proves the proxy's identity and makes
// a new connection for every probe, as a client of that zone would.
package zoneprobe

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"
)

const (
	// tick is the time between probes of an address that is in doubt; of one that
	// is not, it is calmPeriod.
	tick       = 500 * time.Millisecond
	calmPeriod = 2 * tick
	// lookPeriod is how often the agent looks whom to ask: Envoy does not tell its
	// neighbours that its configuration changed.
	lookPeriod = 2 * time.Second
	// reportPeriod is how often everything is reported, changed or not, so that a
	// control plane that was away knows.
	reportPeriod = 30 * time.Second
	// blindAfter is how long what was last found out counts when nothing more can be.
	blindAfter = 5 * time.Second
	// maxInFlight bounds probes of one address that are not answered yet.
	maxInFlight = 4
	// Pauses after a report that nobody took.
	retryMin = 500 * time.Millisecond
	retryMax = 5 * time.Second
)

// Target is one address of another zone.
type Target struct {
	Zone    string `json:"zone"`
	Address string `json:"address"`
	Port    uint32 `json:"port"`
	Path    string `json:"path"`
}

// Finding is what is known of a target.
type Finding struct {
	Zone      string    `json:"zone"`
	Address   string    `json:"address"`
	Port      uint32    `json:"port"`
	State     State     `json:"state"`
	Since     time.Time `json:"since"`
	RTTMillis float64   `json:"rttMillis,omitempty"`
	Loss      float64   `json:"loss,omitempty"`
	Reason    string    `json:"reason,omitempty"`
}

// ErrBlind says that the own Envoy could not be asked, which tells nothing about
// others.
var ErrBlind = errors.New("the own Envoy does not answer")

// Prober asks. All fields are required.
type Prober struct {
	// Targets says whom to ask; ErrBlind leaves that as it is.
	Targets func(context.Context) ([]Target, error)
	// Ask probes a target: nil when it answered for its zone, ErrBlind when that
	// could not be found out.
	Ask func(context.Context, Target) error
	// Report hands over what was found, of all targets. It is called by one
	// goroutine at a time, and again later when it fails.
	Report func(context.Context, []Finding) error
	Log    *slog.Logger
}

// watched is a target and what is going on with it.
type watched struct {
	Target
	*tracker
	launched time.Time
	heard    time.Time // when something was found out last
	inFlight int
}

type result struct {
	path string
	err  error
	rtt  time.Duration
}

// run is the state of Run. Only its goroutine touches it.
type run struct {
	*Prober
	targets map[string]*watched // by path
	results chan result
	reports chan []Finding // cap 1: the newest is yet to be sent
}

// Run asks until ctx ends.
func (p *Prober) Run(ctx context.Context) {
	r := &run{Prober: p, targets: map[string]*watched{}, results: make(chan result), reports: make(chan []Finding, 1)}
	sent := make(chan struct{})
	go func() { defer close(sent); r.send(ctx) }()
	defer func() { <-sent }()
	// Whom to ask is found beside the rest: an Envoy that hangs holds up nothing.
	found := make(chan []Target)
	go func() { defer close(found); r.look(ctx, found) }()
	// These timers are for time itself: nobody tells when another zone dies. Agents
	// start at different moments of it.
	if !pause(ctx, rand.N(tick)) {
		return
	}
	t, due := time.NewTicker(tick), time.NewTicker(reportPeriod)
	defer t.Stop()
	defer due.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			r.launch(ctx, time.Now())
		case <-due.C:
			r.report()
		case res := <-r.results:
			r.take(time.Now(), res)
		case list, ok := <-found:
			if ok {
				r.aim(list, time.Now())
			}
		}
	}
}

// launch probes what it is time for. When anything is in doubt all targets are
// asked as often, so that who is blind notices it everywhere at the same time.
func (r *run) launch(ctx context.Context, now time.Time) {
	calm := true
	for _, w := range r.targets {
		calm = calm && (w.state == Unknown || w.calm() && w.inFlight == 0)
	}
	for _, w := range r.targets {
		period := tick
		if calm || w.state == Unknown {
			period = calmPeriod
		}
		// Half a tick less: the ticker's own jitter must not skip a turn.
		if w.inFlight >= maxInFlight || now.Sub(w.launched) < period-tick/2 {
			continue
		}
		w.launched = now
		w.inFlight++
		target := w.Target
		go func() {
			started := time.Now()
			err := r.Ask(ctx, target)
			select {
			case r.results <- result{target.Path, err, time.Since(started)}:
			case <-ctx.Done():
			}
		}()
	}
}

func (r *run) take(now time.Time, res result) {
	w := r.targets[res.path]
	if w == nil {
		return // no longer asked
	}
	w.inFlight--
	if errors.Is(res.err, ErrBlind) {
		if w.state != Unknown && now.Sub(w.heard) >= blindAfter {
			r.Log.Warn("whether a zone can be reached is not known, because Envoy does not answer", "zone", w.Zone, "address", w.Address, "port", w.Port)
			w.forget(now)
			r.report()
		}
		return
	}
	w.heard = now
	o := outcome{ok: res.err == nil, rtt: res.rtt}
	if res.err != nil {
		o.reason = res.err.Error()
	}
	if !w.record(now, o) {
		return
	}
	if w.state != Up {
		r.Log.Warn("a zone cannot be reached", "zone", w.Zone, "address", w.Address, "port", w.Port, "reason", w.reason)
	} else {
		r.Log.Info("a zone can be reached", "zone", w.Zone, "address", w.Address, "port", w.Port, "roundTrip", w.rtt())
	}
	r.report()
}

// aim takes over whom to ask.
func (r *run) aim(list []Target, now time.Time) {
	changed := len(list) != len(r.targets)
	next := make(map[string]*watched, len(list))
	for _, t := range list {
		if next[t.Path] = r.targets[t.Path]; next[t.Path] == nil {
			next[t.Path] = &watched{Target: t, tracker: newTracker(now), heard: now}
			changed = true
		}
	}
	r.targets = next
	if changed {
		r.report()
	}
}

// report has everything sent, instead of what was to be sent before.
func (r *run) report() {
	list := make([]Finding, 0, len(r.targets))
	for _, w := range r.targets {
		list = append(list, Finding{
			Zone: w.Zone, Address: w.Address, Port: w.Port, State: w.state, Since: w.since,
			RTTMillis: float64(w.rtt().Microseconds()) / 1000, Loss: w.loss(), Reason: w.reason,
		})
	}
	slices.SortFunc(list, func(a, b Finding) int {
		if a.Zone != b.Zone {
			return compare(a.Zone, b.Zone)
		}
		if a.Address != b.Address {
			return compare(a.Address, b.Address)
		}
		return int(a.Port) - int(b.Port)
	})
	select {
	case <-r.reports:
	default:
	}
	r.reports <- list
}

func compare(a, b string) int {
	if a < b {
		return -1
	}
	return 1
}

// send hands over reports, the newest again and again until it is taken.
func (r *run) send(ctx context.Context) {
	var list []Finding
	wait, said, pending := retryMin, "", false
	for {
		if !pending {
			select {
			case list = <-r.reports:
			case <-ctx.Done():
				return
			}
		}
		err := r.Report(ctx, list)
		if pending = err != nil; !pending {
			wait, said = retryMin, ""
			continue
		}
		if err.Error() != said && ctx.Err() == nil {
			said = err.Error()
			r.Log.Warn("the control plane was not told what is known of other zones", "reason", said)
		}
		t := time.NewTimer(wait)
		select {
		case list = <-r.reports: // newer, and worth another try
			t.Stop()
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return
		}
		wait = min(2*wait, retryMax)
	}
}

// look finds whom to ask, again and again.
func (r *run) look(ctx context.Context, found chan<- []Target) {
	for {
		list, err := r.Targets(ctx)
		if err == nil {
			select {
			case found <- list:
			case <-ctx.Done():
				return
			}
		} else if !errors.Is(err, ErrBlind) && ctx.Err() == nil {
			r.Log.Warn("whom to ask in other zones is not understood", "error", err)
		}
		if !pause(ctx, lookPeriod) {
			return
		}
	}
}

func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
