package traffic_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/atoll-mesh/atoll/pkg/identity"
	"github.com/atoll-mesh/atoll/test/traffic"
)

// TestIntermediateCA: Envoy trusts only CAs that vouch for themselves, and yet
// takes certificates of an intermediate one, alone or with who vouches for it.
func TestIntermediateCA(t *testing.T) {
	t.Parallel()
	root, alone := intermediate(t)
	chain := identity.Pair{Certificate: slices.Concat(alone.Certificate, root), Key: alone.Key}
	for name, ca := range map[string]identity.Pair{"alone": alone, "with its root": chain} {
		t.Run(name, func(t *testing.T) {
			m, in := traffic.Start(t), traffic.Dead(t)
			m.IdentifyBy(t, ca)
			m.Apply(t, fmt.Sprintf(`
type: Dataplane
name: server
labels: {kuma.io/workload: server}
networking:
  address: 127.0.0.1
  inbound: [{port: %d, servicePort: %d, protocol: http}]`, in, traffic.Serve(t, paced).Port))
			m.Envoy("server")
			m.Listening(t, in)
			c := http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{
				InsecureSkipVerify: true, Certificates: []tls.Certificate{m.Certificate(t, "client")},
			}}}
			traffic.Until(t, "a certificate of the CA is refused", func() bool {
				resp, err := c.Get(fmt.Sprintf("https://%s/", local(in)))
				if err != nil {
					return false
				}
				_ = resp.Body.Close()
				return resp.StatusCode == http.StatusOK
			})
		})
	}
}

// intermediate makes a CA for which a root vouches, and the certificate of that.
func intermediate(t *testing.T) (root []byte, ca identity.Pair) {
	t.Helper()
	made, err := identity.NewCA(traffic.TrustDomain, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	certificate, _ := pem.Decode(made.Certificate)
	parent, err := x509.ParseCertificate(certificate.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(made.Key)
	signer, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "intermediate"},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	text, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return made.Certificate, identity.Pair{
		Certificate: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		Key:         pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: text}),
	}
}
