package failover

import (
	"fmt"
	"maps"
	"math"
	"net/http"
	"os"
	"slices"
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
	again                      time.Duration // at most, until what was away is used again; short runs need not wait
	rate                       int
}

// knob says what is measured; see the documentation of the package.
func knob() string { return os.Getenv("ATOLL_FAULTS") }

func length() lengths {
	if knob() != "" {
		return lengths{3 * time.Second, 25 * time.Second, 90 * time.Second, 6 * time.Second, 5 * time.Second, 100}
	}
	return lengths{time.Second, 4 * time.Second, 6 * time.Second, time.Second, 0, 50}
}

// fault is one loss.
type fault struct {
	name  string
	brief bool               // also part of the short run
	from  func(*world) *zone // where the clients are
	part  func(*world) part
	hang  bool
	lost  func(who string) bool
	// failures of a client with retries, per thousand of the requests of a fault of
	// full length.
	failures float64
	stays    bool          // no request leaves the zone
	last     time.Duration // failures are over by then; 0: whenever
	used     time.Duration // the part is used again by then; 0: whenever
}

func of(zone string) func(string) bool {
	return func(who string) bool { return strings.HasPrefix(who, zone+"/") }
}

func north(w *world) *zone { return w.north }
func east(w *world) *zone  { return w.east }

var faults = []fault{
	{
		name: "remote zone proxy hangs", brief: true, hang: true, from: north, lost: of("east"), failures: 10, last: 4 * time.Second,
		part: func(w *world) part { return part{proxies: []*cluster.Proxy{w.east.entrance}} },
	},
	{
		name: "one of two local workloads", brief: true, from: east, stays: true, lost: func(who string) bool { return who == "east/1" },
		part: func(w *world) part { return part{proxies: w.east.backends[:1]} },
	},
	{
		name: "all local workloads", brief: true, from: east, lost: of("east"), failures: 0.5, last: time.Second,
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
		name: "whole remote zone", from: north, lost: of("east"), used: 5 * time.Second,
		part: func(w *world) part {
			return part{proxies: w.east.proxies(), cps: []*cluster.ControlPlane{w.east.ControlPlane}}
		},
	},
	{
		name: "whole remote zone hangs", hang: true, from: north, lost: of("east"), failures: 10, last: 4 * time.Second,
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
	// bare has no retries. cut is how many requests may be lost besides, per
	// hundred a second, because they were in the hands of what died and nobody may
	// repeat them.
	bare bool
	cut  float64
}

// who calls: one of a zone's clients.
type who func(*zone) *cluster.Proxy

func retrying(z *zone) *cluster.Proxy { return z.client }
func once(z *zone) *cluster.Proxy     { return z.bare }

// Retries of one Envoy share a budget, so that loads that need all of it have
// one each.
func retryingToo(z *zone) *cluster.Proxy { return z.client2 }
func onceToo(z *zone) *cluster.Proxy     { return z.bare2 }

func web(method string, from who, query string, times int) func(*zone, int) cluster.LoadSpec {
	return func(z *zone, rate int) cluster.LoadSpec {
		return cluster.LoadSpec{Rate: rate * times, Method: method, URL: from(z).URL(webPort) + query}
	}
}

func bytes(from who, takes string, times int) func(*zone, int) cluster.LoadSpec {
	return func(z *zone, rate int) cluster.LoadSpec {
		return cluster.LoadSpec{Rate: rate * times, Address: fmt.Sprintf("%s:%d", from(z).Spec.Address, bytesPort), Line: takes}
	}
}

// Each of these is measured together, in the same faults.
var (
	usual = []variant{
		{name: "GET", spec: web(http.MethodGet, retrying, "", 1)},
		{name: "GET, no retries", spec: web(http.MethodGet, once, "", 1), bare: true},
		{name: "POST", spec: web(http.MethodPost, retrying, "", 1), cut: 15},
		{name: "TCP", spec: bytes(retrying, "", 1), cut: 15},
	}
	more = []variant{
		{name: "POST, no retries", spec: web(http.MethodPost, once, "", 1), bare: true},
		{name: "TCP, no retries", spec: bytes(once, "", 1), bare: true},
	}
	heavy = []variant{
		{name: "GET 500/s 100ms", spec: web(http.MethodGet, retrying, "?takes=100ms", 5)},
		{name: "POST 500/s 100ms", spec: web(http.MethodPost, retryingToo, "?takes=100ms", 5), cut: 60},
		{name: "TCP 500/s 100ms", spec: bytes(retrying, "100ms", 5), cut: 60},
	}
	heavyOnce = []variant{
		{name: "GET 500/s 100ms, no retries", spec: web(http.MethodGet, once, "?takes=100ms", 5), bare: true},
		{name: "POST 500/s 100ms, no retries", spec: web(http.MethodPost, onceToo, "?takes=100ms", 5), bare: true},
		{name: "TCP 500/s 100ms, no retries", spec: bytes(once, "100ms", 5), bare: true},
	}
)

// tables are the long runs.
var tables = map[string][][]variant{
	"usual": {slices.Concat(usual, more)},
	"heavy": {heavy},
	"bare":  {heavyOnce},
	"full":  {slices.Concat(usual, more), heavy, heavyOnce},
}

// TestFaults loses what may be lost, and prints what clients noticed. In a long
// run each fault has a world of its own: a zone that was lost before comes back
// more slowly.
func TestFaults(t *testing.T) {
	var all []*summary
	defer func() { t.Log(table(all)) }()
	l := length()
	if knob() == "" {
		w := start(t)
		for _, f := range faults {
			if f.brief {
				t.Run(f.name, func(t *testing.T) { all = append(all, w.measure(t, f, l, usual)...) })
			}
		}
		return
	}
	groups := tables[knob()]
	if groups == nil {
		t.Fatalf("ATOLL_FAULTS is %q; it may be %s", knob(), slices.Sorted(maps.Keys(tables)))
	}
	for _, variants := range groups {
		var rows []*summary
		for _, f := range faults {
			t.Run(f.name+" "+variants[0].name, func(t *testing.T) { rows = append(rows, start(t).measure(t, f, l, variants)...) })
		}
		fmt.Print(markdown(rows)) // as it is, for documents
		all = append(all, rows...)
	}
}

// busy is how late a request may begin on a machine that has time for all that
// runs. Beyond it the machine is measured, and not Atoll.
const busy = 150 * time.Millisecond

// measure runs a fault and holds what clients noticed against what is promised.
// While the machine is busy with something else it says so, and tries again.
func (w *world) measure(t *testing.T, f fault, l lengths, variants []variant) (list []*summary) {
	const attempts = 3
	for n := 1; ; n++ {
		list = w.lose(t, f, l, variants)
		var wrong []string
		late := time.Duration(0)
		for i, s := range list {
			late = max(late, s.late)
			wrong = append(wrong, f.judge(s, variants[i], l)...)
		}
		switch {
		case len(wrong) == 0:
			return list
		case late <= busy:
			t.Error(strings.Join(wrong, "\n"))
			return list
		case n == attempts:
			t.Logf("the machine is too busy: requests began up to %s late, and so it may be that\n%s", late, strings.Join(wrong, "\n"))
			for _, s := range list {
				if s.success() < 50 {
					t.Errorf("%s: %s: %.1f%% succeed", f.name, s.load, s.success())
				}
			}
			return list
		}
		t.Logf("again: the machine was busy, requests began up to %s late, and\n%s", late, strings.Join(wrong, "\n"))
	}
}

// judge names the promises that a load saw broken.
func (f *fault) judge(s *summary, v variant, l lengths) (wrong []string) {
	add := func(format string, args ...any) {
		wrong = append(wrong, fmt.Sprintf("%s: %s: ", f.name, v.name)+fmt.Sprintf(format, args...))
	}
	seconds := 25.0
	if f.hang {
		seconds = 90
	}
	perSecond := float64(s.sent) / s.away.Seconds()
	failures := f.failures
	if v.bare {
		failures = 10
		if f.hang {
			failures = 100
		}
	}
	may := int(math.Ceil(failures*perSecond*seconds/1000 + v.cut*perSecond/100))
	if s.failed > may {
		add("%d requests failed, and at most %d may", s.failed, may)
	}
	late := 0 // while it comes back nothing is lost, also without retries
	if v.bare && f.hang {
		late = int(math.Ceil(failures * perSecond * seconds / 1000))
	}
	if s.laterX > late {
		add("%d of %d requests failed while it came back, and at most %d may", s.laterX, s.later, late)
	}
	if f.stays && s.left > 0 {
		add("%d requests left the zone", s.left)
	}
	full := l.away > 10*time.Second
	if f.last > 0 && s.failed > 0 && s.last > f.last && !v.bare {
		add("the last failure was after %s, and not within %s", s.last, f.last)
	}
	if full && f.hang && s.slow > 0 && !v.bare {
		add("%d requests took more than %s, %s after the fault", s.slow, slow, settled)
	}
	if full && f.used > 0 && (s.used < 0 || s.used > f.used) {
		add("it is used again after %s, and not within %s", s.used, f.used)
	}
	return wrong
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
