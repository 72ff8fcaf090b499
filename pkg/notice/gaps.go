package notice

import (
	"context"
	"time"

	system_proto "github.com/atoll-mesh/atoll/api/kuma/system/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/view"
)

// How often gaps are looked for while things change. A look at everything costs as
// much as there are services times zones, about ten seconds of CPU for 1,000 in
// each of ten; any takes at most one part in lookShare of the time. A gap
// has to be there at two looks before it is told, because what restarts or
// reconnects has gaps for a moment.
const (
	lookGap   = 5 * time.Second
	lookShare = 20
	// lookAgain is how long what was found may be built upon: a look after that is at
	// everything.
	lookAgain = time.Hour
)

// gapless are changes that open and close no gaps. Of what is known of a zone's
// control plane it counts whether that is connected.
func gapless(k view.Key, before, after *view.Snapshot) bool {
	switch k.Type {
	case kind.ZoneInsight:
		return k.Table != view.Objects || online(before.Get(k.ID)) == online(after.Get(k.ID))
	case kind.DataplaneInsight, kind.ZoneTraffic, kind.Notice, kind.Webhook, kind.Workload, kind.Secret, kind.GlobalSecret, kind.Config:
		return true
	}
	return k.Table != view.Objects
}

func online(o *resource.Object) bool {
	return o != nil && kind.ZoneOnline(resource.SpecOf[system_proto.ZoneInsight](o))
}

// changes are what changed since the last look.
type changes struct {
	list []resource.ID
	all  bool // anything may have
}

// manyChanges are a reason to look at everything.
const manyChanges = 1000

func (c *changes) add(k view.Key) {
	switch {
	case c.all || k.Table != view.Objects:
	case len(c.list) == manyChanges:
		c.list, c.all = nil, true
	default:
		c.list = append(c.list, k.ID)
	}
}

// foresee looks for gaps after what they depend on changed, and sends all that
// there are, whenever they were looked for.
func foresee(ctx context.Context, cfg Config, out chan []Condition) {
	sub := cfg.View.Subscribe()
	defer sub.Close()
	var (
		done  *view.Snapshot
		fresh = true // something changed since the last look
		news  = changes{all: true}
		again bool // a gap was seen once
		seen  = told(cfg.View.Snapshot())
		next  time.Time // not before
		whole time.Time // when everything was looked at
	)
	for {
		s := cfg.View.Snapshot()
		if done != nil {
			keys, ok := cfg.View.Touched(done.Revision(), s)
			fresh, news.all = fresh || !ok, news.all || !ok
			for _, k := range keys {
				fresh = fresh || !gapless(k, done, s)
				news.add(k)
			}
		}
		done = s
		var expired <-chan time.Time
		var timer *time.Timer
		if fresh || again {
			if wait := time.Until(next); wait > 0 {
				timer = time.NewTimer(wait) // the least time between two looks
				expired = timer.C
			} else {
				begun := time.Now()
				if begun.Sub(whole) >= lookAgain {
					news.all = true
				}
				if news.all {
					whole = begun
				}
				var list []Condition
				list, again = confirmed(cfg.Gaps(s, news.list, news.all), seen)
				news = changes{}
				took := time.Since(begun)
				if cfg.Metrics != nil {
					cfg.Metrics.looks.Observe(took.Seconds())
				}
				fresh, next = false, time.Now().Add(max(lookGap, lookShare*took))
				select { // only the newest counts
				case <-out:
				default:
				}
				out <- list
				continue
			}
		}
		select {
		case <-sub.C():
		case <-expired:
		case <-ctx.Done():
		}
		if timer != nil {
			timer.Stop()
		}
		if ctx.Err() != nil {
			return
		}
	}
}

// told are the gaps that notices say are open.
func told(s *view.Snapshot) map[string]bool {
	out := map[string]bool{}
	last, _ := lasting(s)
	for key, n := range last {
		out[key] = n.Event == kind.EventGapOpened
	}
	return out
}

// confirmed are the gaps that were seen before too. Again says that there are
// others, which another look may confirm.
func confirmed(list []Condition, seen map[string]bool) (out []Condition, again bool) {
	now := map[string]bool{}
	for _, c := range list {
		now[c.Key] = true
		if seen[c.Key] {
			out = append(out, c)
		} else {
			again = true
		}
	}
	clear(seen)
	for k := range now {
		seen[k] = true
	}
	return out, again
}
