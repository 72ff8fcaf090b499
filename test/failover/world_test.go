// Package failover loses parts of a mesh of three zones while clients call a
// service of two of them, and measures what the clients notice: with the default
// policies of a new mesh and nothing else.
//
// By default faults last a few seconds. ATOLL_FAULTS=full makes them as long as
// the promises are about: 25 s, and 90 s for what hangs.
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
	mesh       = "shop"
	webPort    = 10090
	bytesPort  = 10091
	entryPort  = 10001
	readyLimit = 30 * time.Second
)

// everywhere is what the global says: everybody has an identity and may call
// everybody else, and the backends of all zones are one service. Clients that say
// so have no retries.
const everywhere = `type: MeshIdentity
mesh: shop
name: identity
spec:
  selector: {dataplane: {matchLabels: {}}}
  provider: {type: Bundled, bundled: {meshTrustCreation: Enabled, insecureAllowSelfSigned: true, autogenerate: {enabled: true}}}
---
type: MeshTrafficPermission
mesh: shop
name: everybody
spec:
  rules:
  - default:
      allow:
      - {spiffeID: {type: Prefix, value: "spiffe://shop."}}
---
type: MeshMultiZoneService
mesh: shop
name: backend
spec:
  selector: {meshService: {matchLabels: {kuma.io/display-name: backend}}}
  ports: [{name: main, port: 8080, appProtocol: http}, {name: bytes, port: 8081, appProtocol: tcp}]
---
type: MeshRetry
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
	*cluster.Cluster
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
}

// proxies are all that others may depend on.
func (z *zone) proxies() []*cluster.Proxy {
	return append(z.backends[:len(z.backends):len(z.backends)], z.entrance)
}

// start makes a world that lives as long as the test.
func start(t testing.TB) *world {
	t.Helper()
	ctx := t.Context()
	begun := time.Now()
	w := &world{Cluster: clustertest.New(t), twice: &doubles{seen: map[string]bool{}}}
	var err error
	if w.global, err = w.Global(ctx, nil); err != nil {
		t.Fatal(err)
	}
	var g errgroup.Group
	for name, z := range map[string]**zone{"east": &w.east, "west": &w.west, "north": &w.north} {
		g.Go(func() error {
			cp, err := w.FederatedZone(ctx, w.global, name)
			if err != nil {
				return err
			}
			*z = &zone{ControlPlane: cp}
			return w.global.WaitInSync(ctx, readyLimit, name)
		})
	}
	wait(t, &g)
	w.apply(t, w.global, "type: Mesh\nname: "+mesh+"\n")
	w.apply(t, w.global, everywhere)
	for _, z := range w.zones() {
		if err := z.WaitFor(ctx, readyLimit, "/meshes/"+mesh); err != nil {
			t.Fatal(err)
		}
	}
	for _, z := range []*zone{w.east, w.west} {
		w.serving(t, &g, z)
	}
	for _, z := range w.zones() {
		w.calling(t, &g, z)
	}
	wait(t, &g)
	for _, z := range w.zones() {
		for _, c := range []*cluster.Proxy{z.client, z.bare} {
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

func (w *world) apply(t testing.TB, cp *cluster.ControlPlane, text string) {
	t.Helper()
	if out, errOut, code := clustertest.Ctl(t, w.Cluster, cp.URL, text, "apply", "-f", "-"); code != 0 {
		t.Fatalf("atollctl apply at %s: exit code %d\n%s%s", cp.Name, code, out, errOut)
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
			z.backends[i], err = w.Proxy(t.Context(), z.ControlPlane, w.global, cluster.ProxySpec{
				Mesh: mesh, Name: fmt.Sprintf("backend-%d", i+1), Labels: map[string]string{"kuma.io/workload": "backend"},
				AppPort: port(a.web.Listener.Addr()), BytesPort: port(a.bytes.Addr()),
			})
			return err
		})
	}
	address := w.Address()
	w.apply(t, z.ControlPlane, fmt.Sprintf(
		"type: MeshZoneAddress\nmesh: %s\nname: entrance\nlabels: {kuma.io/origin: zone}\nspec: {address: %s, port: %d}\n", mesh, address, entryPort))
	g.Go(func() (err error) {
		z.entrance, err = w.Proxy(t.Context(), z.ControlPlane, w.global, cluster.ProxySpec{
			Mesh: mesh, Name: "zone-proxy", Labels: map[string]string{"kuma.io/workload": "zone-proxy"},
			Address: address, Ingress: entryPort,
		})
		return err
	})
}

// calling adds the clients.
func (w *world) calling(t testing.TB, g *errgroup.Group, z *zone) {
	client := func(name, retries string) (*cluster.Proxy, error) {
		return w.Proxy(t.Context(), z.ControlPlane, w.global, cluster.ProxySpec{
			Mesh: mesh, Name: name, Labels: map[string]string{"kuma.io/workload": "client", "retries": retries},
			MultiZone:      map[int]string{webPort: "backend"},
			MultiZoneBytes: map[int]string{bytesPort: "backend"},
		})
	}
	g.Go(func() (err error) { z.client, err = client("client-1", "default"); return err })
	g.Go(func() (err error) { z.bare, err = client("bare-1", "none"); return err })
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
