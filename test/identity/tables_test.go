package identity

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/atoll-mesh/atoll/pkg/identity"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/test/cluster"
	"github.com/atoll-mesh/atoll/test/cluster/clustertest"
)

// separate is a mesh whose permissions let in everybody of both meshes, so that
// nothing but certificates keeps them apart.
const separate = `type: Mesh
name: %[1]s
---
type: MeshIdentity
mesh: %[1]s
name: identity
spec:
  selector: {dataplane: {matchLabels: {}}}
  provider: {type: Bundled, bundled: {meshTrustCreation: Enabled, insecureAllowSelfSigned: true, autogenerate: {enabled: true}}}
---
type: MeshTrafficPermission
mesh: %[1]s
name: everybody
spec: {rules: [{default: {allow: [{spiffeID: {type: Prefix, value: "spiffe://one."}}, {spiffeID: {type: Prefix, value: "spiffe://two."}}]}}]}
---
type: MeshExternalService
mesh: %[1]s
name: outside
spec: {match: {type: HostnameGenerator, port: 80, protocol: http}, endpoints: [{address: 127.0.0.1, port: %[2]d}]}
`

const egressPort = 10002

// TestMeshesAreSeparate tries every kind of certificate on every server of each
// of two meshes in one zone.
func TestMeshesAreSeparate(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	c := clustertest.New(t)
	zone, err := c.Zone(ctx, "east")
	if err != nil {
		t.Fatal(err)
	}
	port, err := answering(t, "hello")
	if err != nil {
		t.Fatal(err)
	}
	meshes := []string{"one", "two"}
	backends, gates, cas := map[string]*cluster.Proxy{}, map[string]*cluster.Proxy{}, map[string]identity.Pair{}
	for _, mesh := range meshes {
		if out, errOut, code := clustertest.Ctl(t, c, zone.URL, fmt.Sprintf(separate, mesh, port), "apply", "-f", "-"); code != 0 {
			t.Fatalf("atollctl apply: exit code %d\n%s%s", code, out, errOut)
		}
		var g errgroup.Group
		var backend, gate *cluster.Proxy
		g.Go(func() (err error) {
			backend, err = c.Proxy(ctx, zone, zone, cluster.ProxySpec{
				Mesh: mesh, Name: mesh + "-backend", AppPort: port, BytesPort: port,
				Labels: map[string]string{"kuma.io/workload": "backend"},
			})
			return err
		})
		g.Go(func() (err error) {
			gate, err = c.Proxy(ctx, zone, zone, cluster.ProxySpec{
				Mesh: mesh, Name: mesh + "-gate", Ingress: entrancePort, Egress: egressPort,
				Labels: map[string]string{"kuma.io/workload": "gate"},
			})
			return err
		})
		if err := g.Wait(); err != nil {
			t.Fatal(err)
		}
		backends[mesh], gates[mesh] = backend, gate
		cas[mesh] = identity.Pair{Certificate: secretOf(t, zone, mesh, "identity-root-ca"), Key: secretOf(t, zone, mesh, "identity-private-key")}
	}
	forged, err := identity.NewCA("one.east.mesh.local", time.Now())
	if err != nil {
		t.Fatal(err)
	}

	sni := func(short, mesh, name, section string) string {
		t.Helper()
		kri := resource.KRI{Short: short, Mesh: mesh, Zone: "east", Name: name, Section: section}
		s, ok := kri.SNI()
		if !ok {
			t.Fatalf("%v has no server name", kri)
		}
		return s
	}
	const none, plain = "none", "in the clear"
	for _, mesh := range meshes {
		other := meshes[0]
		if mesh == other {
			other = meshes[1]
		}
		spiffe := func(of string) string { return "spiffe://" + of + ".east.mesh.local/workload/client" }
		certificates := map[string]*tls.Certificate{
			"of the mesh":     issue(t, cas[mesh], spiffe(mesh)),
			"of another mesh": issue(t, cas[other], spiffe(other)),
			"of another mesh that claims to be of it": issue(t, cas[other], spiffe(mesh)),
			"of an unknown CA":                        issue(t, forged, spiffe(mesh)),
			"of the mesh for another trust domain":    issue(t, cas[mesh], spiffe(other)),
			none:                                      nil,
			plain:                                     nil,
		}
		service := sni("msvc", mesh, "backend", "main")
		for server, at := range map[string]struct {
			address string
			port    int
			sni     string
		}{
			"HTTP":                 {backends[mesh].Spec.Address, 8080, service},
			"TCP":                  {backends[mesh].Spec.Address, 8081, service},
			"ingress":              {gates[mesh].Spec.Address, entrancePort, service},
			"egress":               {gates[mesh].Spec.Address, egressPort, sni("extsvc", mesh, "outside", "80")},
			"ingress without name": {gates[mesh].Spec.Address, entrancePort, ""},
		} {
			address := fmt.Sprintf("%s:%d", at.address, at.port)
			for name, cert := range certificates {
				want := name == "of the mesh" && at.sni != ""
				got := call(address, at.sni, cert, name == plain)
				if want { // it may take a moment until all of it is there
					ctx, cancel := context.WithTimeout(ctx, clustertest.Patience)
					got = cluster.Until(ctx, "answer", func(context.Context) error { return call(address, at.sni, cert, false) })
					cancel()
				}
				if (got == nil) != want {
					t.Errorf("mesh %s, %s, certificate %s: %v", mesh, server, name, got)
				}
			}
		}
	}
}

func secretOf(t *testing.T, cp *cluster.ControlPlane, mesh, name string) []byte {
	t.Helper()
	var out struct{ Data string }
	ctx, cancel := context.WithTimeout(t.Context(), clustertest.Patience)
	defer cancel()
	err := cluster.Until(ctx, name, func(ctx context.Context) error { // it is made soon after its identity
		return cp.Do(ctx, http.MethodGet, "/meshes/"+mesh+"/secrets/"+name, nil, &out)
	})
	if err != nil {
		t.Fatal(err)
	}
	b, err := base64.StdEncoding.DecodeString(out.Data)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func issue(t *testing.T, pair identity.Pair, id string) *tls.Certificate {
	t.Helper()
	ca, err := identity.LoadCA(pair, true)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := ca.Issue(id, time.Hour, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	cert, err := tls.X509KeyPair(leaf.Certificate, leaf.Key)
	if err != nil {
		t.Fatal(err)
	}
	return &cert
}

// call says hello to a server and returns nil when it is answered.
func call(address, sni string, cert *tls.Certificate, clear bool) error {
	conn, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	if !clear {
		// Who the server is, is not what is tested.
		cfg := &tls.Config{InsecureSkipVerify: true, ServerName: sni, NextProtos: []string{"kuma"}}
		if cert != nil {
			cfg.Certificates = []tls.Certificate{*cert}
		}
		conn = tls.Client(conn, cfg)
	}
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); err != nil {
		return err
	}
	answer, err := io.ReadAll(conn)
	if len(answer) > 0 && err == nil {
		if string(answer[:12]) != "HTTP/1.1 200" {
			return fmt.Errorf("answered %.60q", answer)
		}
		return nil
	}
	return fmt.Errorf("no answer: %w", err)
}
