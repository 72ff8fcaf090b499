package faults

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/atoll-mesh/atoll/test/cluster"
	"github.com/atoll-mesh/atoll/test/cluster/clustertest"
)

const (
	// away is how long something that was killed stays away, as a service manager
	// restarts it.
	away = 5 * time.Second
	// recovery is how long everything may take to be as before.
	recovery = 10 * time.Second
	// every is the pause between the requests in each zone.
	every = 20 * time.Millisecond
)

// scenario is one fault with all that goes on around it: requests through the
// Envoys of both zones, and writes at the global and in both zones.
type scenario struct {
	*testing.T
	w       *clustertest.World
	flow    *cluster.Traffic
	writers []*writer // global, east, west
	stopped bool
}

var scenarios atomic.Int64

func begin(t *testing.T, w *clustertest.World) *scenario {
	n := scenarios.Add(1)
	s := &scenario{T: t, w: w, flow: cluster.Flow(every, w.East.URL(), w.West.URL())}
	for _, cp := range []*cluster.ControlPlane{w.Global, w.East.ControlPlane, w.West.ControlPlane} {
		s.writers = append(s.writers, write(cp, fmt.Sprintf("w%d-%s", n, cp.Name)))
	}
	t.Cleanup(s.stop)
	return s
}

func (s *scenario) stop() {
	if s.stopped {
		return
	}
	s.stopped = true
	for _, w := range s.writers {
		w.stop()
	}
	for _, w := range s.writers {
		<-w.done
	}
	s.flow.Stop()
}

// pass lets time go by while something is away. The length is the scenario's
// own: there is nothing to wait for.
func (s *scenario) pass(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-s.Context().Done():
	}
}

var fresh atomic.Int64

// recovered waits until everything is in sync: the global sees both zones without
// lag, a new change at the global is in responses of both zones, and a new write
// of each zone is at the global. since is when what was away began to start.
func (s *scenario) recovered(since time.Time) {
	s.Helper()
	ctx, cancel := context.WithDeadline(s.Context(), since.Add(recovery))
	defer cancel()
	change := fmt.Sprint("fresh-", fresh.Add(1))
	var stages []string
	stage := func(what string) {
		stages = append(stages, fmt.Sprintf("%s after %s", what, time.Since(since).Round(time.Millisecond)))
	}
	defer func() { s.Logf("since the restart: %s", strings.Join(stages, ", ")) }()
	// The first attempts may come before the server is up again.
	err := cluster.Until(ctx, "write at the global", func(ctx context.Context) error {
		return s.w.Global.Put(ctx, "/meshes/"+clustertest.Mesh+"/meshhttproutes/canary", clustertest.Route("canary", change, 1, 1, false))
	})
	if err != nil {
		s.Fatal(err)
	}
	for _, z := range s.w.Zones() {
		if err := clustertest.AwaitChange(ctx, recovery, z.URL(), change); err != nil {
			s.Fatalf("a change at the global is not in force in zone %s within %s of the restart: %v", z.Name, recovery, err)
		}
		stage("a change at the global is in force in " + z.Name)
	}
	for _, z := range s.w.Zones() {
		name := change + "-" + z.Name
		if err := cluster.Until(ctx, "write in zone "+z.Name, func(context.Context) error { return put(z.ControlPlane, name, 1) }); err != nil {
			s.Fatal(err)
		}
		if err := s.w.Global.Has(ctx, recovery, "/meshes/"+clustertest.Mesh+"/meshtimeouts", name); err != nil {
			s.Fatalf("a write in zone %s is not at the global within %s of the restart: %v", z.Name, recovery, err)
		}
		stage("a write of " + z.Name + " is at the global")
	}
	for _, z := range s.w.Zones() {
		// Writers go on, so a lag of a moment is no lag.
		if err := s.w.Global.WaitInSync(ctx, recovery, z.Name); err != nil {
			s.Fatalf("not in sync within %s of the restart: %v", recovery, err)
		}
		if err := online(ctx, z); err != nil {
			s.Fatalf("not all proxies are back within %s of the restart: %v", recovery, err)
		}
		stage(z.Name + " is in sync")
	}
}

// online waits until a zone says that all its proxies are connected.
func online(ctx context.Context, z *clustertest.Zone) error {
	return cluster.Until(ctx, "zone "+z.Name, func(ctx context.Context) error {
		var out struct {
			Items []struct {
				Name    string
				Insight struct {
					Subscriptions []struct{ ConnectTime, DisconnectTime *time.Time }
				} `json:"dataplaneInsight"`
			}
		}
		if err := z.Do(ctx, http.MethodGet, "/meshes/"+clustertest.Mesh+"/dataplanes/_overview", nil, &out); err != nil {
			return err
		}
		if len(out.Items) < 3 {
			return fmt.Errorf("%d of 3 Dataplanes are there", len(out.Items))
		}
		for _, i := range out.Items {
			open := 0
			for _, sub := range i.Insight.Subscriptions {
				if sub.DisconnectTime == nil {
					open++
				}
			}
			if open != 1 {
				return fmt.Errorf("%s has %d open subscriptions: %v", i.Name, open, i.Insight.Subscriptions)
			}
		}
		return nil
	})
}

// end stops requests and writes and accounts for them. excused says which failed
// requests had to fail; nil: none.
func (s *scenario) end(excused func(cluster.Failure) bool) {
	s.Helper()
	s.stop()
	sent, failures := s.flow.Stop()
	bad := 0
	for _, f := range failures {
		if excused != nil && excused(f) {
			continue
		}
		if bad++; bad <= 5 {
			s.Errorf("a request failed: %s %s: %v", f.Time.Format(time.StampMilli), f.URL, f.Err)
		}
	}
	s.Logf("%d requests, %d failed, %d of them without excuse", sent, len(failures), bad)

	ctx, cancel := context.WithTimeout(s.Context(), recovery)
	defer cancel()
	for i, w := range s.writers {
		own, err := numbers(ctx, w.cp, w.prefix)
		if err != nil {
			s.Fatal(err)
		}
		s.Logf("%s acknowledged %d writes", w.cp.Name, w.count)
		for text, n := range w.errs {
			s.Logf("  and refused %d: %s", n, text)
		}
		if w.count == 0 {
			s.Errorf("%s acknowledged no write at all", w.cp.Name)
		}
		if err := w.lost(own); err != nil {
			s.Errorf("%s lost acknowledged writes: %v", w.cp.Name, err)
		}
		readers := []*cluster.ControlPlane{s.w.Global}
		if i == 0 {
			readers = []*cluster.ControlPlane{s.w.East.ControlPlane, s.w.West.ControlPlane}
		}
		for _, r := range readers {
			err := cluster.Until(ctx, "sync", func(ctx context.Context) error {
				got, err := numbers(ctx, r, w.prefix)
				if err == nil && !maps.Equal(got, own) {
					err = errors.New("they differ")
				}
				return err
			})
			if err != nil {
				s.Errorf("what was written at %s is not what %s has: %v", w.cp.Name, r.Name, err)
			}
		}
	}
}
