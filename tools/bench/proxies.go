package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/atoll-mesh/atoll/pkg/delta/client"
)

// What is measured of proxies, for the table and the growth between cases.
const (
	whatConverge    = "converge: all have everything and all endpoints"
	whatConvergeCPU = "converge: CPU of the control plane"
	whatPeak        = "peak RSS"
	whatIdle        = "idle CPU, % of a core, mean of 30 s"
	whatPolicy      = "policy on all clusters → last proxy (median of 10)"
	whatPolicyCPU   = "policy on all clusters: CPU (mean of 10)"
	whatEndpoint    = "one new endpoint → last proxy (median of 10)"
	whatGenerator   = "generator: CPU while converging"
)

// fleet is simulated proxies: delta ADS clients that subscribe as Envoy does.
type fleet struct {
	cache   client.Cache
	clients []*client.Client
	held    []*holding // of each client; guarded by the client's lock

	mu    sync.RWMutex
	sizes map[version]int // endpoints in a version of a load assignment
}

type version struct{ name, version string }

// holding counts the endpoints that a client has, without looking at all of its
// load assignments each time: the generator shares the machine.
type holding struct {
	of    map[string]int // endpoints by load assignment
	total int
}

func (h *holding) set(name string, n int) {
	h.total += n - h.of[name]
	h.of[name] = n
}

func (f *fleet) seen(h *holding, r *client.Response) {
	if r.URL != client.EndpointURL {
		return
	}
	for _, res := range r.Resources {
		h.set(res.Name, f.size(res))
	}
	for _, name := range r.Removed {
		h.set(name, 0)
	}
}

// size decodes each version of a load assignment once for all clients.
func (f *fleet) size(res client.Resource) int {
	key := version{res.Name, res.Version}
	f.mu.RLock()
	n, known := f.sizes[key]
	f.mu.RUnlock()
	if known {
		return n
	}
	var cla endpoint.ClusterLoadAssignment
	if proto.Unmarshal(res.Value, &cla) == nil {
		for _, l := range cla.Endpoints {
			n += len(l.LbEndpoints)
		}
	}
	f.mu.Lock()
	f.sizes[key] = n
	f.mu.Unlock()
	return n
}

// all waits until a condition holds for every client.
func (f *fleet) all(ctx context.Context, what string, met func(i int, s *client.State) bool) error {
	g, ctx := errgroup.WithContext(ctx)
	for i, c := range f.clients {
		g.Go(func() error {
			if err := c.Wait(ctx, func(s *client.State) bool { return met(i, s) }); err != nil {
				return fmt.Errorf("%s, proxy %d: %w", what, i, errTimeout)
			}
			return nil
		})
	}
	return g.Wait()
}

// connect opens one connection and stream for each proxy.
func (f *fleet) connect(ctx context.Context, addr string, proxies, services int) error {
	for i := range proxies {
		dp, err := json.Marshal(dataplane(i, i%services))
		if err != nil {
			return err
		}
		meta, err := structpb.NewStruct(map[string]any{
			"dataplane.resource": string(dp),
			"features":           []any{"feature-reuse-port"},
			"version":            map[string]any{"kumaDp": map[string]any{"version": "3.0.0"}, "envoy": map[string]any{"version": "1.40.0"}},
		})
		if err != nil {
			return err
		}
		h := &holding{of: map[string]int{}}
		f.held = append(f.held, h)
		c := client.New(client.Options{
			Node:      &core.Node{Id: "default." + proxyName(i), Metadata: meta},
			Subscribe: []string{client.ClusterURL, client.ListenerURL},
			Follow:    true, Received: func(r *client.Response) { f.seen(h, r) }, Cache: &f.cache,
		})
		f.clients = append(f.clients, c)
		// The server's certificate is made for this run and not worth checking.
		creds := credentials.NewTLS(&tls.Config{InsecureSkipVerify: true})
		conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(creds),
			grpc.WithReadBufferSize(4<<10), grpc.WithWriteBufferSize(4<<10))
		if err != nil {
			return err
		}
		go func() {
			defer conn.Close()
			for ctx.Err() == nil {
				if err := c.Run(ctx, conn); err != nil && ctx.Err() == nil {
					time.Sleep(50 * time.Millisecond) // as an Envoy would, before it reconnects
				}
			}
		}()
	}
	return nil
}

func timeoutPolicy(d string) map[string]any {
	return map[string]any{
		"type": "MeshTimeout", "mesh": "default", "name": "bench",
		"spec": map[string]any{
			"targetRef": map[string]any{"kind": "Mesh"},
			"to": []any{map[string]any{
				"targetRef": map[string]any{"kind": "Mesh"},
				"default":   map[string]any{"connectionTimeout": d},
			}},
		},
	}
}

// benchProxies measures one size and returns the name of its rows.
func benchProxies(ctx context.Context, r *report, proxies, services int) (string, error) {
	name := fmt.Sprintf("%d proxies × %d services", proxies, services)
	ctx, cancel := context.WithTimeout(ctx, 8*time.Minute)
	defer cancel()
	cp, err := startControlPlane(ctx, nil)
	if err != nil {
		return name, err
	}
	defer cp.stop()
	own, err := usageOf(selfPID)
	if err != nil {
		return name, err
	}
	before, err := cp.usage()
	if err != nil {
		return name, err
	}
	f := &fleet{sizes: map[version]int{}}
	start := time.Now()
	if err := f.connect(ctx, cp.dp, proxies, services); err != nil {
		return name, err
	}
	complete := func(i int, s *client.State) bool {
		return f.held[i].total == proxies && s.Names(client.EndpointURL) >= services && s.Answered(client.ListenerURL)
	}
	if err := f.all(ctx, "converge", complete); err != nil {
		return name, fmt.Errorf("%w\n%s", err, cp.lastLog())
	}
	r.add(name, whatConverge, seconds(time.Since(start)))
	after, err := cp.usage()
	if err != nil {
		return name, err
	}
	r.add(name, whatConvergeCPU, seconds(after.cpu-before.cpu))
	ownAfter, err := usageOf(selfPID)
	if err != nil {
		return name, err
	}
	r.add(name, whatGenerator, seconds(ownAfter.cpu-own.cpu))
	if err := settle(ctx, cp); err != nil {
		return name, err
	}
	idle, err := cp.idle(ctx, idleTime)
	if err != nil {
		return name, err
	}
	r.add(name, whatIdle, percent(idle))
	if err := f.changes(ctx, r, cp, name, proxies, services); err != nil {
		return name, err
	}
	u, err := cp.usage()
	if err != nil {
		return name, err
	}
	r.add(name, whatPeak, megabytes(u.peak))
	return name, nil
}

// settle waits until the control plane rests, at most a few seconds: what
// follows convergence, such as statuses, is not idleness.
func settle(ctx context.Context, cp *controlPlane) error {
	for range 10 {
		load, err := cp.idle(ctx, time.Second)
		if err != nil || load < 1 {
			return err
		}
	}
	return nil
}

func (f *fleet) changes(ctx context.Context, r *report, cp *controlPlane, name string, proxies, services int) error {
	const rounds = 10
	var policies, endpoints []time.Duration
	before, err := cp.usage()
	if err != nil {
		return err
	}
	for i := range rounds + 1 {
		versions := make([]map[string]string, len(f.clients))
		for j, c := range f.clients {
			if err := c.Do(func(s *client.State) { versions[j] = destinations(s) }); err != nil {
				return err
			}
		}
		start := time.Now()
		if err := cp.put(ctx, "/meshes/default/meshtimeouts/bench", timeoutPolicy(fmt.Sprintf("%ds", 11+i))); err != nil {
			return err
		}
		err := f.all(ctx, "policy", func(j int, s *client.State) bool {
			has := s.Has(client.ClusterURL)
			for n, v := range versions[j] {
				if has[n] == v {
					return false
				}
			}
			return f.held[j].total >= proxies
		})
		if err != nil {
			return err
		}
		if i > 0 { // the first round creates the policy
			policies = append(policies, time.Since(start))
		} else if before, err = cp.usage(); err != nil {
			return err
		}
	}
	r.add(name, whatPolicy, millis(median(policies)))
	after, err := cp.usage()
	if err != nil {
		return err
	}
	r.add(name, whatPolicyCPU, seconds((after.cpu-before.cpu)/rounds))
	for i := range rounds {
		start := time.Now()
		extra := proxies + i
		if err := cp.put(ctx, "/meshes/default/dataplanes/"+proxyName(extra), dataplane(extra, extra%services)); err != nil {
			return err
		}
		err := f.all(ctx, "endpoint", func(j int, _ *client.State) bool { return f.held[j].total == extra+1 })
		if err != nil {
			return err
		}
		endpoints = append(endpoints, time.Since(start))
	}
	r.add(name, whatEndpoint, millis(median(endpoints)))
	return nil
}

// destinations are the versions of the clusters that policies apply to.
func destinations(s *client.State) map[string]string {
	out := map[string]string{}
	for n, v := range s.Has(client.ClusterURL) {
		if len(n) > 4 && n[:4] == "kri_" {
			out[n] = v
		}
	}
	return out
}
