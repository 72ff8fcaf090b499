// Command demo shows Atoll's main job on this machine with real parts: a global
// control plane, two zones, and an Envoy beside every application. make demo
// runs it. ONCE=1, or no terminal, makes it end by itself.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/atoll-mesh/atoll/test/cluster"
)

func main() {
	if len(os.Args) == 4 && os.Args[1] == "app" { // started by the demo itself
		if err := serveApp(os.Args[2], os.Args[3]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, newTeller(os.Stdout)); err != nil {
		os.Exit(1)
	}
}

// limit is far more than the demo takes: it must not hang.
const limit = 5 * time.Minute

func run(ctx context.Context, say *teller) (err error) {
	c, err := cluster.New(cluster.Options{})
	if err != nil {
		say.failed(err)
		return err
	}
	d := &demo{say: say, c: c}
	defer func() {
		say.line("Cleaning up.")
		err = errors.Join(err, d.close())
	}()
	say.line("Atoll, live on this machine. Logs are in %s.", c.Dir)
	timed, cancel := context.WithTimeoutCause(ctx, limit, errors.New("the demo took too long"))
	defer cancel()
	for _, s := range d.steps() {
		if err := say.step(timed, s); err != nil {
			say.failed(err)
			d.explain()
			return err
		}
	}
	say.line("\nEverything held, in %s.", say.elapsed())
	if os.Getenv("ONCE") == "1" || !say.terminal {
		return nil
	}
	d.invite()
	<-ctx.Done()
	return nil
}
