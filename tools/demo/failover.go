package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/atoll-mesh/atoll/test/cluster"
)

// errAgain ends a wait for requests to go where they should.
var errAgain = errors.New("requests do not go where they should")

// tolerated is the share of requests, in thousandths, that may fail in the
// moment in which a zone dies. At other times none may.
const tolerated = 1

// unharmed does something during which no request may fail, or at most some.
func (d *demo) unharmed(may int, do func() error) error {
	before, _ := d.flow.failed()
	from := d.flow.sent()
	err := do()
	after, last := d.flow.failed()
	n, sent := after-before, d.flow.sent()-from
	d.say.note("%d requests of both clients, %d failed", sent, n)
	if allowed := sent * may / 1000; err == nil && n > allowed {
		err = fmt.Errorf("%d of %d requests failed, and at most %d may: %w", n, sent, allowed, last)
	}
	return err
}

// change shows that what is applied at the global is in force in all zones.
func (d *demo) change(ctx context.Context) error {
	return d.unharmed(0, func() error {
		if err := d.apply(ctx, d.global, "change.yaml"); err != nil {
			return err
		}
		applied := time.Now()
		for _, z := range d.zones() {
			if err := greeted(ctx, z.url()); err != nil {
				return err
			}
			d.say.note("zone %s: answers carry the header %d ms after the command", z.Name, time.Since(applied).Milliseconds())
		}
		return nil
	})
}

func greeted(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return cluster.Until(ctx, url, func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.Header.Get("x-greeting") == "" {
			return errors.New("the answer has no header x-greeting")
		}
		return nil
	})
}

// check asks what would happen, as it should be asked before every maintenance.
func (d *demo) check(ctx context.Context) error {
	// The zones have just told the global what they have.
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := cluster.Until(ctx, "gaps", func(ctx context.Context) error {
		return d.global.Do(ctx, http.MethodGet, "/failover/gaps?mesh="+mesh, nil, nil)
	}); err != nil {
		return err
	}
	out, err := d.ctl(ctx, d.global, "failover", "check", "-m", mesh)
	for line := range strings.Lines(out) {
		if line = strings.TrimRight(line, " \n"); line != "" {
			d.say.note("  %s", line)
		}
	}
	return err
}

func home(zone string, c *count) bool { return c.failed == 0 && c.share(zone) == 100 }

// lose kills what serves in east. Its client, which lives, is served by west.
func (d *demo) lose(ctx context.Context) error {
	if err := d.watch(ctx, 2, func(east, west *count) bool { return home("east", east) && home("west", west) }); err != nil {
		return err
	}
	return d.unharmed(tolerated, func() error {
		for _, p := range append(d.east.backends, d.east.entrance) {
			p.SignalAll(syscall.SIGKILL)
		}
		for _, a := range d.east.apps {
			a.Kill()
		}
		d.say.note("dead: the backends of east, their Envoys and agents, and the zone proxy")
		for _, p := range append(d.east.backends, d.east.entrance) {
			p.Kill()
		}
		return d.watch(ctx, 5, func(east, west *count) bool { return home("west", east) && home("west", west) })
	})
}

func (d *demo) giveBack(ctx context.Context) error {
	return d.unharmed(0, func() error {
		var g errgroup.Group
		for _, a := range d.east.apps {
			if err := a.Start(); err != nil {
				return err
			}
		}
		for _, p := range append(d.east.backends, d.east.entrance) {
			g.Go(func() error { return p.Start(ctx) })
		}
		if err := g.Wait(); err != nil {
			return err
		}
		d.say.note("all is ready again")
		return d.watch(ctx, 2, func(east, west *count) bool { return home("east", east) && home("west", west) })
	})
}

// drain moves the traffic of west to east and back, without loss.
func (d *demo) drain(ctx context.Context) error {
	return d.unharmed(0, func() error {
		var g errgroup.Group
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		g.Go(func() error {
			_, err := d.ctl(ctx, d.global, "zone", "drain", "west", "--ramp", "3s", "--timeout", "10s", "--watch")
			return err
		})
		if err := d.watch(ctx, 3, func(_, west *count) bool { return home("east", west) }); err != nil {
			return err
		}
		if err := g.Wait(); err != nil {
			return err
		}
		d.say.note("west is drained: nobody calls what is there, and it can be worked on")
		g.Go(func() error {
			_, err := d.ctl(ctx, d.global, "zone", "undrain", "west", "--watch")
			return err
		})
		if err := d.watch(ctx, 1, func(_, west *count) bool { return home("west", west) }); err != nil {
			return err
		}
		return g.Wait()
	})
}

func (d *demo) killGlobal(ctx context.Context) error {
	return d.unharmed(0, func() error {
		d.global.Kill()
		d.say.note("the global is dead")
		if err := d.watch(ctx, 2, func(east, west *count) bool { return home("east", east) && home("west", west) }); err != nil {
			return err
		}
		if err := d.global.Start(ctx); err != nil {
			return err
		}
		for _, z := range d.zones() {
			if err := d.global.WaitInSync(ctx, patience, z.Name); err != nil {
				return err
			}
		}
		d.say.note("the global is back, and both zones are in sync with it")
		return nil
	})
}

// certificates shows that those of the clients were replaced since they started,
// and what became of all requests.
func (d *demo) certificates(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*patience) // more than one life
	defer cancel()
	for _, z := range d.zones() {
		var n int
		if err := cluster.Until(ctx, "zone "+z.Name, func(ctx context.Context) (err error) {
			var issued string
			if n, issued, err = z.renewals(ctx); err != nil {
				return err
			}
			if n < 2 {
				return fmt.Errorf("the client has its first certificate, of %s", issued)
			}
			return nil
		}); err != nil {
			return err
		}
		d.say.note("zone %s: the client has its certificate number %d", z.Name, n)
	}
	failed, _ := d.flow.failed()
	d.say.note("since the clients began: %d requests, %d failed", d.flow.sent(), failed)
	return nil
}

// renewals is how many certificates the client of a zone has had, and when the
// last was issued.
func (z *zone) renewals(ctx context.Context) (n int, issued string, err error) {
	var out struct {
		Insight struct {
			MTLS struct {
				CertificateRegenerations    int    `json:"certificateRegenerations"`
				LastCertificateRegeneration string `json:"lastCertificateRegeneration"`
			} `json:"mTLS"`
		} `json:"dataplaneInsight"`
	}
	err = z.Do(ctx, http.MethodGet, "/meshes/"+mesh+"/dataplanes/client/_overview", nil, &out)
	return out.Insight.MTLS.CertificateRegenerations, out.Insight.MTLS.LastCertificateRegeneration, err
}

// explain points to the logs after a failure.
func (d *demo) explain() {
	d.c.Keep = true
	d.say.line("The logs stay in %s.", d.c.Dir)
}

// invite says what can be tried.
func (d *demo) invite() {
	ctl := d.c.Bin + "/atollctl"
	d.say.line("\nEverything stays up, and the clients go on. Try, in another terminal:\n")
	for _, l := range []string{
		"curl " + d.east.url() + "                          # a call in zone east, through its Envoy",
		ctl + " --server " + d.global.URL + " inspect zones",
		ctl + " --server " + d.global.URL + " failover simulate --lose east -m " + mesh,
		ctl + " --server " + d.global.URL + " zone drain east --watch",
		ctl + " --server " + d.east.URL + " inspect dataplanes --mesh " + mesh,
		fmt.Sprintf("kill -STOP %d                           # east's zone proxy hangs", d.east.entrance.EnvoyPID()),
	} {
		d.say.line("  %s", l)
	}
	d.say.line("\nControl planes: global %s, east %s, west %s.\nCtrl-C ends the demo.", d.global.URL, d.east.URL, d.west.URL)
}
