package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/atoll-mesh/atoll/pkg/delta/client"
)

// profiles is how long the CPU is profiled while proxies converge and while they
// are idle; 0: not at all.
var profiles time.Duration

// What is measured of proxies.
const (
	whatConverge    = "converge: all have everything and all endpoints"
	whatConvergeCPU = "converge: CPU of the control plane"
	whatPeak        = "peak RSS"
	whatIdle        = "idle CPU, % of a core"
	whatPolicy      = "policy on all clusters → last proxy (median)"
	whatPolicyCPU   = "policy on all clusters: CPU (mean)"
	whatOne         = "policy on one service → last proxy (median)"
	whatOneCPU      = "policy on one service: CPU (mean)"
	whatEndpoint    = "one new endpoint → last proxy (median)"
	whatEndpointCPU = "one new endpoint: CPU (mean)"
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
	of    []int32 // endpoints, by the place of the load assignment
	total int
	back  *back // of a client that connects again
}

func (h *holding) set(place, n int) {
	if more := place + 1 - len(h.of); more > 0 {
		h.of = append(h.of, make([]int32, more)...)
	}
	h.total += n - int(h.of[place])
	h.of[place] = int32(n)
}

func (f *fleet) seen(h *holding, r *client.Response) {
	if h.back != nil {
		defer h.back.seen(h, r)
	}
	if r.URL != client.EndpointURL {
		return
	}
	for i := range r.Resources {
		h.set(r.Resources[i].Place, f.size(&r.Resources[i]))
	}
	for i := range r.Removed {
		h.set(r.Removed[i].Place, 0)
	}
}

// size decodes each version of a load assignment once for all clients.
func (f *fleet) size(res *client.Resource) int {
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

// window is what a proxy takes before it says that it has read it.
const window = 256 << 20

// connect opens one connection and stream for each proxy.
func (f *fleet) connect(ctx context.Context, addr string, c size) error {
	for i := range c.proxies {
		dp, err := json.Marshal(c.dataplane(i))
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
		h := &holding{}
		f.held = append(f.held, h)
		c := client.New(client.Options{
			Node:      &core.Node{Id: "default." + proxyName(i), Metadata: meta},
			Subscribe: []string{client.ClusterURL, client.ListenerURL},
			Follow:    true, Received: func(r *client.Response) { f.seen(h, r) }, Cache: &f.cache,
		})
		f.clients = append(f.clients, c)
		// The server's certificate is made for this run and not worth checking.
		creds := credentials.NewTLS(&tls.Config{
			InsecureSkipVerify: true,
			CurvePreferences:   []tls.CurveID{tls.X25519, tls.CurveP256}, // those of Envoy
		})
		conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(creds),
			// Waiting as Envoy does at first, but for its patience of a second with a
			// connection: ten thousand that share a processor would each need more.
			grpc.WithConnectParams(grpc.ConnectParams{
				Backoff:           backoff.Config{BaseDelay: 250 * time.Millisecond, Multiplier: 2, Jitter: 1, MaxDelay: 2 * time.Second},
				MinConnectTimeout: 20 * time.Second,
			}),
			grpc.WithReadBufferSize(4<<10), grpc.WithWriteBufferSize(4<<10),
			// As Envoy: wide windows, and no pings to find out how wide they should be.
			grpc.WithInitialWindowSize(window), grpc.WithInitialConnWindowSize(window))
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

// timeoutPolicy is about all clusters, or about those of a service.
func timeoutPolicy(service, d string) map[string]any {
	target := map[string]any{"kind": "Mesh"}
	if service != "" {
		target = map[string]any{"kind": "MeshService", "labels": map[string]any{"kuma.io/display-name": service}}
	}
	return map[string]any{
		"type": "MeshTimeout", "mesh": "default", "name": "bench-" + cmp.Or(service, "all"),
		"spec": map[string]any{
			"targetRef": map[string]any{"kind": "Mesh"},
			"to":        []any{map[string]any{"targetRef": target, "default": map[string]any{"connectionTimeout": d}}},
		},
	}
}

// benchProxies measures one size.
func benchProxies(ctx context.Context, r *report, c size) error {
	name := c.flag()
	ctx, cancel := context.WithTimeout(ctx, 20*time.Minute)
	defer cancel()
	cp, err := startControlPlane(ctx, nil)
	if err != nil {
		return err
	}
	defer cp.stop()
	own, err := usageOf(selfPID)
	if err != nil {
		return err
	}
	before, err := cp.usage()
	if err != nil {
		return err
	}
	if c.secured {
		if err := secure(ctx, cp); err != nil {
			return err
		}
	}
	f := &fleet{sizes: map[version]int{}}
	profiled := make(chan error, 1)
	if profiles > 0 {
		stop, err := profileSelf(filepath.Join(os.TempDir(), "atoll-bench-generator.pb.gz"))
		if err != nil {
			return err
		}
		defer stop()
		go func() {
			profiled <- cp.profile(ctx, filepath.Join(os.TempDir(), "atoll-bench-converge.pb.gz"), profiles)
		}()
	}
	start := time.Now()
	if err := f.connect(ctx, cp.dp, c); err != nil {
		return err
	}
	complete := func(i int, s *client.State) bool {
		return f.held[i].total == c.endpoints(i, c.proxies) && s.Names(client.EndpointURL) >= c.reach &&
			s.Count(client.ListenerURL) >= c.reach && s.Names(client.RouteURL) >= c.reach && s.Answered(client.RouteURL) &&
			(!c.secured || s.Names(client.SecretURL) > 0 && s.Answered(client.SecretURL))
	}
	if err := f.all(ctx, "converge", complete); err != nil {
		return fmt.Errorf("%w\n%s", err, cp.lastLog())
	}
	r.add(name, whatConverge, seconds(time.Since(start)))
	after, err := cp.usage()
	if err != nil {
		return err
	}
	r.add(name, whatConvergeCPU, seconds(after.cpu-before.cpu))
	ownAfter, err := usageOf(selfPID)
	if err != nil {
		return err
	}
	r.add(name, whatGenerator, seconds(ownAfter.cpu-own.cpu))
	if err := settle(ctx, cp); err != nil {
		return err
	}
	idle, err := cp.idle(ctx, idleTime)
	if err != nil {
		return err
	}
	r.add(name, whatIdle, percent(idle))
	if profiles > 0 {
		if err := errors.Join(<-profiled, cp.profile(ctx, filepath.Join(os.TempDir(), "atoll-bench-idle.pb.gz"), profiles),
			cp.profile(ctx, filepath.Join(os.TempDir(), "atoll-bench-heap.pb.gz"), 0)); err != nil {
			return err
		}
	}
	if rounds > 0 {
		if err := f.changes(ctx, r, cp, name, c); err != nil {
			return err
		}
	}
	u, err := cp.usage()
	if err != nil {
		return err
	}
	r.add(name, whatPeak, megabytes(u.peak))
	if herd {
		err = f.herd(ctx, r, cp, name)
	}
	return err
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

func (f *fleet) changes(ctx context.Context, r *report, cp *controlPlane, name string, c size) error {
	timed, cpu, err := f.policyRounds(ctx, cp, "", func(int) bool { return true })
	if err != nil {
		return err
	}
	r.add(name, whatPolicy, millis(median(timed)))
	r.add(name, whatPolicyCPU, seconds(cpu))
	if timed, cpu, err = f.policyRounds(ctx, cp, serviceName(0), func(i int) bool { return c.reaches(i, 0) }); err != nil {
		return err
	}
	r.add(name, whatOne, millis(median(timed)))
	r.add(name, whatOneCPU, seconds(cpu))

	timed = nil
	before, err := cp.usage()
	if err != nil {
		return err
	}
	for i := range rounds {
		start := time.Now()
		extra := c.proxies + i
		if err := cp.put(ctx, "/meshes/default/dataplanes/"+proxyName(extra), c.dataplane(extra)); err != nil {
			return err
		}
		if err := f.all(ctx, "endpoint", func(j int, _ *client.State) bool { return f.held[j].total == c.endpoints(j, extra+1) }); err != nil {
			return err
		}
		timed = append(timed, time.Since(start))
	}
	after, err := cp.usage()
	if err != nil {
		return err
	}
	r.add(name, whatEndpoint, millis(median(timed)))
	r.add(name, whatEndpointCPU, seconds((after.cpu-before.cpu)/time.Duration(rounds)))
	return nil
}

// policyRounds changes a policy on the clusters of a service, "" being all of
// them, and returns how long each change took to reach the last of the proxies
// concerned, and the control plane's CPU for one, on average.
func (f *fleet) policyRounds(ctx context.Context, cp *controlPlane, service string, concerned func(i int) bool) ([]time.Duration, time.Duration, error) {
	var timed []time.Duration
	before, err := cp.usage()
	if err != nil {
		return nil, 0, err
	}
	for i := range rounds + 1 {
		// What each client has yet to be sent. A cluster that changed is not looked
		// at again: the generator shares the machine.
		left := make([][]version, len(f.clients))
		for j, c := range f.clients {
			if !concerned(j) {
				continue
			}
			if err := c.Do(func(s *client.State) { left[j] = destinations(s, service) }); err != nil {
				return nil, 0, err
			}
		}
		start := time.Now()
		if err := cp.put(ctx, "/meshes/default/meshtimeouts/bench-"+cmp.Or(service, "all"), timeoutPolicy(service, fmt.Sprintf("%ds", 11+i))); err != nil {
			return nil, 0, err
		}
		err := f.all(ctx, "policy", func(j int, s *client.State) bool {
			for len(left[j]) > 0 && s.Version(client.ClusterURL, left[j][0].name) != left[j][0].version {
				left[j] = left[j][1:]
			}
			return len(left[j]) == 0
		})
		if err != nil {
			return nil, 0, err
		}
		if i > 0 { // the first round creates the policy
			timed = append(timed, time.Since(start))
		} else if before, err = cp.usage(); err != nil {
			return nil, 0, err
		}
	}
	after, err := cp.usage()
	if err != nil {
		return nil, 0, err
	}
	return timed, (after.cpu - before.cpu) / time.Duration(rounds), nil
}

// destinations are the versions of the clusters that policies apply to: of one
// service, "" being all.
func destinations(s *client.State, service string) []version {
	var out []version
	for n, v := range s.Has(client.ClusterURL) {
		if strings.HasPrefix(n, "kri_") && (service == "" || strings.Contains(n, "_"+service+"_")) {
			out = append(out, version{n, v})
		}
	}
	return out
}
