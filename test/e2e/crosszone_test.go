package e2e

import (
	"context"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/atoll-mesh/atoll/test/cluster"
	"github.com/atoll-mesh/atoll/test/cluster/clustertest"
)

const (
	ingressPort, egressPort = 10001, 10002
	everywherePort          = 10090
	plainPort, tlsPort      = 10091, 10092
)

// everywhere is what the global says: every proxy has an identity and may call
// every other one, and the backends of all zones are one service.
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
      - {spiffeID: {type: Prefix, value: "spiffe://shop.east.mesh.local"}}
      - {spiffeID: {type: Prefix, value: "spiffe://shop.west.mesh.local"}}
---
type: MeshMultiZoneService
mesh: shop
name: backend
spec:
  selector: {meshService: {matchLabels: {kuma.io/display-name: backend}}}
  ports: [{name: main, port: 8080, appProtocol: http}]
`

// TestCrossZone has the backends of two zones answer under one name. While a
// zone has its own, those answer; when they are gone, requests go through the
// ingress of the other zone, with mutual TLS from client to backend. What is
// outside the mesh is called through the egress.
func TestCrossZone(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	w := clustertest.Start(t, clustertest.Options{Bare: true})
	w.MustApply(t, w.Global, everywhere)
	plain := httptest.NewServer(outside("plain"))
	t.Cleanup(plain.Close)
	secure := httptest.NewTLSServer(outside("secure"))
	t.Cleanup(secure.Close)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw})
	w.MustApply(t, w.Global, externalService("plain", plain.Listener.Addr().String(), "")+"---\n"+
		externalService("secure", secure.Listener.Addr().String(), fmt.Sprintf(
			"  tls: {enabled: true, verification: {serverName: example.com, caCert: {type: InsecureInline, insecureInline: {value: %q}}}}\n", ca)))

	var g errgroup.Group
	for _, z := range w.Zones() {
		g.Go(func() (err error) { z.V1, err = w.Backend(t, z, "backend", "from "+z.Name); return err })
		g.Go(func() error {
			address := w.Address()
			w.MustApply(t, z.ControlPlane, fmt.Sprintf(
				"type: MeshZoneAddress\nmesh: %s\nname: entrance\nlabels: {kuma.io/origin: zone}\nspec: {address: %s, port: %d}\n", clustertest.Mesh, address, ingressPort))
			_, err := w.Proxy(ctx, z.ControlPlane, w.Global, cluster.ProxySpec{
				Mesh: clustertest.Mesh, Name: "zone-proxy", Labels: map[string]string{"kuma.io/workload": "zone-proxy"},
				Address: address, Ingress: ingressPort, Egress: egressPort,
			})
			return err
		})
	}
	g.Go(func() (err error) {
		w.West.Client, err = w.Proxy(ctx, w.West.ControlPlane, w.Global, cluster.ProxySpec{
			Mesh: clustertest.Mesh, Name: "client-1", Labels: map[string]string{"kuma.io/workload": "client"},
			MultiZone: map[int]string{everywherePort: "backend"},
			External:  map[int]string{plainPort: "plain", tlsPort: "secure"},
		})
		return err
	})
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	url := w.West.Client.URL(everywherePort)
	answered := func(want string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(ctx, clustertest.Patience)
		defer cancel()
		err := cluster.Until(ctx, "answers "+want, func(ctx context.Context) error {
			if s := cluster.Measure(ctx, url, 20); s.Answers[want] < 20 {
				return fmt.Errorf("answers %v, %d failed: %v", s.Answers, s.Failed, s.Last)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
	answered("from west")
	noErrors(t, w)
	if err := w.West.V1.Stop(); err != nil {
		t.Fatal(err)
	}
	answered("from east")
	if err := w.West.V1.Start(ctx); err != nil {
		t.Fatal(err)
	}
	answered("from west")

	for port, want := range map[int]string{plainPort: "plain", tlsPort: "secure"} {
		if err := cluster.WaitAnswer(ctx, clustertest.Patience, w.West.Client.URL(port)); err != nil {
			t.Error(err)
		} else if s := cluster.Measure(ctx, w.West.Client.URL(port), 20); s.Answers[want] != 20 {
			t.Errorf("what is outside answers %v, %d failed: %v", s.Answers, s.Failed, s.Last)
		}
	}
}

func outside(text string) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { io.WriteString(rw, text) })
}

func externalService(name, address, tls string) string {
	host, port, _ := strings.Cut(address, ":")
	return fmt.Sprintf("type: MeshExternalService\nmesh: %s\nname: %s\nspec:\n  match: {type: HostnameGenerator, port: 80, protocol: http}\n  endpoints: [{address: %s, port: %s}]\n%s",
		clustertest.Mesh, name, host, port, tls)
}

// noErrors has the global say that the backends of each zone may be lost: what
// follows in the test is that they are.
func noErrors(t *testing.T, w *clustertest.World) {
	t.Helper()
	var gaps struct {
		Items  []struct{ Code, Severity, Service, Zone, Message string }
		Losses []struct {
			Service, Zone string
			Serves        []struct{ Zone string }
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), clustertest.Patience)
	defer cancel()
	err := cluster.Until(ctx, "no gaps", func(ctx context.Context) error {
		if err := w.Global.Do(ctx, http.MethodGet, "/failover/gaps?mesh="+clustertest.Mesh+"&zone=west", nil, &gaps); err != nil {
			return err
		}
		for _, g := range gaps.Items {
			if g.Service == "backend" && g.Severity == "error" {
				return fmt.Errorf("%+v", g)
			}
		}
		for _, l := range gaps.Losses {
			if l.Service == "backend" && len(l.Serves) == 1 && l.Serves[0].Zone == "east" {
				return nil
			}
		}
		return fmt.Errorf("losses %+v", gaps.Losses)
	})
	if err != nil {
		t.Error(err)
	}
}
