package failover

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/atoll-mesh/atoll/test/cluster"
)

// lengths of the phases of a fault.
type lengths struct {
	before, away, hangs, after time.Duration
	again                      time.Duration // at most, until what was away is used again
	rate                       int
}

func length() lengths {
	if os.Getenv("ATOLL_FAULTS") == "full" {
		return lengths{3 * time.Second, 25 * time.Second, 90 * time.Second, 6 * time.Second, time.Minute, 100}
	}
	return lengths{time.Second, 4 * time.Second, 6 * time.Second, time.Second, 10 * time.Second, 50}
}

// fault is one loss.
type fault struct {
	name  string
	brief bool               // also part of the short run
	from  func(*world) *zone // where the clients are
	part  func(*world) part
	hang  bool
	lost  func(who string) bool
}

func of(zone string) func(string) bool {
	return func(who string) bool { return strings.HasPrefix(who, zone+"/") }
}

func north(w *world) *zone { return w.north }
func east(w *world) *zone  { return w.east }

var faults = []fault{
	{
		name: "remote zone proxy hangs", brief: true, hang: true, from: north, lost: of("east"),
		part: func(w *world) part { return part{proxies: []*cluster.Proxy{w.east.entrance}} },
	},
	{
		name: "one of two local workloads", brief: true, from: east, lost: func(who string) bool { return who == "east/1" },
		part: func(w *world) part { return part{proxies: w.east.backends[:1]} },
	},
	{
		name: "all local workloads", brief: true, from: east, lost: of("east"),
		part: func(w *world) part { return part{proxies: w.east.backends} },
	},
	{
		name: "remote zone proxy", brief: true, from: north, lost: of("east"),
		part: func(w *world) part { return part{proxies: []*cluster.Proxy{w.east.entrance}} },
	},
	{
		name: "all workloads of a remote zone", from: north, lost: of("east"),
		part: func(w *world) part { return part{proxies: w.east.backends} },
	},
	{
		name: "whole remote zone", from: north, lost: of("east"),
		part: func(w *world) part {
			return part{proxies: w.east.proxies(), cps: []*cluster.ControlPlane{w.east.ControlPlane}}
		},
	},
	{
		name: "whole remote zone hangs", hang: true, from: north, lost: of("east"),
		part: func(w *world) part {
			return part{proxies: w.east.proxies(), cps: []*cluster.ControlPlane{w.east.ControlPlane}}
		},
	},
	{
		name: "global", from: north, lost: func(string) bool { return false },
		part: func(w *world) part { return part{cps: []*cluster.ControlPlane{w.global}} },
	},
}

// variant is a kind of client.
type variant struct {
	name string
	spec func(z *zone, rate int) cluster.LoadSpec
}

func web(method string, bare bool, query string, times int) func(*zone, int) cluster.LoadSpec {
	return func(z *zone, rate int) cluster.LoadSpec {
		c := z.client
		if bare {
			c = z.bare
		}
		return cluster.LoadSpec{Rate: rate * times, Method: method, URL: c.URL(webPort) + query}
	}
}

func bytes(bare bool) func(*zone, int) cluster.LoadSpec {
	return func(z *zone, rate int) cluster.LoadSpec {
		c := z.client
		if bare {
			c = z.bare
		}
		return cluster.LoadSpec{Rate: rate, Address: fmt.Sprintf("%s:%d", c.Spec.Address, bytesPort)}
	}
}

// together are measured in the same fault.
var (
	usual = []variant{
		{"GET", web(http.MethodGet, false, "", 1)},
		{"GET, no retries", web(http.MethodGet, true, "", 1)},
		{"POST", web(http.MethodPost, false, "", 1)},
		{"TCP", bytes(false)},
	}
	heavy = []variant{
		{"GET 500/s 100ms", web(http.MethodGet, false, "?takes=100ms", 5)},
		{"POST 500/s 100ms", web(http.MethodPost, false, "?takes=100ms", 5)},
	}
)

// TestFaults loses what may be lost, and prints what clients noticed. In the long
// run each fault has a world of its own: a zone that was lost before comes back
// more slowly.
func TestFaults(t *testing.T) {
	var all []*summary
	defer func() { t.Log(table(all)) }()
	l, full := length(), os.Getenv("ATOLL_FAULTS") == "full"
	if !full {
		w := start(t)
		for _, f := range faults {
			if f.brief {
				t.Run(f.name, func(t *testing.T) { all = append(all, w.lose(t, f, l, usual)...) })
			}
		}
		return
	}
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) { all = append(all, start(t).lose(t, f, l, usual)...) })
	}
	for _, v := range heavy {
		for _, f := range faults {
			t.Run(f.name+", "+v.name, func(t *testing.T) { all = append(all, start(t).lose(t, f, l, []variant{v})...) })
		}
	}
}

// lose runs one fault under load.
func (w *world) lose(t *testing.T, f fault, l lengths, variants []variant) []*summary {
	home := f.from(w)
	loads := make([]*cluster.Load, len(variants))
	use := newUse(len(variants), f.lost)
	for i, v := range variants {
		spec := v.spec(home, l.rate)
		spec.Seen = func(o cluster.Outcome) { use.see(i, o) }
		loads[i] = cluster.StartLoad(spec)
	}
	var outcomes [][]cluster.Outcome
	stop := func() {
		for _, load := range loads {
			outcomes = append(outcomes, load.Stop())
		}
		loads = nil
	}
	defer stop()
	p := f.part(w)
	pass(t, l.before)
	before := w.twice.count()
	var m marks
	m.fault = time.Now()
	if f.hang {
		p.signal(syscall.SIGSTOP)
		defer p.signal(syscall.SIGCONT)
		pass(t, l.hangs)
		m.back = time.Now()
		p.signal(syscall.SIGCONT)
	} else {
		p.kill()
		pass(t, l.away-time.Since(m.fault))
		m.back = time.Now()
		p.restart(t)
	}
	m.ready = time.Now()
	use.since(m.ready)
	pass(t, l.after)
	if f.name != "global" { // the next fault is to be one of what is used
		timer := time.NewTimer(l.again)
		defer timer.Stop()
		select {
		case <-use.all:
		case <-timer.C:
		}
	}
	stop()
	var list []*summary
	for i, v := range variants {
		s := summarize(outcomes[i], m, home.Name, f.lost)
		s.fault, s.load = f.name, v.name
		s.twice = w.twice.count() - before
		if s.twice > 0 {
			t.Errorf("%s: %d POSTs were processed twice", f.name, s.twice)
		}
		list = append(list, s)
	}
	return list
}

// pass lets time go by. The length is the scenario's own: there is nothing to
// wait for.
func pass(t testing.TB, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.Context().Done():
	}
}

// use waits until every load is answered by what was away.
type use struct {
	lost func(who string) bool
	all  chan struct{}

	mu    sync.Mutex
	begin time.Time // zero: not yet
	seen  []bool
	left  int
}

func newUse(loads int, lost func(string) bool) *use {
	return &use{lost: lost, all: make(chan struct{}), seen: make([]bool, loads), left: loads}
}

func (u *use) since(t time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.begin = t
}

func (u *use) see(load int, o cluster.Outcome) {
	if o.Err != nil || !u.lost(o.Who) {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.begin.IsZero() || o.Begun.Before(u.begin) || u.seen[load] {
		return
	}
	u.seen[load] = true
	if u.left--; u.left == 0 {
		close(u.all)
	}
}
