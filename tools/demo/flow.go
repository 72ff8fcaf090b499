package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/atoll-mesh/atoll/test/cluster"
)

// rate is of each client, per second.
const rate = 100

// flow is the steady requests of both clients, counted by the second in which
// they were answered.
type flow struct {
	loads map[string]*cluster.Load // by zone of the client

	mu     sync.Mutex // guards the rest
	counts map[string]*count
	total  map[string]*count
}

// count is what became of requests.
type count struct {
	answers map[string]int // by zone that answered
	failed  int
	last    error
	slowest time.Duration
}

func newFlow() *flow {
	return &flow{loads: map[string]*cluster.Load{}, counts: map[string]*count{}, total: map[string]*count{}}
}

func (f *flow) start(z *zone) {
	f.mu.Lock()
	f.counts[z.Name], f.total[z.Name] = newCount(), newCount()
	f.mu.Unlock()
	name := z.Name
	f.loads[name] = cluster.StartLoad(cluster.LoadSpec{Rate: rate, URL: z.url(), Seen: func(o cluster.Outcome) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.counts[name].add(o)
		f.total[name].add(o)
	}})
}

func newCount() *count { return &count{answers: map[string]int{}} }

func (c *count) add(o cluster.Outcome) {
	c.slowest = max(c.slowest, o.Took)
	if o.Err != nil {
		c.failed++
		c.last = o.Err
		return
	}
	c.answers[o.Who]++
}

func (c *count) sum() int {
	n := c.failed
	for _, k := range c.answers {
		n += k
	}
	return n
}

func (c *count) share(zone string) float64 {
	if c.sum() == 0 {
		return 0
	}
	return 100 * float64(c.answers[zone]) / float64(c.sum())
}

func (c *count) String() string {
	if c.sum() == 0 {
		return "no answer yet"
	}
	return fmt.Sprintf("%5.1f%% succeed, %3.0f%% in east, %3.0f%% in west", 100-100*float64(c.failed)/float64(c.sum()), c.share("east"), c.share("west"))
}

// take returns what happened since it was called last.
func (f *flow) take(zone string) *count {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := f.counts[zone]
	f.counts[zone] = newCount()
	return c
}

// failed is how many requests failed until now, and why the last.
func (f *flow) failed() (n int, last error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.total {
		n += c.failed
		if c.last != nil {
			last = c.last
		}
	}
	return n, last
}

// sent is how many requests were answered or failed until now.
func (f *flow) sent() (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.total {
		n += c.sum()
	}
	return n
}

func (f *flow) stop() {
	for _, l := range f.loads {
		l.Stop()
	}
	f.loads = map[string]*cluster.Load{}
}

// watch prints each second of both clients, for the given number of seconds and
// then until enough says so. It returns the last second of each zone's client.
func (d *demo) watch(ctx context.Context, least int, enough func(east, west *count) bool) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience+time.Duration(least)*time.Second, errAgain)
	defer cancel()
	tick := time.NewTicker(time.Second) // what is shown is by the second
	defer tick.Stop()
	d.flow.take("east")
	d.flow.take("west")
	for n := 1; ; n++ {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		east, west := d.flow.take("east"), d.flow.take("west")
		d.say.note("%3d s   client in east: %s   |   client in west: %s", n, east, west)
		if n >= least && enough(east, west) {
			return nil
		}
	}
}
