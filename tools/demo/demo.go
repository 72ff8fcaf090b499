package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/atoll-mesh/atoll/test/cluster"
	"github.com/atoll-mesh/atoll/test/ports"
	"github.com/atoll-mesh/atoll/tools/pgtemp"
)

const (
	mesh = "demo"
	// callPort is where each client's Envoy offers "backend".
	callPort = 10080
	// entryPort is where other zones enter a zone.
	entryPort = 10001
	patience  = 20 * time.Second
)

// demo is everything that runs.
type demo struct {
	say        *teller
	c          *cluster.Cluster
	pg         *pgtemp.Server
	global     *cluster.ControlPlane
	east, west *zone
	flow       *flow // the clients' requests, from the moment that all runs
}

// zone is a control plane, and beside it two backends, the zone proxy by which
// other zones enter, and a client.
type zone struct {
	*cluster.ControlPlane
	apps     []*cluster.Process
	backends []*cluster.Proxy
	entrance *cluster.Proxy
	client   *cluster.Proxy
}

func (z *zone) url() string { return z.client.URL(callPort) }

func (d *demo) zones() []*zone { return []*zone{d.east, d.west} }

func (d *demo) close() error {
	if d.flow != nil {
		d.flow.stop()
	}
	err := d.c.Close()
	if d.pg != nil {
		err = errors.Join(err, d.pg.Close())
	}
	return err
}

func (d *demo) steps() []step {
	return []step{
		{"A database, and the global control plane, which holds what is true for the whole company.", d.startGlobal},
		{"Two zones, east and west: each has a control plane with its own state, and syncs with the global.", d.startZones},
		{"At the global: a mesh in which everybody proves who they are, and the service \"backend\", of all zones.", d.applyMesh},
		{"In each zone a client, two backends and a zone proxy, each with an Envoy of its own.", d.startProxies},
		{"One change, applied once, at the global. It is in force in both zones.", d.change},
		{"Before anything is lost: would somebody notice the loss of a zone?", d.check},
		{"Kill zone east's backends and its zone proxy (SIGKILL), under load.", d.lose},
		{"Start them again. Requests come home; none may fail on the way.", d.giveBack},
		{"Take zone west out of the traffic on purpose, as for maintenance, and put it back.", d.drain},
		{"Kill the global (SIGKILL) and start it again. Traffic must not notice.", d.killGlobal},
		{"Certificates lived for 30 s meanwhile, and were replaced under load.", d.certificates},
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
	g, ctx := errgroup.WithContext(ctx)
	for name, z := range map[string]**zone{"east": &d.east, "west": &d.west} {
		g.Go(func() error {
			cp, err := d.c.FederatedZone(ctx, d.global, name)
			if err != nil {
				return err
			}
			*z = &zone{ControlPlane: cp}
			return d.global.WaitInSync(ctx, patience, name)
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for _, z := range d.zones() {
		d.say.note("zone %s at %s, connected", z.Name, z.URL)
	}
	return nil
}

// ctl runs the command that a user would, and returns what it says.
func (d *demo) ctl(ctx context.Context, cp *cluster.ControlPlane, args ...string) (string, error) {
	d.say.note("$ atollctl --server %s %s", cp.URL, strings.Join(args, " "))
	cmd := exec.CommandContext(ctx, filepath.Join(d.c.Bin, "atollctl"), append([]string{"--server", cp.URL}, args...)...)
	cmd.Env = append(os.Environ(), "XDG_CONFIG_HOME="+d.c.Dir) // nobody's contexts
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("atollctl %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

// apply applies a file of the demo.
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
	_, err = d.ctl(ctx, cp, "apply", "-f", file)
	return err
}

func (d *demo) applyMesh(ctx context.Context) error {
	if err := d.apply(ctx, d.global, "mesh.yaml"); err != nil {
		return err
	}
	for _, z := range d.zones() {
		if err := z.WaitFor(ctx, patience, "/meshes/"+mesh); err != nil {
			return err
		}
	}
	d.say.note("the mesh is in both zones")
	return nil
}

func (d *demo) startProxies(ctx context.Context) error {
	g, all := errgroup.WithContext(ctx)
	for _, z := range d.zones() {
		z.backends, z.apps = make([]*cluster.Proxy, 2), make([]*cluster.Process, 2)
		for i := range z.backends {
			g.Go(func() error { return d.startBackend(all, z, i) })
		}
		g.Go(func() error { return d.startEntrance(all, z) })
		g.Go(func() (err error) {
			z.client, err = d.c.Proxy(all, z.ControlPlane, d.global, cluster.ProxySpec{
				Mesh: mesh, Name: "client", Labels: map[string]string{"kuma.io/workload": "client"},
				MultiZone: map[int]string{callPort: "backend"},
			})
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	d.flow = newFlow()
	for _, z := range d.zones() {
		if err := cluster.WaitAnswer(ctx, patience, z.url()); err != nil {
			return err
		}
		d.say.note("zone %s: the client calls \"backend\" at %s, with mutual TLS from Envoy to Envoy", z.Name, z.url())
	}
	for _, z := range d.zones() {
		d.flow.start(z)
	}
	d.say.note("from now on each client makes %d requests a second", rate)
	return nil
}

// startBackend starts an instance of the application with its proxy.
func (d *demo) startBackend(ctx context.Context, z *zone, i int) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	port, err := ports.Free("127.0.0.1", 1)
	if err != nil {
		return err
	}
	name := fmt.Sprintf("backend-%d", i+1)
	z.apps[i] = d.c.Process(z.Name+"-"+name+"-app", nil, self, "app", z.Name, fmt.Sprint(port[0]))
	if err := z.apps[i].Start(); err != nil {
		return err
	}
	z.backends[i], err = d.c.Proxy(ctx, z.ControlPlane, d.global, cluster.ProxySpec{
		Mesh: mesh, Name: name, Labels: map[string]string{"kuma.io/workload": "backend"}, AppPort: port[0],
	})
	return err
}

// startEntrance starts a zone proxy, and tells other zones where it is.
func (d *demo) startEntrance(ctx context.Context, z *zone) (err error) {
	address := d.c.Address()
	where := fmt.Sprintf("type: MeshZoneAddress\nmesh: %s\nname: entrance\nlabels: {kuma.io/origin: zone}\nspec: {address: %s, port: %d}\n", mesh, address, entryPort)
	if err := z.Put(ctx, "/meshes/"+mesh+"/meshzoneaddresses/entrance", where); err != nil {
		return err
	}
	z.entrance, err = d.c.Proxy(ctx, z.ControlPlane, d.global, cluster.ProxySpec{
		Mesh: mesh, Name: "zone-proxy", Labels: map[string]string{"kuma.io/workload": "zone-proxy"},
		Address: address, Ingress: entryPort,
	})
	return err
}
