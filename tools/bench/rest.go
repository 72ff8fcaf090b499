package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"
)

// dataplane describes proxy i of service s.
func dataplane(i, s int) map[string]any {
	return map[string]any{
		"type": "Dataplane", "mesh": "default", "name": proxyName(i),
		"labels": map[string]any{"kuma.io/workload": serviceName(s), "app": serviceName(s)},
		"networking": map[string]any{
			"address": fmt.Sprintf("127.%d.%d.%d", 1+i/60000, i/250%240, 1+i%250),
			"inbound": []any{map[string]any{"port": 8080, "name": "http", "protocol": "http"}},
			"transparentProxying": map[string]any{
				"redirectPortInbound": 15006, "redirectPortOutbound": 15001,
			},
		},
	}
}

func proxyName(i int) string   { return fmt.Sprintf("proxy-%d", i) }
func serviceName(s int) string { return fmt.Sprintf("service-%d", s) }

// benchREST measures reads of a control plane that holds n Dataplanes.
func benchREST(ctx context.Context, r *report, n int) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	cp, err := startControlPlane(ctx, nil)
	if err != nil {
		return err
	}
	defer cp.stop()
	for i := range n {
		if err := cp.put(ctx, "/meshes/default/dataplanes/"+proxyName(i), dataplane(i, i%100)); err != nil {
			return err
		}
	}
	name := fmt.Sprintf("REST, %d dataplanes", n)
	for _, c := range []struct{ what, path string }{
		{"list with overview (median of 50)", "/meshes/default/dataplanes/_overview?size=1000"},
		{"list (median of 50)", "/meshes/default/dataplanes?size=1000"},
		{"get one (median of 50)", "/meshes/default/dataplanes/" + proxyName(n/2)},
	} {
		var times []time.Duration
		for range 50 {
			start := time.Now()
			if err := cp.read(ctx, c.path); err != nil {
				return err
			}
			times = append(times, time.Since(start))
		}
		r.add(name, c.what, millis(median(times)))
	}
	return cp.benchWriter(ctx, r, name)
}

// benchWriter measures how long a writer waits, alone and while others read the
// list of all overviews 100 times a second.
func (cp *controlPlane) benchWriter(ctx context.Context, r *report, name string) error {
	n := 0
	write := func() (time.Duration, error) {
		var times []time.Duration
		for range 200 {
			n++
			body := map[string]any{
				"type": "MeshTimeout", "mesh": "default", "name": "bench",
				"spec": map[string]any{"to": []any{map[string]any{
					"targetRef": map[string]any{"kind": "Mesh"}, "default": map[string]any{"idleTimeout": fmt.Sprintf("%ds", n)},
				}}},
			}
			start := time.Now()
			if err := cp.put(ctx, "/meshes/default/meshtimeouts/bench", body); err != nil {
				return 0, err
			}
			times = append(times, time.Since(start))
		}
		return median(times), nil
	}
	if _, err := write(); err != nil { // caches fill
		return err
	}
	alone, err := write()
	if err != nil {
		return err
	}
	reading, stop := context.WithCancel(ctx)
	var readers errgroup.Group
	readers.SetLimit(8)
	done := make(chan struct{})
	reads := 0
	go func() {
		defer close(done)
		tick := time.NewTicker(10 * time.Millisecond) // 100 a second is what is measured
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				readers.TryGo(func() error { return cp.read(ctx, "/meshes/default/dataplanes/_overview?size=1000") })
				reads++
			case <-reading.Done():
				return
			}
		}
	}()
	start := time.Now()
	var beside []time.Duration
	for time.Since(start) < 3*time.Second {
		d, err := write()
		if err != nil {
			stop()
			return err
		}
		beside = append(beside, d)
	}
	took := time.Since(start)
	stop()
	<-done
	if err := readers.Wait(); err != nil {
		return err
	}
	r.add(name, "write alone (median)", millis(alone))
	r.add(name, fmt.Sprintf("write beside %.0f lists a second (median)", float64(reads)/took.Seconds()), millis(median(beside)))
	r.add(name, "slower by the factor", figure{float64(median(beside)) / float64(alone), "×"})
	return nil
}

func (cp *controlPlane) read(ctx context.Context, path string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, cp.api+path, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s", path, resp.Status)
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}
