package zoneprobe

import (
	"slices"
	"time"
)

// State is what an agent says of an address.
type State string

// The states. An address is Unknown until it answered once: one that never did
// may be of a zone that does not answer probes.
const (
	Up      State = "Up"
	Down    State = "Down"
	Unknown State = "Unknown"
)

const (
	// failuresToDown in a row make an address Down.
	failuresToDown = 3
	// successToUp is how long an address that was Down must answer every probe.
	successToUp = 3 * time.Second
	// remembered is how many outcomes loss and round-trip time are taken from.
	remembered = 30
)

// outcome is how one probe ended.
type outcome struct {
	ok     bool
	rtt    time.Duration
	reason string // of a failure
}

// tracker is what is known of one address. It knows no clock.
type tracker struct {
	state    State
	since    time.Time
	failures int       // in a row
	good     time.Time // since when every probe is answered; zero: the last was not
	recent   []outcome // oldest first
	reason   string    // of the last failure
}

func newTracker(now time.Time) *tracker { return &tracker{state: Unknown, since: now} }

// record takes an outcome and tells whether others should hear of it: a change of
// state, or that an address which is Unknown does not answer.
func (t *tracker) record(now time.Time, o outcome) bool {
	if t.recent = append(t.recent, o); len(t.recent) > remembered {
		t.recent = t.recent[1:]
	}
	if !o.ok {
		t.failures++
		t.good, t.reason = time.Time{}, o.reason
		if t.state == Up && t.failures >= failuresToDown {
			return t.become(Down, now)
		}
		// Who knows that it answered others once makes something of this.
		return t.state == Unknown && t.failures == failuresToDown
	}
	t.failures = 0
	if t.good.IsZero() {
		t.good = now
	}
	switch {
	case t.state == Unknown, t.state == Down && now.Sub(t.good) >= successToUp:
		return t.become(Up, now)
	}
	return false
}

func (t *tracker) become(s State, now time.Time) bool {
	t.state, t.since = s, now
	return true
}

// forget is called when nothing can be found out any more.
func (t *tracker) forget(now time.Time) { *t = tracker{state: Unknown, since: now} }

// calm tells whether nothing asks for looking more often.
func (t *tracker) calm() bool { return t.state == Up && t.failures == 0 }

// loss is the share of recent probes that were not answered.
func (t *tracker) loss() float64 {
	if len(t.recent) == 0 {
		return 0
	}
	lost := 0
	for _, o := range t.recent {
		if !o.ok {
			lost++
		}
	}
	return float64(lost) / float64(len(t.recent))
}

// rtt is the median of recent answers, 0 without any.
func (t *tracker) rtt() time.Duration {
	var all []time.Duration
	for _, o := range t.recent {
		if o.ok {
			all = append(all, o.rtt)
		}
	}
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return all[len(all)/2]
}
