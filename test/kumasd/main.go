// Command kumasd is the discovery of Prometheus that kuma_sd_configs stands for,
// built from Prometheus' own modules: Debian's package leaves it out. It writes
// what it finds into a file that Prometheus reads by file_sd_configs.
//
//	kumasd SERVER CLIENT FILE
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/discovery"
	"github.com/prometheus/prometheus/discovery/targetgroup"
	"github.com/prometheus/prometheus/discovery/xds"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "kumasd:", err)
		os.Exit(1)
	}
}

func run() error {
	if len(os.Args) != 4 {
		return fmt.Errorf("usage: kumasd SERVER CLIENT FILE")
	}
	conf := xds.DefaultKumaSDConfig
	conf.Server, conf.ClientID = os.Args[1], os.Args[2]
	conf.RefreshInterval, conf.FetchTimeout = model.Duration(100*time.Millisecond), model.Duration(10*time.Second)
	registry := prometheus.NewRegistry()
	metrics := conf.NewDiscovererMetrics(registry, discovery.NewRefreshMetrics(registry))
	if err := metrics.Register(); err != nil {
		return err
	}
	d, err := conf.NewDiscoverer(discovery.DiscovererOptions{
		Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)), Metrics: metrics,
	})
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	found := make(chan []*targetgroup.Group)
	go d.Run(ctx, found)
	groups := map[string]*targetgroup.Group{}
	for {
		select {
		case <-ctx.Done():
			return nil
		case list := <-found:
			for _, g := range list {
				groups[g.Source] = g
			}
			if err := write(os.Args[3], groups); err != nil {
				return err
			}
		}
	}
}

// target is one element of what file_sd_configs reads.
type target struct {
	Targets []string          `json:"targets"`
	Labels  map[string]string `json:"labels"`
}

func write(file string, groups map[string]*targetgroup.Group) error {
	out := []target{}
	for _, source := range slices.Sorted(maps.Keys(groups)) {
		for _, labels := range groups[source].Targets {
			t := target{Targets: []string{string(labels[model.AddressLabel])}, Labels: map[string]string{}}
			for k, v := range labels {
				if k != model.AddressLabel {
					t.Labels[string(k)] = string(v)
				}
			}
			out = append(out, t)
		}
	}
	b, err := json.Marshal(out)
	if err != nil {
		return err
	}
	if err := os.WriteFile(file+".new", b, 0o644); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}
