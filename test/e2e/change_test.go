// Package e2e proves what users rely on with real parts only: control planes,
// agents, atollctl, Envoys and a PostgreSQL.
package e2e

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/atoll-mesh/atoll/test/cluster"
	"github.com/atoll-mesh/atoll/test/cluster/clustertest"
)

// TestTwoZones keeps one world for all that does not break it.
func TestTwoZones(t *testing.T) {
	w := clustertest.Start(t, clustertest.Options{})
	t.Run("changes reach responses", func(t *testing.T) { testChanges(t, w) })
	t.Run("split", func(t *testing.T) { testSplit(t, w) })
	t.Run("zone tokens", func(t *testing.T) { testZoneTokens(t, w) })
	t.Run("dataplane tokens", func(t *testing.T) { testDataplaneTokens(t, w) })
}

// testChanges applies twenty changes at the global and waits for each in a
// response through an Envoy of both zones. The times are measured and told; what
// is demanded leaves room for a machine that does much else.
func testChanges(t *testing.T, w *clustertest.World) {
	const (
		changes = 20
		bound   = 2 * time.Second
	)
	var times [2][]time.Duration
	for i := range changes {
		change := fmt.Sprint("change-", i)
		begun := time.Now() // what a user waits for includes the command
		w.MustApply(t, w.Global, clustertest.Route("canary", change, 1, 0, false))
		seen := make(chan error, 2)
		for n, z := range w.Zones() {
			go func() {
				err := clustertest.AwaitChange(t.Context(), clustertest.Patience, z.URL(), change)
				times[n] = append(times[n], time.Since(begun))
				seen <- err
			}()
		}
		for range w.Zones() {
			if err := <-seen; err != nil {
				t.Fatal(err)
			}
		}
	}
	for n, z := range w.Zones() {
		slices.Sort(times[n])
		median := times[n][changes/2]
		t.Logf("zone %s: from the start of atollctl apply at the global to the response: median %s, longest %s",
			z.Name, median.Round(time.Millisecond), times[n][changes-1].Round(time.Millisecond))
		if median > bound {
			t.Errorf("zone %s: the median of %d changes took %s, more than %s", z.Name, changes, median, bound)
		}
	}
}

func testSplit(t *testing.T, w *clustertest.World) {
	const requests = 2000
	w.MustApply(t, w.Global, clustertest.Route("canary", "split", 90, 10, false))
	for _, z := range w.Zones() {
		if err := clustertest.AwaitChange(t.Context(), clustertest.Patience, z.URL(), "split"); err != nil {
			t.Fatal(err)
		}
		s := cluster.Measure(t.Context(), z.URL(), requests)
		t.Logf("zone %s: %.1f%% version 1, %.1f%% version 2, %d failed", z.Name, s.Share(clustertest.V1), s.Share(clustertest.V2), s.Failed)
		if s.Failed > 0 {
			t.Errorf("zone %s: %d requests failed: %v", z.Name, s.Failed, s.Last)
		}
		// 3% off would be 4.5 standard deviations.
		if share := s.Share(clustertest.V2); share < 7 || share > 13 {
			t.Errorf("zone %s: version 2 got %.1f%% of the requests and not 10%%", z.Name, share)
		}
	}
}
