// Command atoll-bench measures a control plane from outside, over public
// protocols only: proxies speak delta ADS, zones speak KDS, users speak REST.
// "make bench" builds and runs it. It prints a table and writes JSON to
// build/bench/. The generator shares the machine with what it measures; the
// memory and CPU it reports are those of the control plane's process alone.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "atoll-bench:", err)
		os.Exit(1)
	}
}

func run() error {
	rows := flag.String("rows", "proxies,zones,rest", "what to measure, a list of proxies, zones, rest")
	sizes := flag.String("sizes", "200x100,500x100,1000x100,1000x10,1000x1000,2000x1000,10000x200/10,200x100+mtls,1000x100+mtls,2000x1000+mtls,10000x200/10+mtls", "cases of proxies: proxies × services, /10 when each reaches only 10 of them, +mtls with mutual TLS and access logs")
	zones := flag.Int("zones", 20, "zones")
	policies := flag.Int("policies", 300, "policies that zones receive")
	dir := flag.String("out", filepath.Join("build", "bench"), "folder for the JSON")
	flag.DurationVar(&profiles, "profile", 0, "how long to profile the control plane, into the folder for temporary files")
	flag.DurationVar(&idleTime, "idle", idleTime, "how long to watch idleness")
	flag.IntVar(&rounds, "rounds", rounds, "how often to measure each change; 0: only what comes before")
	flag.BoolVar(&herd, "herd", true, "restart the control plane in the end, and see how all proxies come back")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()

	var cases []size
	for _, text := range strings.Split(*sizes, ",") {
		c, err := parseSize(text)
		if err != nil {
			return err
		}
		cases = append(cases, c)
	}
	r := &report{}
	for _, what := range strings.Split(*rows, ",") {
		var err error
		switch what {
		case "proxies":
			err = benchSizes(ctx, r, cases)
		case "zones":
			err = benchKDS(ctx, r, *zones, *policies)
		case "rest":
			err = benchREST(ctx, r, 1000)
		default:
			err = fmt.Errorf("unknown row %q", what)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
	if err := r.print(os.Stdout, cases); err != nil {
		return err
	}
	if err := os.MkdirAll(*dir, 0o755); err != nil {
		return err
	}
	return r.save(filepath.Join(*dir, time.Now().Format("20060102-150405")+".json"))
}

func benchSizes(ctx context.Context, r *report, sizes []size) error {
	for _, c := range sizes {
		if err := benchProxies(ctx, r, c); err != nil {
			return err
		}
	}
	return nil
}
