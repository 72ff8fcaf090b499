package faults

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"testing"
	"time"

	"github.com/atoll-mesh/atoll/test/cluster"
	"github.com/atoll-mesh/atoll/test/cluster/clustertest"
	"github.com/atoll-mesh/atoll/tools/pgtemp"
)

// testReplicas kills one of two globals on the same PostgreSQL: the one that
// leads and serves a zone. The other one takes over both.
func testReplicas(t *testing.T) {
	ctx := t.Context()
	pg, err := pgtemp.Start(ctx, pgtemp.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pg.Close() })
	c, other := clustertest.New(t), clustertest.New(t)
	first, err := c.Global(ctx, clustertest.Database(pg))
	if err != nil {
		t.Fatal(err)
	}
	// Zones trust one certificate, so all replicas have it.
	second, err := other.Global(ctx, clustertest.Database(pg),
		"ATOLL_MULTIZONE_GLOBAL_KDS_TLS_CERT_FILE="+first.CAFile(),
		"ATOLL_MULTIZONE_GLOBAL_KDS_TLS_KEY_FILE="+filepath.Join(first.WorkDir, "atoll-cp.key"))
	if err != nil {
		t.Fatal(err)
	}
	kds := func(g *cluster.ControlPlane) string { return fmt.Sprintf("127.0.0.1:%d", g.KDSPort) }
	balancer := newRelay(t, kds(first))
	zone, err := c.FederatedZone(ctx, first, "east", "ATOLL_MULTIZONE_ZONE_GLOBAL_ADDRESS=grpcs://"+balancer.Address())
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Put(ctx, "/meshes/"+clustertest.Mesh, "type: Mesh\nname: "+clustertest.Mesh+"\n"); err != nil {
		t.Fatal(err)
	}
	if err := zone.WaitFor(ctx, clustertest.Patience, "/meshes/"+clustertest.Mesh); err != nil {
		t.Fatal(err)
	}
	if err := first.WaitFor(ctx, clustertest.Patience, "/meshes/"+clustertest.Mesh); err != nil { // before it writes there
		t.Fatal(err)
	}
	if err := first.WaitInSync(ctx, clustertest.Patience, zone.Name); err != nil {
		t.Fatal(err)
	}
	if online, _, err := second.Online(ctx, zone.Name); err != nil || !online {
		t.Errorf("the replica that does not serve the zone takes it for offline: %v", err)
	}

	writers := []*writer{write(first, "one"), write(second, "two"), write(zone, "zone")}
	for i := range 10 { // something is under way everywhere
		name := fmt.Sprint("before-", i)
		if err := put(second, name, 1); err != nil {
			t.Fatal(err)
		}
		if err := zone.Has(ctx, clustertest.Patience, "/meshes/"+clustertest.Mesh+"/meshtimeouts", name); err != nil {
			t.Fatal(err)
		}
	}
	balancer.Lead(kds(second))
	first.Kill()
	killed := time.Now()
	limit, cancel := context.WithDeadline(ctx, killed.Add(recovery))
	defer cancel()
	if err := put(second, "after", 1); err != nil {
		t.Errorf("the replica that is left refuses a write: %v", err)
	}
	if err := zone.Has(limit, recovery, "/meshes/"+clustertest.Mesh+"/meshtimeouts", "after"); err != nil {
		t.Error(err)
	}
	if err := put(zone, "after-zone", 1); err != nil {
		t.Error(err)
	}
	if err := second.Has(limit, recovery, "/meshes/"+clustertest.Mesh+"/meshtimeouts", "after-zone"); err != nil {
		t.Error(err)
	}
	if err := second.WaitInSync(limit, recovery, zone.Name); err != nil {
		t.Error(err)
	}
	t.Logf("in sync %s after the kill", time.Since(killed).Round(time.Millisecond))
	if err := clustertest.AwaitLog(limit, recovery, second.Process, "this instance leads"); err != nil {
		t.Error(err)
	}
	t.Logf("the other one leads %s after the kill", time.Since(killed).Round(time.Millisecond))
	for _, w := range writers {
		w.stop()
		<-w.done
	}
	for i, w := range writers {
		t.Logf("%s acknowledged %d writes, refused: %v", w.prefix, w.count, w.errs)
		for _, reader := range []*cluster.ControlPlane{second, zone} {
			err := cluster.Until(limit, w.prefix+" at "+reader.Name, func(ctx context.Context) error {
				got, err := numbers(ctx, reader, w.prefix)
				if err == nil {
					err = w.lost(got)
				}
				return err
			})
			if err != nil {
				t.Error(err)
			}
		}
		if i > 0 && len(w.errs) > 0 {
			t.Errorf("%s: writes to a control plane that was not killed were refused: %v", w.prefix, maps.Clone(w.errs))
		}
	}
}
