package compile

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	system_proto "github.com/atoll-mesh/atoll/api/kuma/system/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/identity"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/xds"
)

const certName = "kri_mid_default_east__id_"

// ca is one that a test made, as the control plane's leader would.
func (w *world) ca(domain string) identity.Pair {
	w.t.Helper()
	pair, err := identity.NewCA(domain, time.Now())
	if err != nil {
		w.t.Fatal(err)
	}
	return pair
}

func (w *world) secret(name string, data []byte) *resource.Object {
	w.t.Helper()
	k := w.kinds.ByType(kind.Secret)
	o, err := k.New(resource.Meta{ID: resource.ID{Type: kind.Secret, Mesh: "default", Name: name}, Created: epoch},
		&system_proto.Secret{Data: wrapperspb.Bytes(data)}, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return o
}

// trust is the MeshTrust of identity id.
func trust(cas ...identity.Pair) string {
	var b strings.Builder
	b.WriteString("type: MeshTrust\nmesh: default\nname: id\nspec:\n  trustDomain: default.east.mesh.local\n  caBundles:\n")
	for _, ca := range cas {
		fmt.Fprintf(&b, "  - {type: Pem, pem: {value: %q}}\n", ca.Certificate)
	}
	return b.String()
}

const meshIdentity = `
type: MeshIdentity
mesh: default
name: id
spec:
  selector: {dataplane: {matchLabels: {}}}
  provider: {type: Bundled, bundled: {insecureAllowSelfSigned: true, autogenerate: {enabled: true}, certificateParameters: {expiry: %s}}}
status: {conditions: [{type: Ready, status: "True", reason: Ready, message: ""}]}
`

// identify gives every proxy of the mesh an identity.
func (w *world) identify(expiry string, ca identity.Pair) {
	w.t.Helper()
	w.put(w.secret("id-root-ca", ca.Certificate), w.secret("id-private-key", ca.Key),
		w.decode(trust(ca)), w.decode(fmt.Sprintf(meshIdentity, expiry)))
}

func leafOf(t testing.TB, p *Proxy) (version string, leaf *x509.Certificate) {
	t.Helper()
	r := p.Set().Source(xds.Secrets).Get(certName)
	if r == nil {
		t.Fatal("the proxy has no certificate")
	}
	s := &tlsv3.Secret{}
	if err := r.Body.UnmarshalTo(s); err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(s.GetTlsCertificate().GetCertificateChain().GetInlineBytes())
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return r.Version, leaf
}

const twoWorkloads = `
type: Dataplane
mesh: default
name: web-1
labels: {kuma.io/workload: web}
networking: {address: 192.0.2.1, inbound: [{port: 8080, name: http, protocol: http}], outbound: [{port: 3000, backendRef: {kind: MeshService, name: api, port: 80}}]}
---
type: Dataplane
mesh: default
name: web-2
labels: {kuma.io/workload: web}
networking: {address: 192.0.2.2, inbound: [{port: 8080, name: http, protocol: http}], outbound: [{port: 3000, backendRef: {kind: MeshService, name: api, port: 80}}]}
---
type: MeshService
mesh: default
name: api
spec:
  selector: {dataplaneLabels: {matchLabels: {kuma.io/workload: web}}}
  ports: [{port: 80, name: http, targetPort: http, appProtocol: http}]
  identities: [{type: SpiffeID, value: "spiffe://default.east.mesh.local/workload/web"}]
status: {tls: {status: Ready}}
`

// A certificate is for the proxy alone and replaced at two thirds of its life;
// all else stays as it is, for it and for everybody.
func TestRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.apply(twoWorkloads)
		w.identify("90s", w.ca("default.east.mesh.local"))
		a, b := w.attach(dataplane("web-1")), w.attach(dataplane("web-2"))
		defer func() { a.Detach(); b.Detach(); w.e.step() }()
		if a.Set().Layers()[0] != b.Set().Layers()[0] {
			t.Error("the clusters of proxies with the same identity are not shared")
		}
		before, leaf := leafOf(t, a)
		other, theirs := leafOf(t, b)
		if before == other || leaf.SerialNumber.Cmp(theirs.SerialNumber) == 0 || leaf.PublicKey == theirs.PublicKey {
			t.Error("two proxies have the same certificate")
		}
		if got := leaf.URIs[0].String(); got != "spiffe://default.east.mesh.local/workload/web" || len(leaf.URIs) != 1 {
			t.Errorf("the certificate is for %v", leaf.URIs)
		}
		layers := a.Set().Layers()
		var proofs []*Proof
		a.Prove(func(p *Proof) { proofs = append(proofs, p) })
		w.e.step()

		wait := func(d time.Duration) {
			<-time.After(d)
			synctest.Wait()
			w.e.step()
		}
		wait(50 * time.Second)
		if v, _ := leafOf(t, a); v != before {
			t.Error("the certificate was replaced before its time")
		}
		wait(11 * time.Second)
		now, next := leafOf(t, a)
		if now == before || !next.NotAfter.After(leaf.NotAfter) {
			t.Error("the certificate was not replaced")
		}
		if len(proofs) != 2 || !proofs[0].Expires.Truncate(time.Second).Equal(leaf.NotAfter) || !proofs[1].Expires.Truncate(time.Second).Equal(next.NotAfter) ||
			!strings.HasPrefix(proofs[0].Identity, "kri_mid_") {
			t.Errorf("told of %+v", proofs)
		}
		if l := a.Set().Layers(); l[0] != layers[0] || l[1] != layers[1] {
			t.Error("a new certificate touched other resources")
		}
		w.check()
	})
}

// Certificates of a new CA are issued only after everybody could learn to trust
// it; until then those of the old one are used.
func TestCARotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		first, second := w.ca("default.east.mesh.local"), w.ca("default.east.mesh.local")
		w.apply(twoWorkloads)
		w.identify("24h", first)
		p := w.attach(dataplane("web-1"))
		defer func() { p.Detach(); w.e.step() }()
		before, _ := leafOf(t, p)
		wait := func(d time.Duration) {
			<-time.After(d)
			synctest.Wait()
			w.e.step()
		}
		w.put(w.secret("id-root-ca", second.Certificate), w.secret("id-private-key", second.Key))
		wait(time.Hour)
		if v, _ := leafOf(t, p); v != before {
			t.Fatal("a certificate was issued by a CA that nobody trusts")
		}
		w.apply(trust(first, second))
		wait(overlap - time.Second)
		if v, _ := leafOf(t, p); v != before {
			t.Fatal("a certificate of the new CA was issued at once")
		}
		wait(2 * time.Hour)
		v, leaf := leafOf(t, p)
		if v == before {
			t.Fatal("no certificate of the new CA was issued")
		}
		block, _ := pem.Decode(second.Certificate)
		ca, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		if err := leaf.CheckSignatureFrom(ca); err != nil {
			t.Errorf("the certificate is not of the new CA: %v", err)
		}
		// The CA is gone for a moment: what was issued stays in use.
		w.remove(resource.ID{Type: kind.Secret, Mesh: "default", Name: "id-root-ca"})
		w.e.step()
		if now, _ := leafOf(t, p); now != v {
			t.Error("the certificate went with the CA")
		}
		w.check()
	})
}

// Clients prove who they are as soon as the destination does, and then know it by
// its identities, whoever of it is there.
func TestUpstream(t *testing.T) {
	w := newWorld(t)
	w.apply(twoWorkloads)
	const cluster = "kri_msvc_default_east__api_http"
	p := w.attach(dataplane("web-1"))
	plain, _ := served(t, p, xds.Clusters, cluster)
	w.identify("24h", w.ca("default.east.mesh.local"))
	w.e.step()
	secured, body := served(t, p, xds.Clusters, cluster)
	for _, want := range []string{"sni.msvc.default.east.api.http", "spiffe://default.east.mesh.local/workload/web", certName, trustName} {
		if !strings.Contains(string(body), want) {
			t.Errorf("the cluster does not say %s", want)
		}
	}
	if secured == plain {
		t.Error("the cluster is called in the clear")
	}
	// Whoever is not ready, or gone, changes endpoints and nothing else.
	w.remove(resource.ID{Type: kind.Dataplane, Mesh: "default", Name: "web-2"})
	w.e.step()
	if v, _ := served(t, p, xds.Clusters, cluster); v != secured {
		t.Error("a proxy that went changed what its service is")
	}
	w.check()
	// Without the identity everything is as it was.
	w.remove(resource.ID{Type: kind.MeshIdentity, Mesh: "default", Name: "id"})
	w.e.step()
	if v, _ := served(t, p, xds.Clusters, cluster); v != plain {
		t.Error("the cluster is not as it was before the identity")
	}
	if p.Set().Source(xds.Secrets).Get(certName) != nil {
		t.Error("the certificate outlived the identity")
	}
	w.check()
}
