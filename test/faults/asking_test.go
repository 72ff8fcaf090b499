package faults

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/atoll-mesh/atoll/test/cluster"
	"github.com/atoll-mesh/atoll/test/cluster/clustertest"
	"github.com/atoll-mesh/atoll/tools/pgtemp"
)

// TestReplicasAskEachOther has two globals on one PostgreSQL and two replicas of a
// zone on another: whichever is asked about a proxy answers. Then the one that
// holds the proxy is killed, and the other says that the proxy is offline.
func TestReplicasAskEachOther(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	database := func() *cluster.Postgres {
		pg, err := pgtemp.Start(ctx, pgtemp.Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { pg.Close() })
		return clustertest.Database(pg)
	}
	c, other := clustertest.New(t), clustertest.New(t)
	must := func(cp *cluster.ControlPlane, err error) *cluster.ControlPlane {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return cp
	}
	globals, zones := database(), database()
	global := must(c.Global(ctx, globals))
	second := must(other.Global(ctx, globals))
	env := []string{
		"ATOLL_STORE_TYPE=postgres", "ATOLL_STORE_POSTGRES_HOST=" + zones.Host, fmt.Sprintf("ATOLL_STORE_POSTGRES_PORT=%d", zones.Port),
		"ATOLL_STORE_POSTGRES_USER=" + zones.User, "ATOLL_STORE_POSTGRES_PASSWORD=" + zones.Password, "ATOLL_STORE_POSTGRES_DB_NAME=" + zones.DBName,
	}
	holder := must(c.FederatedZone(ctx, global, "east", env...))
	// It has the token of the same zone, and another folder.
	survivor := must(other.FederatedZone(ctx, global, "east", env...))
	if err := global.Put(ctx, "/meshes/"+clustertest.Mesh, "type: Mesh\nname: "+clustertest.Mesh+"\n"); err != nil {
		t.Fatal(err)
	}
	for _, z := range []*cluster.ControlPlane{holder, survivor} {
		if err := z.WaitFor(ctx, clustertest.Patience, "/meshes/"+clustertest.Mesh); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Proxy(ctx, holder, global, cluster.ProxySpec{Mesh: clustertest.Mesh, Name: "web-1"}); err != nil {
		t.Fatal(err)
	}

	const zoned = "/meshes/" + clustertest.Mesh + "/dataplanes/web-1"
	synced := ""
	err := cluster.Until(ctx, "the global has no Dataplane", func(ctx context.Context) error {
		var list struct{ Items []struct{ Name string } }
		err := global.Do(ctx, http.MethodGet, "/meshes/"+clustertest.Mesh+"/dataplanes", nil, &list)
		if err == nil && len(list.Items) != 1 {
			err = errors.New("not there")
		}
		if err == nil {
			synced = "/meshes/" + clustertest.Mesh + "/dataplanes/" + list.Items[0].Name
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range []struct {
		of   string
		cp   *cluster.ControlPlane
		path string
	}{
		{"the replica that has the proxy", holder, zoned}, {"the other replica", survivor, zoned},
		{"the global", global, synced}, {"the other global", second, synced},
	} {
		for tail, want := range map[string]string{"/stats": "server.live", "/clusters": "::", "/xds": "configs"} {
			limit, cancel := context.WithTimeout(ctx, clustertest.Patience)
			err := cluster.Until(limit, q.of+" does not answer "+tail, func(ctx context.Context) error {
				var text string
				err := q.cp.Do(ctx, http.MethodGet, q.path+tail, nil, &text)
				if err == nil && !strings.Contains(text, want) {
					err = fmt.Errorf("%.200s", text)
				}
				return err
			})
			cancel()
			if err != nil {
				t.Error(err)
			}
		}
	}

	online := func(ctx context.Context, cp *cluster.ControlPlane, path string) (bool, error) {
		var o struct {
			DataplaneInsight struct {
				Subscriptions []struct{ ConnectTime, DisconnectTime *time.Time }
			}
		}
		err := cp.Do(ctx, http.MethodGet, path+"/_overview", nil, &o)
		for _, s := range o.DataplaneInsight.Subscriptions {
			if s.DisconnectTime == nil {
				return true, err
			}
		}
		return false, err
	}
	if yes, err := online(ctx, survivor, zoned); err != nil || !yes {
		t.Fatalf("the proxy is not online: %v", err)
	}
	holder.Kill()
	killed := time.Now()
	limit, cancel := context.WithDeadline(ctx, killed.Add(recovery))
	defer cancel()
	for _, q := range []struct {
		cp   *cluster.ControlPlane
		path string
	}{{survivor, zoned}, {global, synced}} {
		err := cluster.Until(limit, q.cp.Name+": the proxy of a replica that was killed stays online", func(ctx context.Context) error {
			yes, err := online(ctx, q.cp, q.path)
			if err == nil && yes {
				err = errors.New("online")
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
		t.Logf("%s knows %s after the kill", q.cp.Name, time.Since(killed).Round(time.Millisecond))
	}
}
