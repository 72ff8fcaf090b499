// Package identity has certificates come and go under load: they are renewed,
// also while the global is away, and CAs are replaced, and nobody notices.
package identity

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/atoll-mesh/atoll/test/cluster"
	"github.com/atoll-mesh/atoll/test/cluster/clustertest"
)

const (
	entrancePort = 10001
	// The client in west calls a service of its own zone and one of east.
	nearPort, farPort = 10090, 10091
	every             = 20 * time.Millisecond // of requests to each
)

// length of a phase and life of certificates. ATOLL_SOAK is another length, with
// which certificates live for a minute.
func lengths(t *testing.T) (phase, life time.Duration) {
	text := os.Getenv("ATOLL_SOAK")
	if text == "" {
		return 8 * time.Second, 6 * time.Second
	}
	phase, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	return phase, time.Minute
}

const resources = `type: MeshIdentity
mesh: shop
name: identity
spec:
  selector: {dataplane: {matchLabels: {}}}
  provider:
    type: Bundled
    bundled: {meshTrustCreation: Enabled, insecureAllowSelfSigned: true, autogenerate: {enabled: true}, certificateParameters: {expiry: %s}}
---
type: MeshTrafficPermission
mesh: shop
name: everybody
spec:
  rules:
  - default:
      allow:
      - {spiffeID: {type: Prefix, value: "spiffe://shop.east.mesh.local"}}
      - {spiffeID: {type: Prefix, value: "spiffe://shop.west.mesh.local"}}
---
type: MeshMultiZoneService
mesh: shop
name: near
spec:
  selector: {meshService: {matchLabels: {kuma.io/display-name: near}}}
  ports: [{name: main, port: 8080, appProtocol: http}]
---
type: MeshMultiZoneService
mesh: shop
name: far
spec:
  selector: {meshService: {matchLabels: {kuma.io/display-name: far}}}
  ports: [{name: main, port: 8080, appProtocol: http}]
`

// world is two zones with a CA each; the cable is that of both to the global.
type world struct {
	*clustertest.World
	cable *cluster.Relay
}

func start(t *testing.T, life time.Duration) *world {
	t.Helper()
	ctx := t.Context()
	w := &world{}
	cable := make(chan *cluster.Relay, 1)
	cable <- nil
	w.World = clustertest.Start(t, clustertest.Options{Bare: true, Zone: func(t testing.TB, _ string, global *cluster.ControlPlane) []string {
		r := <-cable
		defer func() { cable <- r }()
		if r == nil {
			var err error
			if r, err = cluster.NewRelay(fmt.Sprintf("127.0.0.1:%d", global.KDSPort)); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { r.Close() })
		}
		return []string{"ATOLL_MULTIZONE_ZONE_GLOBAL_ADDRESS=grpcs://" + r.Address()}
	}})
	w.cable = <-cable
	w.MustApply(t, w.Global, fmt.Sprintf(resources, life))
	var g errgroup.Group
	g.Go(func() (err error) { w.West.V1, err = w.Backend(t, w.West, "near", "near"); return err })
	g.Go(func() (err error) { w.East.V1, err = w.Backend(t, w.East, "far", "far"); return err })
	g.Go(func() error {
		address := w.Address()
		w.MustApply(t, w.East.ControlPlane, fmt.Sprintf(
			"type: MeshZoneAddress\nmesh: shop\nname: entrance\nlabels: {kuma.io/origin: zone}\nspec: {address: %s, port: %d}\n", address, entrancePort))
		_, err := w.Proxy(ctx, w.East.ControlPlane, w.Global, cluster.ProxySpec{
			Mesh: clustertest.Mesh, Name: "zone-proxy", Labels: map[string]string{"kuma.io/workload": "zone-proxy"}, Address: address, Ingress: entrancePort,
		})
		return err
	})
	g.Go(func() (err error) {
		w.West.Client, err = w.Proxy(ctx, w.West.ControlPlane, w.Global, cluster.ProxySpec{
			Mesh: clustertest.Mesh, Name: "client-1", Labels: map[string]string{"kuma.io/workload": "client"},
			MultiZone: map[int]string{nearPort: "near", farPort: "far"},
		})
		return err
	})
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	for _, port := range []int{nearPort, farPort} {
		if err := cluster.WaitAnswer(ctx, clustertest.Patience, w.West.Client.URL(port)); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

// certificates are how often each proxy of a zone got one, by its name.
func certificates(ctx context.Context, zone *cluster.ControlPlane) (map[string]int, error) {
	var out struct {
		Items []struct {
			Name    string
			Insight struct {
				MTLS struct{ CertificateRegenerations int }
			} `json:"dataplaneInsight"`
		}
	}
	if err := zone.Do(ctx, http.MethodGet, "/meshes/shop/dataplanes/_overview?size=100", nil, &out); err != nil {
		return nil, err
	}
	n := map[string]int{}
	for _, i := range out.Items {
		n[i.Name] = i.Insight.MTLS.CertificateRegenerations
	}
	return n, nil
}

// renewed waits until each proxy of both zones got another certificate.
func (w *world) renewed(t *testing.T, limit time.Duration, during func()) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	before := map[string]map[string]int{}
	for _, z := range w.Zones() {
		n, err := certificates(ctx, z.ControlPlane)
		if err != nil || len(n) != 2 {
			t.Fatalf("zone %s: %v %v", z.Name, n, err)
		}
		before[z.Name] = n
	}
	during()
	for _, z := range w.Zones() {
		err := cluster.Until(ctx, "new certificates in zone "+z.Name, func(ctx context.Context) error {
			now, err := certificates(ctx, z.ControlPlane)
			if err != nil {
				return err
			}
			for name, n := range now {
				if n <= before[z.Name][name] {
					return fmt.Errorf("%s got %d", name, n)
				}
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
}

// marked is a route of the zone itself that marks answers.
func marked(change string) string {
	return fmt.Sprintf(`type: MeshHTTPRoute
mesh: shop
name: mark
labels: {kuma.io/origin: zone}
spec:
  to:
  - targetRef: {kind: MeshMultiZoneService, labels: {kuma.io/display-name: near}}
    rules:
    - matches: [{path: {type: PathPrefix, value: /}}]
      default:
        filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-change, value: %q}]}}]
`, change)
}

// change has a zone change something for itself, and waits until it shows.
func (w *world) change(t *testing.T, name string) {
	t.Helper()
	w.MustApply(t, w.West.ControlPlane, marked(name))
	if err := clustertest.AwaitChange(t.Context(), clustertest.Patience, w.West.Client.URL(nearPort), name); err != nil {
		t.Error(err)
	}
}

// TestUnderLoad renews certificates, cuts the zones off from the global in both
// directions and in one, and replaces a CA, while requests within a zone and
// across go on. None fails.
func TestUnderLoad(t *testing.T) {
	phase, life := lengths(t)
	w := start(t, life)
	ctx := t.Context()
	last := func() { // the phase itself
		timer := time.NewTimer(phase)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	patience := phase + 2*life + clustertest.Patience
	load := cluster.Flow(every, w.West.Client.URL(nearPort), w.West.Client.URL(farPort))

	w.renewed(t, patience, last)
	for name, cut := range map[string]func(){"both directions": w.cable.Cut, "from the global": w.cable.CutBack} {
		cut()
		w.renewed(t, patience, last)
		w.change(t, name)
		w.cable.Heal()
		for _, z := range w.Zones() {
			if err := w.Global.WaitInSync(ctx, 2*clustertest.Patience, z.Zone); err != nil {
				t.Error(err)
			}
		}
	}

	// A new CA is made in the place of the one that goes.
	trusted := func(ctx context.Context, cp *cluster.ControlPlane) (n int, err error) {
		var out struct {
			Items []struct {
				Spec struct {
					TrustDomain string
					CABundles   []any
				}
			}
		}
		err = cp.Do(ctx, http.MethodGet, "/meshes/shop/meshtrusts", nil, &out)
		for _, i := range out.Items {
			if i.Spec.TrustDomain == "shop.east.mesh.local" {
				n += len(i.Spec.CABundles)
			}
		}
		return n, err
	}
	w.renewed(t, patience+life, func() {
		if err := w.East.Do(ctx, http.MethodDelete, "/meshes/shop/secrets/identity-root-ca", nil, nil); err != nil {
			t.Fatal(err)
		}
		for _, cp := range []*cluster.ControlPlane{w.East.ControlPlane, w.Global, w.West.ControlPlane} {
			ctx, cancel := context.WithTimeout(ctx, clustertest.Patience)
			defer cancel()
			err := cluster.Until(ctx, cp.Name+" trusts the new CA", func(ctx context.Context) error {
				if n, err := trusted(ctx, cp); err != nil || n != 2 {
					return fmt.Errorf("it has %d, %v", n, err)
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		}
	})
	w.renewed(t, patience+life, func() {}) // by now certificates of the old one are gone

	sent, failures := load.Stop()
	t.Logf("%d requests in phases of %v with certificates of %v: %d failed", sent, phase, life, len(failures))
	if minimum := int(3*phase/every) / 2; sent < minimum {
		t.Errorf("%d requests are fewer than %d: there was no load", sent, minimum)
	}
	for i, f := range failures {
		if i < 5 {
			t.Errorf("%s at %s: %v", f.URL, f.Time.Format(time.StampMilli), f.Err)
		}
	}
}
