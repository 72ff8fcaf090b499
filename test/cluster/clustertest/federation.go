package clustertest

import (
	"fmt"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/atoll-mesh/atoll/test/cluster"
)

// What proxies of a Federation have in common.
const (
	// WebPort and BytesPort are where each client's Envoy offers the backends of
	// all zones, by HTTP and by TCP.
	WebPort, BytesPort = 10090, 10091
	// EntryPort is where zone proxies are entered.
	EntryPort = 10001
)

// joined is what a global says of a Federation's mesh: everybody has an identity
// and may call everybody else, and the backends of all zones are one service.
const joined = `type: MeshIdentity
mesh: ` + Mesh + `
name: identity
spec:
  selector: {dataplane: {matchLabels: {}}}
  provider: {type: Bundled, bundled: {meshTrustCreation: Enabled, insecureAllowSelfSigned: true, autogenerate: {enabled: true}}}
---
type: MeshTrafficPermission
mesh: ` + Mesh + `
name: everybody
spec: {rules: [{default: {allow: [{spiffeID: {type: Prefix, value: "spiffe://` + Mesh + `."}}]}}]}
---
type: MeshMultiZoneService
mesh: ` + Mesh + `
name: backend
spec:
  selector: {meshService: {matchLabels: {kuma.io/display-name: backend}}}
  ports: [{name: main, port: 8080, appProtocol: http}, {name: bytes, port: 8081, appProtocol: tcp}]
`

// Federation is a global and zones, with a mesh in which backends of all zones
// are one service. It has no proxies of its own.
type Federation struct {
	*cluster.Cluster
	Global *cluster.ControlPlane
	Zones  map[string]*cluster.ControlPlane
}

// Federate makes a federation that lives as long as the test. More, unless
// empty, is applied at the global before the zones get the mesh.
func Federate(t testing.TB, patience time.Duration, more string, zones ...string) *Federation {
	t.Helper()
	f := &Federation{Cluster: New(t), Zones: map[string]*cluster.ControlPlane{}}
	var err error
	f.Global, err = f.Cluster.Global(t.Context(), nil)
	must(t, err)
	list := make([]*cluster.ControlPlane, len(zones))
	var g errgroup.Group
	for i, name := range zones {
		g.Go(func() (err error) {
			if list[i], err = f.FederatedZone(t.Context(), f.Global, name); err != nil {
				return err
			}
			return f.Global.WaitInSync(t.Context(), patience, name)
		})
	}
	must(t, g.Wait())
	f.Apply(t, f.Global, "type: Mesh\nname: "+Mesh+"\n")
	f.Apply(t, f.Global, joined)
	if more != "" {
		f.Apply(t, f.Global, more)
	}
	for i, name := range zones {
		f.Zones[name] = list[i]
		must(t, list[i].WaitFor(t.Context(), patience, "/meshes/"+Mesh))
	}
	return f
}

// Apply applies resources as a user would.
func (f *Federation) Apply(t testing.TB, cp *cluster.ControlPlane, text string) {
	t.Helper()
	if out, errOut, code := Ctl(t, f.Cluster, cp.URL, text, "apply", "-f", "-"); code != 0 {
		t.Fatalf("atollctl apply at %s: exit code %d\n%s%s", cp.Name, code, out, errOut)
	}
}

// Entrance says where zone proxies of a zone are entered.
func (f *Federation) Entrance(t testing.TB, zone *cluster.ControlPlane, name, address string, port int) {
	t.Helper()
	f.Apply(t, zone, fmt.Sprintf("type: MeshZoneAddress\nmesh: %s\nname: %s\nlabels: {kuma.io/origin: zone}\nspec: {address: %s, port: %d}\n", Mesh, name, address, port))
}

// ZoneProxy starts a zone proxy that is entered at an address.
func (f *Federation) ZoneProxy(t testing.TB, zone *cluster.ControlPlane, name, address string) (*cluster.Proxy, error) {
	return f.Proxy(t.Context(), zone, f.Global, cluster.ProxySpec{
		Mesh: Mesh, Name: name, Labels: map[string]string{"kuma.io/workload": "zone-proxy"},
		Address: address, Ingress: EntryPort,
	})
}

// BackendOf starts the proxy of a workload that answers by HTTP and by TCP at
// ports of 127.0.0.1.
func (f *Federation) BackendOf(t testing.TB, zone *cluster.ControlPlane, name string, web, bytes int) (*cluster.Proxy, error) {
	return f.Proxy(t.Context(), zone, f.Global, cluster.ProxySpec{
		Mesh: Mesh, Name: name, Labels: map[string]string{"kuma.io/workload": "backend"}, AppPort: web, BytesPort: bytes,
	})
}

// ClientOf starts a client of the backends of all zones, with labels besides
// those that it has.
func (f *Federation) ClientOf(t testing.TB, zone *cluster.ControlPlane, name string, labels map[string]string) (*cluster.Proxy, error) {
	all := map[string]string{"kuma.io/workload": "client"}
	for k, v := range labels {
		all[k] = v
	}
	return f.Proxy(t.Context(), zone, f.Global, cluster.ProxySpec{
		Mesh: Mesh, Name: name, Labels: all,
		MultiZone: map[int]string{WebPort: "backend"}, MultiZoneBytes: map[int]string{BytesPort: "backend"},
	})
}
