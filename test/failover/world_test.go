// Package failover loses parts of a mesh of three zones while clients call a
// service of two of them, and measures what the clients notice: with the default
// policies of a new mesh and nothing else.
//
// By default faults last a few seconds. ATOLL_FAULTS makes them as long as the
// promises are about, 25 s and 90 s for what hangs, each fault in a world of its
// own. Every table takes about nine minutes and wants a machine for itself:
//
//	ATOLL_FAULTS=usual go test ./test/failover -run TestFaults -count=1 -timeout 40m -v | grep '^|'
//	ATOLL_FAULTS=heavy go test ./test/failover -run TestFaults -count=1 -timeout 40m -v | grep '^|'
//	ATOLL_FAULTS=bare  go test ./test/failover -run TestFaults -count=1 -timeout 40m -v | grep '^|'
//
// The first sends 100 requests a second of each kind, the second 500 that take
// 100 ms, the third the same without retries. ATOLL_FAULTS=full makes all three.
package failover

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/atoll-mesh/atoll/test/cluster"
	"github.com/atoll-mesh/atoll/test/cluster/clustertest"
)

const (
	mesh       = clustertest.Mesh
	webPort    = clustertest.WebPort
	bytesPort  = clustertest.BytesPort
	readyLimit = 30 * time.Second
)

// bare is for clients without retries: those that say so have none.
const bare = `type: MeshRetry
mesh: shop
name: none
spec:
  targetRef: {kind: Dataplane, labels: {retries: none}}
  to:
  - targetRef: {kind: Mesh}
    default: {http: {numRetries: 0}, grpc: {numRetries: 0}, tcp: {maxConnectAttempt: 1}}
`

// world is everything that runs.
type world struct {
	*clustertest.Federation
	global            *cluster.ControlPlane
	east, west, north *zone
	twice             *doubles
}

// zone is a control plane with its proxies.
type zone struct {
	*cluster.ControlPlane
	backends []*cluster.Proxy
	apps     []*app
	entrance *cluster.Proxy
	client   *cluster.Proxy // with the defaults
	bare     *cluster.Proxy // without retries
	// client2 and bare2 are like them, for loads that shall not share an Envoy. In
	// short runs they are the same.
	client2, bare2 *cluster.Proxy
}

// proxies are all that others may depend on.
func (z *zone) proxies() []*cluster.Proxy {
	return append(z.backends[:len(z.backends):len(z.backends)], z.entrance)
}

func (z *zone) clients() []*cluster.Proxy {
	return []*cluster.Proxy{z.client, z.bare, z.client2, z.bare2}
}

// start makes a world that lives as long as the test.
func start(t testing.TB) *world {
	t.Helper()
	ctx := t.Context()
	begun := time.Now()
	f := clustertest.Federate(t, readyLimit, bare, "east", "west", "north")
	w := &world{Federation: f, global: f.Global, twice: &doubles{seen: map[string]bool{}}}
	for name, z := range map[string]**zone{"east": &w.east, "west": &w.west, "north": &w.north} {
		*z = &zone{ControlPlane: f.Zones[name]}
	}
	var g errgroup.Group
	for _, z := range []*zone{w.east, w.west} {
		w.serving(t, &g, z)
	}
	for _, z := range w.zones() {
		w.calling(t, &g, z)
	}
	wait(t, &g)
	if knob() == "" {
		for _, z := range w.zones() {
			z.client2, z.bare2 = z.client, z.bare
		}
	}
	for _, z := range w.zones() {
		for _, c := range z.clients() {
			if err := cluster.WaitAnswer(ctx, readyLimit, c.URL(webPort)); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Logf("everything runs after %s", time.Since(begun).Round(time.Millisecond))
	return w
}

func wait(t testing.TB, g *errgroup.Group) {
	t.Helper()
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
}

func (w *world) zones() []*zone { return []*zone{w.east, w.west, w.north} }

// serving adds two workloads and a zone proxy.
func (w *world) serving(t testing.TB, g *errgroup.Group, z *zone) {
	z.backends = make([]*cluster.Proxy, 2)
	for i := range z.backends {
		a := newApp(t, fmt.Sprintf("%s/%d", z.Name, i+1), w.twice)
		z.apps = append(z.apps, a)
		g.Go(func() (err error) {
			z.backends[i], err = w.BackendOf(t, z.ControlPlane, fmt.Sprintf("backend-%d", i+1), port(a.web.Listener.Addr()), port(a.bytes.Addr()))
			return err
		})
	}
	address := w.Address()
	w.Entrance(t, z.ControlPlane, "entrance", address, clustertest.EntryPort)
	g.Go(func() (err error) {
		z.entrance, err = w.ZoneProxy(t, z.ControlPlane, "zone-proxy", address)
		return err
	})
}

// calling adds the clients.
func (w *world) calling(t testing.TB, g *errgroup.Group, z *zone) {
	client := func(p **cluster.Proxy, name, retries string) {
		g.Go(func() (err error) {
			*p, err = w.ClientOf(t, z.ControlPlane, name, map[string]string{"retries": retries})
			return err
		})
	}
	client(&z.client, "client-1", "default")
	client(&z.bare, "bare-1", "none")
	if knob() != "" {
		client(&z.client2, "client-2", "default")
		client(&z.bare2, "bare-2", "none")
	}
}

// part is what a fault takes away and gives back.
type part struct {
	proxies []*cluster.Proxy
	cps     []*cluster.ControlPlane
}

func (p part) kill() {
	// At the same moment, as far as possible, and only then each is waited for.
	for _, x := range p.proxies {
		x.SignalAll(syscall.SIGKILL)
	}
	for _, x := range p.cps {
		x.Signal(syscall.SIGKILL)
	}
	for _, x := range p.proxies {
		x.Kill()
	}
	for _, x := range p.cps {
		x.Kill()
	}
}

// restart returns when all is ready again.
func (p part) restart(t testing.TB) {
	t.Helper()
	var g errgroup.Group
	for _, x := range p.cps {
		g.Go(func() error { return x.Start(t.Context()) })
	}
	wait(t, &g)
	for _, x := range p.proxies {
		g.Go(func() error { return x.Start(t.Context()) })
	}
	wait(t, &g)
}

func (p part) signal(s syscall.Signal) {
	for _, x := range p.proxies {
		x.SignalAll(s)
	}
	for _, x := range p.cps {
		x.Signal(s)
	}
}
