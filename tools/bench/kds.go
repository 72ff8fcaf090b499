package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/structpb"

	meshv1 "github.com/atoll-mesh/atoll/api/kuma/mesh/v1alpha1"
)

// kdsTypes is what a zone asks a global for, as far as this bench looks at it.
var kdsTypes = []string{"Mesh", "Config", "Secret", "GlobalSecret", "MeshTimeout", "MeshHTTPRoute", "MeshService"}

// zone is a client on the wire between zones and global.
type zone struct {
	name   string
	conn   *grpc.ClientConn
	stream grpc.BidiStreamingClient[discovery.DeltaDiscoveryRequest, discovery.DeltaDiscoveryResponse]
	cancel context.CancelFunc

	received atomic.Int64 // resources
	removed  atomic.Int64

	mu    sync.Mutex
	held  map[string]map[string]string // type, name, version
	first map[string]bool              // types answered at least once
	bump  chan struct{}                // closed and replaced at every response
}

func dialZone(ctx context.Context, addr, name string, held map[string]map[string]string) (*zone, error) {
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(10<<20)))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	ctx = metadata.AppendToOutgoingContext(ctx, "client-id", name, "kds-version", "v3", "zone-version", "v3",
		"features", "zone-ping-health", "features", "hash-suffix", "version", "3.0.0")
	stream, err := meshv1.NewKDSSyncServiceClient(conn).GlobalToZoneSync(ctx)
	if err != nil {
		cancel()
		conn.Close()
		return nil, err
	}
	z := &zone{
		name: name, conn: conn, stream: stream, cancel: cancel,
		held: map[string]map[string]string{}, first: map[string]bool{}, bump: make(chan struct{}),
	}
	meta, err := structpb.NewStruct(map[string]any{
		"version":          map[string]any{"kumaCp": map[string]any{"version": "3.0.0"}},
		"config":           `{"store":{"type":"memory"}}`,
		"control-plane-id": name,
		"features":         []any{"zone-token", "hash-suffix", "hg-mz-selector", "producer-policy-flow"},
	})
	if err != nil {
		return nil, err
	}
	for _, t := range kdsTypes {
		z.held[t] = maps.Clone(held[t])
		if z.held[t] == nil {
			z.held[t] = map[string]string{}
		}
		if err := stream.Send(&discovery.DeltaDiscoveryRequest{
			Node: &core.Node{Id: name, Metadata: meta}, TypeUrl: t,
			ResourceNamesSubscribe: []string{"*"}, InitialResourceVersions: held[t],
		}); err != nil {
			return nil, err
		}
	}
	go z.receive()
	return z, nil
}

func (z *zone) receive() {
	for {
		r, err := z.stream.Recv()
		if err != nil {
			return // closed by us, or the bench will time out
		}
		z.received.Add(int64(len(r.Resources)))
		z.removed.Add(int64(len(r.RemovedResources)))
		z.mu.Lock()
		held := z.held[r.TypeUrl]
		for _, res := range r.Resources {
			held[res.Name] = res.Version
		}
		for _, name := range r.RemovedResources {
			delete(held, name)
		}
		z.first[r.TypeUrl] = true
		close(z.bump)
		z.bump = make(chan struct{})
		z.mu.Unlock()
		if z.stream.Send(&discovery.DeltaDiscoveryRequest{TypeUrl: r.TypeUrl, ResponseNonce: r.Nonce}) != nil {
			return
		}
	}
}

// wait returns when ok holds for what the zone has.
func (z *zone) wait(ctx context.Context, ok func() bool) error {
	for {
		z.mu.Lock()
		done, bump := ok(), z.bump
		z.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-bump:
		case <-ctx.Done():
			return fmt.Errorf("zone %s: %w", z.name, errTimeout)
		}
	}
}

func (z *zone) close() {
	z.cancel()
	z.conn.Close()
}

func policy(name string, timeout string) map[string]any {
	return map[string]any{
		"type": "MeshTimeout", "mesh": "default", "name": name,
		"spec": map[string]any{"to": []any{map[string]any{
			"targetRef": map[string]any{"kind": "Mesh"},
			"default":   map[string]any{"http": map[string]any{"requestTimeout": timeout}},
		}}},
	}
}

const policyPath = "/meshes/default/meshtimeouts/"

// benchKDS measures how changes at a global reach zones.
func benchKDS(ctx context.Context, r *report, zones, policies int) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	cp, err := startControlPlane(ctx, map[string]string{"MODE": "global"})
	if err != nil {
		return err
	}
	defer cp.stop()
	for i := range policies {
		if err := cp.put(ctx, policyPath+fmt.Sprintf("p%d", i), policy(fmt.Sprintf("p%d", i), "1s")); err != nil {
			return err
		}
	}
	var all []*zone
	start := time.Now()
	for i := range zones {
		z, err := dialZone(ctx, cp.kds, fmt.Sprintf("zone-%d", i), nil)
		if err != nil {
			return err
		}
		defer z.close()
		all = append(all, z)
	}
	everyone := func(ok func(*zone) bool) error {
		for _, z := range all {
			if err := z.wait(ctx, func() bool { return ok(z) }); err != nil {
				return err
			}
		}
		return nil
	}
	if err := everyone(func(z *zone) bool { return len(z.held["MeshTimeout"]) >= policies && len(z.first) == len(kdsTypes) }); err != nil {
		return err
	}
	name := fmt.Sprintf("%d zones × %d policies", zones, policies)
	r.add(name, "connect, all in step", seconds(time.Since(start)))

	// version of a policy as each zone has it; names carry the hash of sync.
	version := func(z *zone, policy string) string {
		for n, v := range z.held["MeshTimeout"] {
			if strings.HasPrefix(n, policy+"-") {
				return v
			}
		}
		return ""
	}
	var changes []time.Duration
	for i := range 10 {
		before := map[*zone]string{}
		for _, z := range all {
			z.mu.Lock()
			before[z] = version(z, "p0")
			z.mu.Unlock()
		}
		if err := cp.put(ctx, policyPath+"p0", policy("p0", fmt.Sprintf("%ds", 10+i))); err != nil {
			return err
		}
		answered := time.Now()
		if err := everyone(func(z *zone) bool { return version(z, "p0") != before[z] }); err != nil {
			return err
		}
		changes = append(changes, time.Since(answered))
	}
	r.add(name, "change → last zone, after the answer (median of 10)", millis(median(changes)))

	counts := map[*zone]int64{}
	for _, z := range all {
		counts[z] = z.received.Load()
	}
	burst := time.Now()
	for i := range 100 {
		n := fmt.Sprintf("p%d", i%policies)
		if err := cp.put(ctx, policyPath+n, policy(n, fmt.Sprintf("%dms", 100+i))); err != nil {
			return err
		}
	}
	last := fmt.Sprintf("p%d", 99%policies)
	answered := time.Now()
	if err := everyone(func(z *zone) bool { return z.received.Load() >= counts[z]+int64(min(100, policies)) }); err != nil {
		return fmt.Errorf("burst up to %s: %w", last, err)
	}
	r.add(name, "burst of 100 changes → all zones, whole", millis(time.Since(burst)))
	r.add(name, "burst of 100 changes → all zones, after the last answer", millis(time.Since(answered)))

	idle, err := cp.idle(ctx, idleTime)
	if err != nil {
		return err
	}
	r.add(name, "idle CPU, % of a core", percent(idle))

	z := all[0]
	z.mu.Lock()
	held := map[string]map[string]string{}
	for t, m := range z.held {
		held[t] = maps.Clone(m)
	}
	z.mu.Unlock()
	z.close()
	again, err := dialZone(ctx, cp.kds, z.name, held)
	if err != nil {
		return err
	}
	defer again.close()
	if err := again.wait(ctx, func() bool { return len(again.first) == len(kdsTypes) }); err != nil {
		var missing []string
		for _, t := range kdsTypes {
			if !again.first[t] {
				missing = append(missing, t)
			}
		}
		slices.Sort(missing)
		return fmt.Errorf("reconnect: no answer for %v: %w", missing, err)
	}
	r.add(name, "reconnect stating all versions: resources + removals sent", count(again.received.Load()+again.removed.Load()))
	u, err := cp.usage()
	if err != nil {
		return err
	}
	r.add(name, "peak RSS", megabytes(u.peak))
	return nil
}
