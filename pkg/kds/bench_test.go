package kds

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/metadata"

	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/store"
)

// TestFanOut measures 20 clients with 300 policies each: what it logs are the
// figures of one machine, what it asserts is ten times the target.
func TestFanOut(t *testing.T) {
	const clients, policies, rounds = 20, 300, 10
	global := newSite(t, "").serve(nil, "g1")
	for i := range policies {
		global.policy(fmt.Sprintf("policy-%d", i), "a")
	}
	type news struct {
		client int
		value  string
	}
	arrived := make(chan news, clients*policies*2)
	for c := range clients {
		sync, _ := dial(t, global.address)
		ctx, cancel := context.WithCancel(metadata.NewOutgoingContext(context.Background(),
			metadata.Pairs("client-id", fmt.Sprintf("zone-%d", c), "features", "hash-suffix")))
		t.Cleanup(cancel)
		stream, err := sync.GlobalToZoneSync(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := stream.Send(&discovery.DeltaDiscoveryRequest{TypeUrl: string(policyType), ResourceNamesSubscribe: []string{"*"}}); err != nil {
			t.Fatal(err)
		}
		go func() {
			for {
				resp, err := stream.Recv()
				if err != nil {
					return
				}
				_ = stream.Send(&discovery.DeltaDiscoveryRequest{TypeUrl: resp.TypeUrl, ResponseNonce: resp.Nonce})
				for _, r := range resp.Resources {
					arrived <- news{c, r.Version}
				}
			}
		}()
	}
	wait := func(n int) time.Time {
		t.Helper()
		deadline := time.After(patience)
		for range n {
			select {
			case <-arrived:
			case <-deadline:
				t.Fatal("changes did not arrive")
			}
		}
		return time.Now()
	}
	wait(clients * policies)
	var took []time.Duration
	for i := range rounds {
		global.policy("policy-7", fmt.Sprint("round ", i)) // returns when the API would answer
		answered := time.Now()
		took = append(took, wait(clients).Sub(answered))
	}
	slices.Sort(took)
	t.Logf("a change reaches the last of %d clients in %v (median)", clients, took[rounds/2])
	if took[rounds/2] > 200*time.Millisecond {
		t.Errorf("a change takes %v", took[rounds/2])
	}
	start := time.Now()
	k := global.view.Kinds().ByType(policyType)
	for i := range 100 {
		o, err := k.New(resource.Meta{ID: global.id(policyType, "default", fmt.Sprintf("policy-%d", i)), Labels: map[string]string{}},
			&policySpec{Value: "burst"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := global.store.Write(context.Background(), store.Put(o, store.Any, "test")); err != nil {
			t.Fatal(err)
		}
	}
	took[0] = wait(clients * 100).Sub(start)
	t.Logf("a burst of 100 changes takes %v", took[0])
	if took[0] > 10*time.Second {
		t.Errorf("a burst takes %v", took[0])
	}
}
