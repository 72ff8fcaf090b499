package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/atoll-mesh/atoll/test/cluster"
	"github.com/atoll-mesh/atoll/tools/pgtemp"
)

const (
	mesh = "demo"
	// callPort is where each client's Envoy offers "backend".
	callPort = 10080
	// requests per measurement. 3% off a true 90/10 would be 4.5 standard
	// deviations.
	requests  = 2000
	tolerance = 3.0 // percent
	patience  = 20 * time.Second
)

// The versions of the backend, which are also what they answer.
const v1, v2 = "v1", "v2"

// demo is everything that runs.
type demo struct {
	say    *teller
	c      *cluster.Cluster
	pg     *pgtemp.Server
	global *cluster.ControlPlane
	zones  []*zone
	flow   *cluster.Traffic
}

type zone struct {
	*cluster.ControlPlane
	client *cluster.Proxy
}

func (z *zone) url() string { return z.client.URL(callPort) }

func (d *demo) close() error {
	if d.flow != nil {
		d.flow.Stop()
	}
	err := d.c.Close()
	if d.pg != nil {
		err = errors.Join(err, d.pg.Close())
	}
	return err
}

func (d *demo) steps() []step {
	return []step{
		{"A database, and the global control plane, which holds the policies of the whole company.", d.startGlobal},
		{"Two zones, east and west: each has its own control plane with its own state, and syncs with the global.", d.startZones},
		{"At the global: a mesh, and a timeout for every call in it.", d.applyMesh},
		{"In each zone a client and two versions of a backend, each beside an Envoy of its own.", d.startWorkloads},
		{"Measure: nobody asked for version 2 yet.", d.before},
		{"At the global, one command: a tenth of the requests shall go to version 2, everywhere.", d.split},
		{"Kill the global (SIGKILL). Traffic must not notice, and the zones can still be changed.", d.killGlobal},
		{"Start the global again. The zones catch up by themselves.", d.restartGlobal},
		{"Promote: at the global, version 2 for everybody. East keeps what it decided for itself.", d.promote},
	}
}

func (d *demo) startGlobal(ctx context.Context) error {
	var db *cluster.Postgres
	var err error
	if d.pg, err = pgtemp.Start(ctx, pgtemp.Options{}); err != nil {
		d.say.note("PostgreSQL cannot be had here (%v), so the global keeps its state in SQLite", err)
	} else {
		db = &cluster.Postgres{Host: d.pg.Host(), Port: d.pg.Port(), User: d.pg.User(), Password: d.pg.Password(), DBName: d.pg.DBName()}
		d.say.note("PostgreSQL, private and temporary, on port %d", db.Port)
	}
	if d.global, err = d.c.Global(ctx, db); err != nil {
		return err
	}
	d.say.note("global control plane at %s", d.global.URL)
	return nil
}

func (d *demo) startZones(ctx context.Context) error {
	names := []string{"east", "west"}
	d.zones = make([]*zone, len(names))
	g, ctx := errgroup.WithContext(ctx)
	for i, name := range names {
		g.Go(func() error {
			cp, err := d.c.FederatedZone(ctx, d.global, name)
			if err != nil {
				return err
			}
			d.zones[i] = &zone{ControlPlane: cp}
			return d.global.WaitInSync(ctx, patience, name)
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for _, z := range d.zones {
		d.say.note("zone %s at %s, connected", z.Name, z.URL)
	}
	return nil
}

// apply runs the command that a user would.
func (d *demo) apply(ctx context.Context, cp *cluster.ControlPlane, file string) error {
	root, err := cluster.Repository()
	if err != nil {
		return err
	}
	file = filepath.Join(root, "deployments", "demo", file)
	if here, err := os.Getwd(); err == nil {
		if rel, err := filepath.Rel(here, file); err == nil {
			file = rel
		}
	}
	d.say.note("$ atollctl --server %s apply -f %s", cp.URL, file)
	out, err := exec.CommandContext(ctx, filepath.Join(d.c.Bin, "atollctl"), "--server", cp.URL, "apply", "-f", file).CombinedOutput()
	if err != nil {
		return fmt.Errorf("atollctl apply -f %s: %w\n%s", file, err, out)
	}
	return nil
}

func (d *demo) applyMesh(ctx context.Context) error {
	if err := d.apply(ctx, d.global, "mesh.yaml"); err != nil {
		return err
	}
	for _, z := range d.zones {
		if err := z.WaitFor(ctx, patience, "/meshes/"+mesh); err != nil {
			return err
		}
	}
	d.say.note("the mesh is in both zones")
	return nil
}

func (d *demo) startWorkloads(ctx context.Context) error {
	for _, z := range d.zones {
		for version, workload := range map[string]string{v1: "backend", v2: "backend-next"} {
			if err := d.startBackend(ctx, z, workload+"-1", workload, version); err != nil {
				return err
			}
		}
		var err error
		z.client, err = d.c.Proxy(ctx, z.ControlPlane, d.global, cluster.ProxySpec{
			Mesh: mesh, Name: "client-1", Labels: map[string]string{"kuma.io/workload": "client"},
			Outbounds: map[int]string{callPort: "backend"},
		})
		if err != nil {
			return err
		}
	}
	for _, z := range d.zones {
		if err := cluster.WaitAnswer(ctx, patience, z.url()); err != nil {
			return err
		}
		d.say.note("zone %s: the client reaches \"backend\" through its Envoy at %s", z.Name, z.url())
	}
	return nil
}

// startBackend starts one instance of the application with its proxy.
func (d *demo) startBackend(ctx context.Context, z *zone, name, workload, version string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	ports, err := cluster.Ports(1)
	if err != nil {
		return err
	}
	app := d.c.Process(z.Name+"-"+name+"-app", nil, self, "app", version, fmt.Sprint(ports[0]))
	if err := app.Start(); err != nil {
		return err
	}
	spec := cluster.ProxySpec{
		Mesh: mesh, Name: name, Labels: map[string]string{"kuma.io/workload": workload, "version": version}, AppPort: ports[0],
	}
	_, err = d.c.Proxy(ctx, z.ControlPlane, d.global, spec)
	return err
}

// expect measures a zone and compares the share of version 2.
func (d *demo) expect(ctx context.Context, z *zone, wantV2 float64) error {
	s := cluster.Measure(ctx, z.url(), requests)
	d.say.note("zone %s: %d requests: %5.1f%% version 1, %5.1f%% version 2, %d failed", z.Name, s.Total(), s.Share(v1), s.Share(v2), s.Failed)
	if s.Failed > 0 {
		return fmt.Errorf("zone %s: %d of %d requests failed: %w", z.Name, s.Failed, s.Total(), s.Last)
	}
	if off := s.Share(v2) - wantV2; off > tolerance || off < -tolerance {
		return fmt.Errorf("zone %s: version 2 got %.1f%% and not %.0f%%", z.Name, s.Share(v2), wantV2)
	}
	return nil
}

func (d *demo) before(ctx context.Context) error {
	for _, z := range d.zones {
		if err := d.expect(ctx, z, 0); err != nil {
			return err
		}
	}
	return nil
}

// live waits for the first answer of version 2 in a zone.
func live(ctx context.Context, z *zone) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return cluster.Until(ctx, "zone "+z.Name, func(ctx context.Context) error {
		if s := cluster.Measure(ctx, z.url(), 20); s.Share(v2) == 0 {
			return errors.New("version 2 gets no request")
		}
		return nil
	})
}

func (d *demo) split(ctx context.Context) error {
	if err := d.apply(ctx, d.global, "route.yaml"); err != nil {
		return err
	}
	applied := time.Now()
	for _, z := range d.zones {
		if err := live(ctx, z); err != nil {
			return err
		}
		d.say.note("zone %s: version 2 answers %d ms after the command", z.Name, time.Since(applied).Milliseconds())
	}
	for _, z := range d.zones {
		if err := d.expect(ctx, z, 10); err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) killGlobal(ctx context.Context) error {
	d.flow = cluster.Flow(20*time.Millisecond, d.zones[0].url(), d.zones[1].url())
	d.global.Kill()
	d.say.note("the global is dead; requests go on in both zones meanwhile")
	for _, z := range d.zones {
		if err := d.expect(ctx, z, 10); err != nil {
			return err
		}
	}
	east := d.zones[0]
	d.say.note("a change within zone east: half of its requests to version 2")
	if err := d.apply(ctx, east.ControlPlane, "route-east.yaml"); err != nil {
		return err
	}
	if err := cluster.Until(ctx, "zone east", func(ctx context.Context) error {
		if s := cluster.Measure(ctx, east.url(), 100); s.Share(v2) < 25 {
			return fmt.Errorf("version 2 gets %.0f%%", s.Share(v2))
		}
		return nil
	}); err != nil {
		return err
	}
	if err := d.expect(ctx, east, 50); err != nil {
		return err
	}
	return d.expect(ctx, d.zones[1], 10)
}

func (d *demo) restartGlobal(ctx context.Context) error {
	if err := d.global.Start(ctx); err != nil {
		return err
	}
	d.say.note("the global is back")
	for _, z := range d.zones {
		if err := d.catchUp(ctx, z); err != nil {
			return err
		}
	}
	// What east did meanwhile is known at the global now.
	if err := d.global.Has(ctx, patience, "/meshes/"+mesh+"/meshhttproutes", "canary-east"); err != nil {
		return err
	}
	sent, failures := d.flow.Stop()
	d.flow = nil
	d.say.note("from the kill until now: %d requests in both zones, %d failed", sent, len(failures))
	if len(failures) > 0 {
		return fmt.Errorf("%d requests failed while the global was away; the first: %w", len(failures), failures[0].Err)
	}
	return nil
}

func (d *demo) promote(ctx context.Context) error {
	if err := d.apply(ctx, d.global, "promote.yaml"); err != nil {
		return err
	}
	east, west := d.zones[0], d.zones[1]
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := cluster.Until(ctx, "zone west", func(ctx context.Context) error {
		if s := cluster.Measure(ctx, west.url(), 20); s.Share(v2) < 100 {
			return fmt.Errorf("version 2 gets %.0f%%", s.Share(v2))
		}
		return nil
	}); err != nil {
		return err
	}
	if err := d.expect(ctx, west, 100); err != nil {
		return err
	}
	return d.expect(ctx, east, 50)
}

// catchUp shows the lag of a zone until it is zero.
func (d *demo) catchUp(ctx context.Context, z *zone) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	last := ""
	return cluster.Until(ctx, "zone "+z.Name, func(ctx context.Context) error {
		online, lag, err := d.global.Online(ctx, z.Name)
		if err != nil {
			return err
		}
		now := fmt.Sprintf("zone %s: not connected yet", z.Name)
		if online {
			now = fmt.Sprintf("zone %s: connected, %d revisions behind", z.Name, lag)
		}
		if now != last {
			d.say.note("%s", now)
			last = now
		}
		if !online || lag != 0 {
			return errors.New(now)
		}
		return nil
	})
}

// explain points to the logs after a failure.
func (d *demo) explain() {
	d.c.Keep = true
	d.say.line("The logs stay in %s.", d.c.Dir)
}

// invite says what can be tried.
func (d *demo) invite() {
	ctl := filepath.Join(d.c.Bin, "atollctl")
	east := d.zones[0]
	d.say.line("\nEverything stays up. Try, in another terminal:\n")
	for _, l := range []string{
		"curl " + east.url() + "                          # a call in zone east, through its Envoy",
		ctl + " --server " + d.global.URL + " inspect zones",
		ctl + " --server " + east.URL + " inspect dataplanes --mesh " + mesh,
		ctl + " --server " + d.global.URL + " get meshhttproutes --mesh " + mesh,
		"curl " + d.global.URL + "                        # the REST API of the global",
	} {
		d.say.line("  %s", l)
	}
	d.say.line("\nControl planes: global %s, east %s, west %s.\nCtrl-C ends the demo.", d.global.URL, east.URL, d.zones[1].URL)
}
