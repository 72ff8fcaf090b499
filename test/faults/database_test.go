package faults

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/atoll-mesh/atoll/test/cluster"
	"github.com/atoll-mesh/atoll/test/cluster/clustertest"
	"github.com/atoll-mesh/atoll/tools/pgtemp"
)

// TestGlobals runs beside the other test: both wait most of the time.
func TestGlobals(t *testing.T) {
	t.Parallel()
	t.Run("cut off from the database", testCutOffDatabase)
	t.Run("one of two is killed", testReplicas)
}

// testCutOffDatabase takes the network between a global and its PostgreSQL away
// without a word, which is worse than a server that is gone: nothing refuses.
func testCutOffDatabase(t *testing.T) {
	ctx := t.Context()
	pg, err := pgtemp.Start(ctx, pgtemp.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pg.Close() })
	cable := newRelay(t, fmt.Sprintf("%s:%d", pg.Host(), pg.Port()))
	db := clustertest.Database(pg)
	host, port, _ := strings.Cut(cable.Address(), ":")
	db.Host = host
	if db.Port, err = strconv.Atoi(port); err != nil {
		t.Fatal(err)
	}
	c := clustertest.New(t)
	global, err := c.Global(ctx, db, "ATOLL_STORE_POSTGRES_CONNECTION_TIMEOUT=2")
	if err != nil {
		t.Fatal(err)
	}
	if err := global.Put(ctx, "/meshes/"+clustertest.Mesh, "type: Mesh\nname: "+clustertest.Mesh+"\n"); err != nil {
		t.Fatal(err)
	}
	w := write(global, "w")
	for i := range 5 {
		if err := put(global, fmt.Sprint("before-", i), 1); err != nil {
			t.Fatal(err)
		}
	}

	cable.Cut()
	begun := time.Now()
	refusal := put(global, "during", 1)
	t.Logf("after %s a write says: %v", time.Since(begun).Round(time.Millisecond), refusal)
	if refusal == nil || !strings.Contains(refusal.Error(), "503") {
		t.Errorf("a write without database: %v", refusal)
	}
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("a write was refused after %s only", took)
	}
	if err := global.Do(ctx, http.MethodGet, "/meshes/"+clustertest.Mesh, nil, nil); err != nil {
		t.Errorf("a read without database: %v", err)
	}
	// The lease runs out meanwhile.
	if err := clustertest.AwaitLog(ctx, clustertest.Patience, global.Process, "this instance leads no more"); err != nil {
		t.Error(err)
	}

	cable.Heal()
	healed := time.Now()
	limit, cancel := context.WithDeadline(ctx, healed.Add(recovery))
	defer cancel()
	if err := cluster.Until(limit, "write", func(context.Context) error { return put(global, "after", 1) }); err != nil {
		t.Fatal(err)
	}
	t.Logf("a write is taken %s after the network is back", time.Since(healed).Round(time.Millisecond))
	err = cluster.Until(limit, "leader", func(context.Context) error {
		if n := strings.Count(global.Tail(1<<20), "this instance leads\""); n < 2 {
			return fmt.Errorf("it led %d times", n)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	t.Logf("it leads again %s after the network is back", time.Since(healed).Round(time.Millisecond))
	w.stop()
	<-w.done
	t.Logf("%d writes were acknowledged, refused: %v", w.count, w.errs)
	got, err := numbers(limit, global, w.prefix)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.lost(got); err != nil {
		t.Error(err)
	}
}
