package dpserver

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/structpb"

	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/topology"
	"github.com/atoll-mesh/atoll/pkg/xds"
)

const cartService = `{"type":"MeshService","mesh":"shop","name":"cart","spec":{
	"selector":{"dataplaneLabels":{"matchLabels":{"app":"cart"}}},"ports":[{"port":80,"targetPort":8080,"appProtocol":"http"}]}}`

// callable counts the endpoints of the service cart, -1 when it is not there.
func (z *zone) callable() int {
	key := topology.EndpointsKey{Destination: resource.ID{Type: kind.MeshService, Mesh: "shop", Name: "cart"}, Section: "80"}
	e := z.cfg.View.Snapshot().Topology().Endpoints(key)
	if e == nil {
		return -1
	}
	return len(e.List)
}

// written counts the writes so far.
func (z *zone) written() int {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.writes
}

// An Envoy that had nothing is called when it listens, and not before.
func TestStartingProxyIsNoEndpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := newZone(t, nil)
		z.put(cartService)
		text := dataplaneJSON("cart-1", "192.0.2.1")
		want := func(n int, when string) {
			t.Helper()
			synctest.Wait()
			if got := z.callable(); got != n {
				t.Fatalf("%s: %d endpoints, want %d", when, got, n)
			}
		}
		// As seen by everybody who looks, also in between.
		ever := 0
		sub := z.cfg.View.Subscribe()
		stop, seen := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(seen)
			for {
				select {
				case <-sub.C():
					ever = max(ever, z.callable())
				case <-stop:
					return
				}
			}
		}()
		s := z.mustOpen("cart-1", text, "")
		s.Delivered(xds.Report{})
		want(0, "registered")
		close(stop)
		<-seen
		sub.Close()
		if ever > 0 {
			t.Fatal("it was an endpoint for a moment")
		}
		before := z.written()
		s.Delivered(xds.Report{Revision: 3, Listening: true})
		want(1, "listening")
		if n := z.written() - before; n != 1 {
			t.Errorf("that it listens cost %d writes", n)
		}

		back, err := z.proxies.Open(t.Context(), node(t, "cart-1", text), true)
		if err != nil {
			t.Fatal(err)
		}
		want(1, "connected again, with what it has")
		back.Close(nil)
		want(1, "disconnected")

		// The agent has begun a new Envoy.
		s = z.mustOpen("cart-1", text, "")
		want(0, "began anew")
		s.Close(nil)
		want(0, "ended while it was starting")
		again, err := z.proxies.Open(t.Context(), node(t, "cart-1", text), true)
		if err != nil {
			t.Fatal(err)
		}
		want(0, "connected again while it was starting")
		again.Delivered(xds.Report{Listening: true})
		want(1, "listening at last")
		again.Delivered(xds.Report{Listening: true, Revision: 9})
		again.Close(nil)
		want(1, "disconnected again")
	})
}

// A control plane that starts again knows who listens, and who was about to.
func TestStartingOutlivesControlPlane(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := newZone(t, nil)
		z.put(cartService)
		z.mustOpen("cart-1", dataplaneJSON("cart-1", "192.0.2.1"), "").Delivered(xds.Report{Listening: true})
		z.mustOpen("cart-2", dataplaneJSON("cart-2", "192.0.2.2"), "")
		synctest.Wait()
		if n := z.callable(); n != 1 {
			t.Fatalf("%d endpoints", n)
		}
		second, err := New(z.cfg) // of another instance on the same store
		if err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]bool{"cart-1": false, "cart-2": true, "cart-3": false} {
			id := resource.ID{Type: kind.Dataplane, Mesh: "shop", Name: name}
			if second.starting(id) != want {
				t.Errorf("%s starts: %v", name, !want)
			}
		}
	})
}

// A Dataplane that somebody applied can be called while no proxy is connected for
// it, as its Envoy may be anybody's.
func TestAppliedDataplaneIsEndpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := newZone(t, nil)
		z.put(cartService)
		z.put(dataplaneJSON("cart-1", "192.0.2.1"))
		if n := z.callable(); n != 1 {
			t.Fatalf("%d endpoints", n)
		}
		s := z.mustOpen("cart-1", "", "")
		synctest.Wait()
		if n := z.callable(); n != 0 {
			t.Fatalf("%d endpoints while its Envoy starts", n)
		}
		s.Delivered(xds.Report{Listening: true})
		synctest.Wait()
		if n := z.callable(); n != 1 {
			t.Fatalf("%d endpoints when it listens", n)
		}
		s.Close(nil)
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := z.callable(); n != 1 {
			t.Fatalf("%d endpoints when it is gone", n)
		}
	})
}

// What an agent says in its metadata does not decide.
func TestAgentsDoNotStateThatTheyStart(t *testing.T) {
	n := node(t, "cart-1", "")
	n.Metadata = kind.WithStarting(n.Metadata, true)
	if m := insightMetadata(n); m.Fields["atoll.starting"] != nil {
		t.Errorf("metadata %v", m)
	}
	for _, m := range []*structpb.Struct{nil, n.Metadata} {
		if got := kind.WithStarting(kind.WithStarting(m, true), false); len(got.GetFields()) >= max(1, len(n.Metadata.Fields)) {
			t.Errorf("%v is left of %v", got, m)
		}
	}
}

// When very many start, the others are called at once; when some of them listen or
// are gone, the next one waits again.
func TestManyStarters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := newZone(t, nil)
		z.put(cartService)
		open := func(i int) *session {
			name := fmt.Sprint("cart-", i)
			return z.mustOpen(name, dataplaneJSON(name, fmt.Sprintf("192.0.%d.%d", i/250, 1+i%250)), "")
		}
		want := func(n int, when string) {
			t.Helper()
			time.Sleep(longest)
			synctest.Wait()
			if got := z.callable(); got != n {
				t.Fatalf("%s: %d endpoints, want %d", when, got, n)
			}
		}
		var held []*session
		for i := range mostStarters {
			held = append(held, open(i))
		}
		want(0, "as many as may be held back")
		open(mostStarters)
		want(1, "one more")
		held[0].Delivered(xds.Report{Listening: true})
		held[0].Delivered(xds.Report{Listening: true})
		want(2, "one of them listens")
		open(mostStarters + 1)
		want(2, "the next one")
		open(mostStarters + 2)
		want(3, "and one more")
		held[1].Close(nil)
		open(mostStarters + 3)
		want(3, "after one is gone")
	})
}
