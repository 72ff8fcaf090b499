package identity_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"iter"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/atoll-mesh/atoll/pkg/identity"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

var (
	kinds = resource.NewKinds(kind.All()...)
	east  = resource.Site{Zone: "east", Env: resource.EnvUniversal}
)

// snapshot is a Source of a few resources.
type snapshot []*resource.Object

func (s snapshot) Get(id resource.ID) *resource.Object {
	for _, o := range s {
		if o.ID == id {
			return o
		}
	}
	return nil
}

func (s snapshot) List(t resource.Type, mesh string) iter.Seq[*resource.Object] {
	return func(yield func(*resource.Object) bool) {
		for _, o := range s {
			if o.Type == t && o.Mesh == mesh && !yield(o) {
				return
			}
		}
	}
}

func meshIdentity(t *testing.T, name, labels, spec string) *resource.Object {
	t.Helper()
	k := kinds.ByType(kind.MeshIdentity)
	o, err := k.DecodeJSON([]byte(`{"type": "MeshIdentity", "mesh": "m", "name": "` + name + `", "labels": {` + labels + `}, "spec": ` + spec + `}`))
	if err != nil {
		t.Fatal(err)
	}
	ready := &kind.MeshIdentityStatus{Conditions: []kind.Condition{{Type: kind.ConditionReady, Status: "True"}}}
	if o, err = k.New(o.Meta, o.Spec, ready); err != nil {
		t.Fatal(err)
	}
	return o
}

func TestSpiffeID(t *testing.T) {
	kubernetes := resource.Site{Zone: "east", Env: resource.EnvKubernetes}
	dp := &resource.Meta{ID: resource.ID{Type: kind.Dataplane, Mesh: "m", Name: "dp"}, Labels: map[string]string{
		resource.LabelWorkload: "web", resource.LabelNamespace: "shop", resource.LabelServiceAccount: "sa-1", "team": "a",
	}}
	for name, c := range map[string]struct {
		site           resource.Site
		labels, ids    string
		want           string // the SPIFFE ID, or the beginning of an error
		labelsOfTheIDs string
	}{
		"universal":           {east, ``, ``, "spiffe://m.east.mesh.local/workload/web", "kuma.io/workload"},
		"kubernetes":          {kubernetes, ``, ``, "spiffe://m.east.mesh.local/ns/shop/sa/sa-1", "k8s.kuma.io/namespace k8s.kuma.io/service-account"},
		"of another zone":     {east, `"kuma.io/zone": "west"`, ``, "spiffe://m.west.mesh.local/workload/web", "kuma.io/workload"},
		"own trust domain":    {east, ``, `"trustDomain": "{{ .Mesh }}.example"`, "spiffe://m.example/workload/web", "kuma.io/workload"},
		"label of identity":   {east, `"env": "prod"`, `"trustDomain": "{{ label \"env\" }}.example"`, "spiffe://prod.example/workload/web", "kuma.io/workload"},
		"label of dataplane":  {east, ``, `"path": "/{{ label \"team\" }}/{{ .TrustDomain }}"`, "spiffe://m.east.mesh.local/a/m.east.mesh.local", "team"},
		"missing label":       {east, ``, `"path": "/{{ label \"nope\" }}"`, "spec.spiffeID.path:", "nope"},
		"missing own label":   {east, ``, `"trustDomain": "{{ label \"team\" }}"`, "spec.spiffeID.trustDomain:", ""},
		"unknown variable":    {east, ``, `"path": "/{{ .Pod }}"`, "spec.spiffeID.path:", ""},
		"no slash":            {east, ``, `"path": "x"`, `"spiffe://m.east.mesh.localx" is not`, ""},
		"empty segment":       {east, ``, `"path": "//x"`, `"spiffe://m.east.mesh.local//x" is not`, ""},
		"bad trust domain":    {east, ``, `"trustDomain": "A_B/c"`, `spec.spiffeID.trustDomain gives "A_B/c"`, ""},
		"path without labels": {east, ``, `"path": "/all"`, "spiffe://m.east.mesh.local/all", ""},
	} {
		t.Run(name, func(t *testing.T) {
			spec := `{"selector": {"dataplane": {}}, "spiffeID": {` + c.ids + `}, "provider": {"type": "Spire", "spire": {}}}`
			m := identity.NewMesh(c.site, snapshot{meshIdentity(t, "id", c.labels, spec)}, "m")
			i := m.Of(dp)
			got, err := i.SpiffeID(dp)
			if err != nil {
				got = err.Error()
			}
			if !strings.HasPrefix(got, c.want) || err == nil && got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
			if labels := strings.Join(i.Labels(), " "); labels != c.labelsOfTheIDs {
				t.Errorf("made of labels %q, want %q", labels, c.labelsOfTheIDs)
			}
		})
	}
}

func TestSelection(t *testing.T) {
	select_ := func(labels string) string {
		return `{"selector": {"dataplane": {"matchLabels": {` + labels + `}}}, "provider": {"type": "Spire", "spire": {}}}`
	}
	m := identity.NewMesh(east, snapshot{
		meshIdentity(t, "z-all", ``, select_(``)),
		meshIdentity(t, "a-all", ``, select_(``)),
		meshIdentity(t, "web", ``, select_(`"app": "web"`)),
		meshIdentity(t, "web-prod", ``, select_(`"app": "web", "env": "prod"`)),
		meshIdentity(t, "none", ``, `{"provider": {"type": "Spire", "spire": {}}}`),
		meshIdentity(t, "0-none", ``, `{"selector": {}, "provider": {"type": "Spire", "spire": {}}}`),
	}, "m")
	for labels, want := range map[[2]string]string{{}: "a-all", {"web", ""}: "web", {"web", "prod"}: "web-prod", {"api", "prod"}: "a-all"} {
		dp := &resource.Meta{Labels: map[string]string{"app": labels[0], "env": labels[1]}}
		if got := m.Of(dp).Object.Name; got != want {
			t.Errorf("%v: %s, want %s", labels, got, want)
		}
	}
}

// pair makes a certificate from a template, signed by itself or by a parent.
func pair(t *testing.T, template x509.Certificate, by *identity.Pair) identity.Pair {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber, template.NotAfter, template.BasicConstraintsValid = big.NewInt(1), time.Now().Add(time.Hour), true
	template.Subject.CommonName = "ca"
	parent, signer := &template, any(key)
	if by != nil {
		block, _ := pem.Decode(by.Certificate)
		if parent, err = x509.ParseCertificate(block.Bytes); err != nil {
			t.Fatal(err)
		}
		block, _ = pem.Decode(by.Key)
		if signer, err = x509.ParsePKCS8PrivateKey(block.Bytes); err != nil {
			t.Fatal(err)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	k, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return identity.Pair{
		Certificate: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		Key:         pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: k}),
	}
}

func TestLoadCA(t *testing.T) {
	sign := x509.KeyUsageCertSign
	root, err := identity.NewCA("m.east.mesh.local", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	other, err := identity.NewCA("m.east.mesh.local", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	intermediate := pair(t, x509.Certificate{IsCA: true, KeyUsage: sign}, &root)
	for name, c := range map[string]struct {
		pair       identity.Pair
		selfSigned bool
		want       string // in the error
	}{
		"made here":        {root, true, ""},
		"root not allowed": {root, false, "vouches for itself"},
		"intermediate":     {intermediate, false, ""},
		"no CA":            {pair(t, x509.Certificate{KeyUsage: sign}, &root), true, "not one of a CA"},
		"cannot sign":      {pair(t, x509.Certificate{IsCA: true, KeyUsage: x509.KeyUsageCRLSign}, &root), true, "certSign"},
		"key agreement":    {pair(t, x509.Certificate{IsCA: true, KeyUsage: sign | x509.KeyUsageKeyAgreement}, &root), true, "key agreement"},
		"another's key":    {identity.Pair{Certificate: root.Certificate, Key: other.Key}, true, "does not belong"},
		"swapped":          {identity.Pair{Certificate: root.Key, Key: root.Certificate}, true, "not a certificate"},
		"nothing":          {identity.Pair{}, true, "not a certificate"},
		"no key":           {identity.Pair{Certificate: root.Certificate, Key: []byte("x")}, true, "not in PEM"},
	} {
		_, err := identity.LoadCA(c.pair, c.selfSigned)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// TestAnchors: what a MeshTrust gets is enough for who trusts only CAs that vouch
// for themselves.
func TestAnchors(t *testing.T) {
	root, err := identity.NewCA("m.east.mesh.local", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	alone := pair(t, x509.Certificate{IsCA: true, KeyUsage: x509.KeyUsageCertSign}, &root)
	chain := identity.Pair{Certificate: append(slices.Clone(alone.Certificate), root.Certificate...), Key: alone.Key}
	for name, c := range map[string]struct {
		pair identity.Pair
		want int // certificates
	}{"vouches for itself": {root, 1}, "alone": {alone, 2}, "with its root": {chain, 2}} {
		ca, err := identity.LoadCA(c.pair, true)
		if err != nil {
			t.Fatal(err)
		}
		anchors, err := ca.Anchors()
		if err != nil {
			t.Fatal(err)
		}
		spec := func(value []byte) *kind.MeshTrustSpec {
			return &kind.MeshTrustSpec{TrustDomain: "td", CABundles: []kind.CABundle{{Type: kind.BundlePem, Pem: &kind.PemBundle{Value: string(value)}}}}
		}
		if n := len(slices.Collect(identity.Certificates(spec(anchors)))); n != c.want {
			t.Errorf("%s: %d certificates, want %d", name, n, c.want)
		}
		if !ca.Anchored(identity.Certificates(spec(anchors))) {
			t.Errorf("%s: its own anchors are not enough", name)
		}
		if enough := ca.Anchored(identity.Certificates(spec(ca.PEM))); enough != (c.want == 1) {
			t.Errorf("%s: the certificate alone is enough: %v", name, enough)
		}
		trust, err := resource.NewKinds(kind.All()...).ByType(kind.MeshTrust).New(resource.Meta{ID: resource.ID{Type: kind.MeshTrust, Mesh: "m", Name: "t"}}, spec(anchors), nil)
		if err != nil {
			t.Fatal(err)
		}
		domains := identity.Trust(slices.Values([]*resource.Object{trust}))
		if len(domains) != 1 || !domains[0].Has(ca.Fingerprint) {
			t.Fatalf("%s: not trusted", name)
		}
		// What Envoy gets has a way up to one that vouches for itself, and none to
		// where nobody vouches.
		roots, between := x509.NewCertPool(), x509.NewCertPool()
		for rest := domains[0].CAs; ; {
			var block *pem.Block
			if block, rest = pem.Decode(rest); block == nil {
				break
			}
			if x, err := x509.ParseCertificate(block.Bytes); err != nil {
				t.Fatal(err)
			} else if x.CheckSignatureFrom(x) == nil {
				roots.AddCert(x)
			} else if name == "alone" {
				t.Errorf("the intermediate CA stands beside its anchor")
			} else {
				between.AddCert(x)
			}
		}
		leaf, err := ca.Issue("spiffe://td/x", time.Minute, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(leaf.Certificate)
		x, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := x.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestIssue(t *testing.T) {
	root, err := identity.NewCA("m.east.mesh.local", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	ca, err := identity.LoadCA(root, true)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	leaf, err := ca.Issue("spiffe://m.east.mesh.local/workload/web", time.Hour, now)
	if err != nil {
		t.Fatal(err)
	}
	block, rest := pem.Decode(leaf.Certificate)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil || len(rest) > 0 {
		t.Fatalf("%v, and %d bytes more", err, len(rest))
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca.Certificate)
	for _, use := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		if _, err := cert.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{use}}); err != nil {
			t.Error(err)
		}
	}
	if cert.IsCA || len(cert.Subject.Names) > 0 || len(cert.URIs) != 1 || cert.NotAfter.After(now.Add(time.Hour)) || !cert.NotBefore.Before(now) {
		t.Errorf("%+v", cert)
	}
	if leaf, err = ca.Issue("spiffe://m.east.mesh.local/x", 20*365*24*time.Hour, now); err != nil || leaf.NotAfter.After(ca.Certificate.NotAfter) {
		t.Errorf("a certificate outlives its CA: %v %v", leaf, err)
	}
	if _, err := ca.Issue("spiffe://m.east.mesh.local/x", time.Hour, now.Add(11*365*24*time.Hour)); err == nil {
		t.Error("a CA that expired issues certificates")
	}
}

func TestTrust(t *testing.T) {
	one, _ := identity.NewCA("b.local", time.Now())
	two, _ := identity.NewCA("b.local", time.Now())
	trust := func(name, domain string, cas ...[]byte) *resource.Object {
		spec := &kind.MeshTrustSpec{TrustDomain: domain}
		for _, ca := range cas {
			spec.CABundles = append(spec.CABundles, kind.CABundle{Type: kind.BundlePem, Pem: &kind.PemBundle{Value: string(ca)}})
		}
		o, err := kinds.ByType(kind.MeshTrust).New(resource.Meta{ID: resource.ID{Type: kind.MeshTrust, Mesh: "m", Name: name}}, spec, nil)
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	got := identity.Trust(slices.Values([]*resource.Object{
		trust("1", "b.local", one.Certificate),
		trust("2", "a.local", two.Certificate),
		trust("3", "b.local", one.Certificate, append(slices.Clone(two.Certificate), "no PEM"...)),
		trust("4", "c.local", []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")),
	}))
	if len(got) != 2 || got[0].Name != "a.local" || got[1].Name != "b.local" {
		t.Fatalf("%+v", got)
	}
	if n := strings.Count(string(got[1].CAs), "BEGIN"); n != 2 {
		t.Errorf("b.local has %d CAs, want each once", n)
	}
}
