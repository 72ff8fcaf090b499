package failover

import (
	"context"
	"fmt"
	"net/http"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/atoll-mesh/atoll/test/cluster"
)

// TestDefaults holds that what makes clients leave an endpoint does no harm where
// nothing is lost, or where everything is.
func TestDefaults(t *testing.T) {
	w := start(t)
	t.Run("what the application answers ejects nobody", w.ownAnswers)
	t.Run("retries are no storm", w.noStorm)
	t.Run("scarce CPU ejects nobody", w.scarce)
	t.Run("all ejected is none ejected", w.panics)
}

// answer makes all applications of zones answer with a status; 0 is as usual.
func answer(status int, zones ...*zone) {
	for _, z := range zones {
		for _, a := range z.apps {
			a.status.Store(int64(status))
		}
	}
}

// ownAnswers has one of two zones answer 503: it keeps its share, since it can be
// reached, and clients that retry get the answers of the other.
func (w *world) ownAnswers(t *testing.T) {
	defer answer(0, w.east)
	answer(http.StatusServiceUnavailable, w.east)
	bare := w.run(t, 2*time.Second, cluster.LoadSpec{Rate: 100, URL: w.north.bare.URL(webPort)})
	retried := w.run(t, 2*time.Second, cluster.LoadSpec{Rate: 100, URL: w.north.client.URL(webPort)})
	last := bare[len(bare)/2:] // an ejection would show by now
	failed, refused := count(last)
	if share := float64(failed) / float64(len(last)); share < 0.35 || share > 0.65 || refused > 0 {
		t.Errorf("%d of %d requests got the 503 of the zone, %d no answer: it does not have its half", failed, len(last), refused)
	}
	for _, o := range retried {
		if o.Err != nil {
			t.Errorf("a request that may be retried failed: %v", o.Err)
		}
	}
	for _, c := range []*cluster.Proxy{w.north.bare, w.north.client} {
		if n := w.ejections(t, w.north, c); n != 0 {
			t.Errorf("%s ejected endpoints %d times", c.Name, n)
		}
	}
}

// noStorm has everybody fail, slowly: what clients add is bounded by what retries
// may be under way, and not by how often each may be tried.
func (w *world) noStorm(t *testing.T) {
	defer answer(0, w.east, w.west)
	answer(http.StatusServiceUnavailable, w.east, w.west)
	const takes, slots = 300 * time.Millisecond, 100
	before := w.calls()
	begun := time.Now()
	all := w.run(t, 3*time.Second, cluster.LoadSpec{Rate: 400, URL: w.north.client.URL(webPort) + "?takes=" + takes.String()})
	took := time.Since(begun)
	calls := w.calls() - before
	// A fifth of all requests under way, of which a slot is one, may be more.
	bound := float64(len(all)) + 1.5*slots*float64(took)/float64(takes)
	t.Logf("%d requests became %d, %.2f of each; within the budget are %.0f, without it up to %d", len(all), calls, float64(calls)/float64(len(all)), bound, 4*len(all))
	if float64(calls) > bound {
		t.Errorf("%d requests became %d, more than the budget allows", len(all), calls)
	}
	if calls <= int64(len(all)) {
		t.Errorf("%d requests became %d: nothing was retried", len(all), calls)
	}
}

// scarce burns all CPU: requests stay in the zone and succeed, and nobody is
// taken for gone.
func (w *world) scarce(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for range 4 * runtime.NumCPU() {
		burn := exec.CommandContext(ctx, "sh", "-c", "while :; do :; done")
		if err := burn.Start(); err != nil {
			t.Fatal(err)
		}
		defer burn.Wait() //nolint:errcheck // killed
	}
	defer cancel()
	long := 4 * time.Second
	if length().away > 10*time.Second {
		long = time.Minute
	}
	local := cluster.StartLoad(cluster.LoadSpec{Rate: 50, URL: w.east.bare.URL(webPort)})
	remote := w.run(t, long, cluster.LoadSpec{Rate: 50, URL: w.north.bare.URL(webPort)})
	for _, o := range local.Stop() {
		if o.Err != nil {
			t.Errorf("a request failed: %v", o.Err)
		} else if !strings.HasPrefix(o.Who, "east/") {
			t.Errorf("a request left the zone: %s answered", o.Who)
		}
	}
	for _, o := range remote {
		if o.Err != nil {
			t.Errorf("a request to other zones failed: %v", o.Err)
		}
	}
	for _, z := range []*zone{w.east, w.north} {
		if n := w.ejections(t, z, z.bare); n != 0 {
			t.Errorf("%s ejected endpoints %d times", z.bare.Name, n)
		}
	}
}

// panics loses all that serve until all are ejected, and gives them back: then
// they are used at once, and not only when their time is over.
func (w *world) panics(t *testing.T) {
	p := part{proxies: []*cluster.Proxy{w.east.entrance, w.west.entrance}}
	load := cluster.StartLoad(cluster.LoadSpec{Rate: 50, URL: w.north.client.URL(webPort)})
	stop := load.Stop
	defer func() { stop() }()
	pass(t, time.Second)
	p.kill()
	ctx, cancel := context.WithTimeout(t.Context(), readyLimit)
	defer cancel()
	if err := cluster.Until(ctx, "ejections", func(context.Context) error {
		if n := w.ejections(t, w.north, w.north.client); n < 2 {
			return fmt.Errorf("%d of 2 endpoints are ejected", n)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	p.restart(t)
	ready := time.Now()
	pass(t, 3*time.Second)
	all := stop()
	stop = func() []cluster.Outcome { return nil }
	for _, o := range all {
		if after := o.Begun.Sub(ready); o.Err != nil && after > 2*time.Second {
			t.Errorf("a request failed %s after everything was back: %v", after, o.Err)
		}
	}
}

// run sends requests for a while.
func (w *world) run(t *testing.T, d time.Duration, spec cluster.LoadSpec) []cluster.Outcome {
	t.Helper()
	l := cluster.StartLoad(spec)
	pass(t, d)
	return l.Stop()
}

// count tells how many requests got a 503 of the application, and how many no
// answer of it.
func count(list []cluster.Outcome) (failed, refused int) {
	for _, o := range list {
		switch {
		case o.Err == nil:
		case strings.Contains(o.Err.Error(), "503 Service Unavailable east/"):
			failed++
		default:
			refused++
		}
	}
	return failed, refused
}

func (w *world) calls() int64 {
	var n int64
	for _, z := range []*zone{w.east, w.west} {
		for _, a := range z.apps {
			n += a.calls.Load()
		}
	}
	return n
}

// ejections is how often a client's Envoy has taken out an endpoint of the
// backend.
func (w *world) ejections(t *testing.T, z *zone, client *cluster.Proxy) int {
	t.Helper()
	var stats string
	if err := z.Do(t.Context(), http.MethodGet, "/meshes/"+mesh+"/dataplanes/"+client.Spec.Name+"/stats", nil, &stats); err != nil {
		t.Fatal(err)
	}
	n, seen := 0, false
	for line := range strings.Lines(stats) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), ": ")
		if !ok || !strings.Contains(name, "mzsvc") {
			continue
		}
		seen = true
		if !strings.HasSuffix(name, ".outlier_detection.ejections_enforced_total") {
			continue // those that are 0 are left out
		}
		v, err := strconv.Atoi(value)
		if err != nil {
			t.Fatal(err)
		}
		n += v
	}
	if !seen {
		t.Fatalf("%s says nothing of the backend:\n%.2000s", client.Name, stats)
	}
	return n
}
