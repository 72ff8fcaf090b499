// Package simulate holds what 'atollctl failover simulate' says against what real
// Envoys do when the zone is lost.
package simulate

import (
	"context"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/atoll-mesh/atoll/test/cluster"
	"github.com/atoll-mesh/atoll/test/cluster/clustertest"
)

const (
	// Ports on a proxy's address.
	entrancePort, backendPort = 10001, 10090
	// patience bounds waits for what should take seconds.
	patience = 40 * time.Second
	// topologies are tried by default; ATOLL_TOPOLOGIES is another number. Each
	// takes some seconds and about seven Envoys.
	topologies = 20
	// atOnce bounds how many of them run side by side.
	atOnce = 4
	// requests are enough to tell the shares that occur from each other: half,
	// third, two thirds, quarter and so on.
	requests, tolerance = 400, 0.09
)

// world is one global with its zones; every topology is a mesh of its own.
type world struct {
	*cluster.Cluster
	global *cluster.ControlPlane
	zones  map[string]*cluster.ControlPlane
}

func start(t *testing.T) *world {
	ctx := t.Context()
	w := &world{Cluster: clustertest.New(t), zones: map[string]*cluster.ControlPlane{}}
	var err error
	if w.global, err = w.Global(ctx, nil); err != nil {
		t.Fatal(err)
	}
	for _, z := range zones {
		if w.zones[z], err = w.FederatedZone(ctx, w.global, z); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

// TestSimulationIsTrue generates topologies, asks where requests go before and
// after the loss of a zone, and sends some at both times.
func TestSimulationIsTrue(t *testing.T) {
	n := topologies
	if s := os.Getenv("ATOLL_TOPOLOGIES"); s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil || n < 1 {
			t.Fatalf("ATOLL_TOPOLOGIES is %q and not a number", s)
		}
	}
	w := start(t)
	var g errgroup.Group
	g.SetLimit(atOnce)
	for i := range n {
		x := generate(i)
		g.Go(func() error {
			if err := w.try(t, x); err != nil {
				return fmt.Errorf("%v: %w", x, err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
}

// try builds a topology, loses the zone and compares.
func (w *world) try(t *testing.T, x *topology) error {
	ctx := t.Context()
	if err := w.global.Put(ctx, "/meshes/"+x.mesh, "type: Mesh\nname: "+x.mesh+"\n"); err != nil {
		return err
	}
	if out, errOut, code := clustertest.Ctl(t, w.Cluster, w.global.URL, x.resources(), "apply", "-f", "-"); code != 0 {
		return fmt.Errorf("atollctl apply: exit code %d\n%s%s", code, out, errOut)
	}
	lost, client, err := w.build(t, x)
	if err != nil {
		return err
	}
	defer client.KillAll()
	target := client.URL(backendPort)
	ctx, cancel := context.WithTimeout(ctx, 2*patience)
	defer cancel()
	for _, cp := range []*cluster.ControlPlane{w.global, w.zones[home]} {
		if err := known(ctx, cp, x); err != nil {
			return err
		}
	}
	var before, after shares
	err = cluster.Until(ctx, "before", func(ctx context.Context) (err error) {
		if before, after, err = w.foretold(ctx, x); err != nil {
			return err
		}
		return before.differ(cluster.Measure(ctx, target, requests))
	})
	if err != nil {
		return err
	}
	for _, p := range lost[x.lose] {
		p.KillAll()
	}
	if err := observed(ctx, target, after); err != nil {
		return fmt.Errorf("before it was %v as foretold; after: %w", before, err)
	}
	t.Logf("%v: %v → %v", x, before, after)
	for z, list := range lost {
		for _, p := range list {
			if z != x.lose {
				p.KillAll()
			}
		}
	}
	return nil
}

// build starts all proxies, by zone those that go with it.
func (w *world) build(t *testing.T, x *topology) (map[string][]*cluster.Proxy, *cluster.Proxy, error) {
	ctx := t.Context()
	proxies := map[string][]*cluster.Proxy{}
	for _, z := range zones {
		zone := w.zones[z]
		if err := zone.WaitFor(ctx, patience, "/meshes/"+x.mesh); err != nil {
			return nil, nil, err
		}
		add := func(spec cluster.ProxySpec) error {
			spec.Mesh = x.mesh
			p, err := w.Proxy(ctx, zone, w.global, spec)
			if err == nil {
				proxies[z] = append(proxies[z], p)
			}
			return err
		}
		for n := range x.backends[z] {
			port, err := answering(t, z)
			if err != nil {
				return nil, nil, err
			}
			err = add(cluster.ProxySpec{
				Name: fmt.Sprintf("%s-backend-%d", x.mesh, n), AppPort: port,
				Labels: map[string]string{"kuma.io/workload": "backend"},
			})
			if err != nil {
				return nil, nil, err
			}
		}
		if !x.ingress[z] {
			continue
		}
		address := w.Address()
		err := zone.Put(ctx, "/meshes/"+x.mesh+"/meshzoneaddresses/entrance", fmt.Sprintf(
			"type: MeshZoneAddress\nmesh: %s\nname: entrance\nlabels: {kuma.io/origin: zone}\nspec: {address: %s, port: %d}\n", x.mesh, address, entrancePort))
		if err != nil {
			return nil, nil, err
		}
		err = add(cluster.ProxySpec{
			Name: x.mesh + "-zone-proxy", Address: address, Ingress: entrancePort,
			Labels: map[string]string{"kuma.io/workload": "zone-proxy"},
		})
		if err != nil {
			return nil, nil, err
		}
	}
	client, err := w.Proxy(ctx, w.zones[home], w.global, cluster.ProxySpec{
		Mesh: x.mesh, Name: x.mesh + "-client", Labels: map[string]string{"kuma.io/workload": "client"},
		MultiZone: map[int]string{backendPort: "backend"},
	})
	return proxies, client, err
}

// answering is the port of an application that says in which zone it is.
func answering(t *testing.T, zone string) (int, error) {
	app := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { io.WriteString(rw, zone) }))
	t.Cleanup(app.Close)
	u, err := url.Parse(app.URL)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(u.Port())
}

// shares are the parts of all requests that zones answer; empty: none does.
type shares map[string]float64

// known waits until a control plane knows of all that runs.
func known(ctx context.Context, cp *cluster.ControlPlane, x *topology) error {
	services, entrances := 0, 0
	for _, z := range zones {
		if x.backends[z] > 0 {
			services++
		}
		if x.ingress[z] {
			entrances++
		}
	}
	return cluster.Until(ctx, cp.Name, func(ctx context.Context) error {
		var list struct {
			Total int
			Items []struct {
				Labels map[string]string
				Spec   struct{ State string }
			}
		}
		if err := cp.Do(ctx, http.MethodGet, "/meshes/"+x.mesh+"/meshservices", nil, &list); err != nil {
			return err
		}
		n := 0
		for _, svc := range list.Items {
			if svc.Labels["kuma.io/display-name"] == "backend" && svc.Spec.State == "Available" {
				n++
			}
		}
		if n != services {
			return fmt.Errorf("it knows of %d of %d services", n, services)
		}
		if err := cp.Do(ctx, http.MethodGet, "/meshes/"+x.mesh+"/meshzoneaddresses", nil, &list); err != nil {
			return err
		}
		if list.Total != entrances {
			return fmt.Errorf("it knows of %d of %d entrances", list.Total, entrances)
		}
		return nil
	})
}

// foretold asks for the simulation: of the loss of the client's own zone that
// zone itself, of another the global.
func (w *world) foretold(ctx context.Context, x *topology) (before, after shares, err error) {
	cp := w.global
	if x.lose == home {
		cp = w.zones[home]
	}
	var out struct {
		Moves []struct {
			Kind, Name, Zone string
			Before, After    []struct {
				Zone  string
				Share float64
			}
		}
	}
	if err := cp.Do(ctx, http.MethodGet, "/failover/simulate?lose="+x.lose+"&mesh="+x.mesh, nil, &out); err != nil {
		return nil, nil, err
	}
	for _, m := range out.Moves {
		if m.Kind != "MeshMultiZoneService" || m.Name != "backend" || m.Zone != home {
			continue
		}
		before, after = shares{}, shares{}
		for _, b := range m.Before {
			before[b.Zone] += b.Share
		}
		for _, a := range m.After {
			after[a.Zone] += a.Share
		}
		return before, after, nil
	}
	return nil, nil, fmt.Errorf("the simulation says nothing of the service: %v", out.Moves)
}

// observed waits until the answers are shared as foretold, and then wants them
// to stay so.
func observed(ctx context.Context, target string, want shares) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	agree := func(ctx context.Context) error { return want.differ(cluster.Measure(ctx, target, requests)) }
	if err := cluster.Until(ctx, "foretold "+fmt.Sprint(want), agree); err != nil {
		return err
	}
	return agree(ctx)
}

func (want shares) differ(got *cluster.Split) error {
	total, served := float64(got.Total()), 0.0
	for _, share := range want {
		served += share
	}
	if wrong := float64(got.Failed) / total; math.Abs(1-served-wrong) > tolerance/10 {
		return fmt.Errorf("%d of %d failed: %v", got.Failed, got.Total(), got.Last)
	}
	for _, z := range zones {
		if have := float64(got.Answers[z]) / total; math.Abs(have-want[z]) > tolerance {
			return fmt.Errorf("zone %s answers %.2f of the requests, not %.2f: %v", z, have, want[z], got.Answers)
		}
	}
	return nil
}
