package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"
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
