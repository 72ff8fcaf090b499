package compile

import (
	"maps"
	"slices"
	"time"

	"github.com/atoll-mesh/atoll/pkg/topology"
	"github.com/atoll-mesh/atoll/pkg/view"
)

// When many proxies come at once, each of them is a new endpoint for all who are
// there already: what they are sent would grow with the square of their number.
// While a crowd arrives, endpoints that are only added wait for the next ones.
// The proxies behind them are still being configured themselves. Whatever else
// changes, endpoints that go or become others included, waits for nothing.

const (
	// crowdSize is how many proxies make a crowd.
	crowdSize = 16
	// crowdBatch is how many endpoints that appear at once belong to one.
	crowdBatch = crowdSize / 2
	// crowdPause is how long nobody may come for the crowd to be complete.
	crowdPause = 100 * time.Millisecond
	// crowdPatience is the longest time that an endpoint waits for others.
	crowdPatience = 2 * time.Second
)

// crowd is how proxies arrive. It belongs to the engine's goroutine.
type crowd struct {
	size  int       // how many came, with no pause between one and the next
	last  time.Time // when the last one came
	held  int       // endpoints that wait
	since time.Time // when the first of them began to; zero: none waits
	timer *time.Timer
}

// came counts proxies, or endpoints that appear at once because they are ready.
func (c *crowd) came(n int, now time.Time) {
	if now.Sub(c.last) >= crowdPause {
		c.size = 0
	}
	c.size += n
	c.last = now
}

// arriving reports whether more proxies are expected in a moment, for whom
// endpoints shall wait.
func (c *crowd) arriving(now time.Time) bool {
	return c.size >= crowdSize && now.Sub(c.last) < crowdPause && (c.since.IsZero() || now.Sub(c.since) < crowdPatience)
}

// waiting notes whether endpoints wait after a step, and has the engine look again
// when they no longer do. There is no event for that nobody comes any more.
func (c *crowd) waiting(rows bool, now time.Time, look func()) {
	if !rows {
		c.since = time.Time{}
		return
	}
	if c.since.IsZero() {
		c.since = now
	}
	at := c.last.Add(crowdPause)
	if end := c.since.Add(crowdPatience); end.Before(at) {
		at = end
	}
	if c.timer == nil {
		c.timer = time.AfterFunc(at.Sub(now), look)
	} else {
		c.timer.Reset(at.Sub(now))
	}
}

// waits reports whether rows are dirty that wait for a crowd. Others are not, when
// compileRows returned.
func (e *Engine) waits() bool { return len(e.dirty.rows) > 0 }

// split takes the rows that may wait out of the dirty ones.
func (e *Engine) split(rows []*row, now time.Time) (ready, wait []*row) {
	more := 0
	for _, r := range rows {
		if len(r.users) > 0 && r.load != nil {
			if to := r.key.read(view.NewReader(e.snap)); grows(r.from, to) {
				more += serving(to) - serving(r.from)
				wait = append(wait, r)
				continue
			}
		}
		ready = append(ready, r)
	}
	if n := more - e.crowd.held; n >= crowdBatch {
		e.crowd.came(n, now)
	}
	if !e.crowd.arriving(now) {
		e.crowd.held = 0
		return rows, nil
	}
	e.crowd.held = more
	return ready, wait
}

// grows reports whether all that differs is that there are more endpoints.
func grows(from, to *topology.Endpoints) bool {
	switch {
	case from == to:
		return true
	case to == nil:
		return false
	case from == nil:
		return len(to.Out) == 0
	case !slices.EqualFunc(from.Out, to.Out, sameEndpoint):
		return false
	}
	rest := to.List
	for _, ep := range from.List {
		i := slices.IndexFunc(rest, func(x topology.Endpoint) bool { return sameEndpoint(ep, x) })
		if i < 0 {
			return false
		}
		rest = rest[i+1:] // they are in order
	}
	return true
}

func sameEndpoint(a, b topology.Endpoint) bool {
	return a.Proxy == b.Proxy && a.Address == b.Address && a.Port == b.Port && a.Zone == b.Zone &&
		a.Weight == b.Weight && a.Away == b.Away && maps.Equal(a.Labels, b.Labels)
}

func serving(e *topology.Endpoints) int {
	if e == nil {
		return 0
	}
	return len(e.List)
}
