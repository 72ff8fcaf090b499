package identity

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"iter"
	"maps"
	"slices"

	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// TrustDomain is a trust domain and the CAs that may vouch for it, in PEM.
type TrustDomain struct {
	Name string
	CAs  []byte

	fingerprints map[[32]byte]bool
	certificates []*x509.Certificate
}

// Has tells whether a CA is among those of the trust domain.
func (t *TrustDomain) Has(fingerprint [32]byte) bool { return t.fingerprints[fingerprint] }

// Trust joins MeshTrusts of one mesh, each in its turn, to trust domains in
// order of their names. What is no certificate is left out.
func Trust(trusts iter.Seq[*resource.Object]) []TrustDomain {
	byName := map[string]*TrustDomain{}
	for o := range trusts {
		spec := resource.SpecOf[kind.MeshTrustSpec](o)
		d := byName[spec.TrustDomain]
		if d == nil {
			d = &TrustDomain{Name: spec.TrustDomain, fingerprints: map[[32]byte]bool{}}
			byName[spec.TrustDomain] = d
		}
		for der := range Certificates(spec) {
			sum := sha256.Sum256(der)
			if d.fingerprints[sum] {
				continue
			}
			d.fingerprints[sum] = true
			if c, err := x509.ParseCertificate(der); err == nil {
				d.certificates = append(d.certificates, c)
			}
		}
	}
	var out []TrustDomain
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		d := byName[name]
		for _, c := range d.certificates {
			if !d.shadowed(c) {
				d.CAs = append(d.CAs, encodeCertificate(c.Raw)...)
			}
		}
		if len(d.CAs) > 0 {
			out = append(out, *d)
		}
	}
	return out
}

// shadowed tells whether another certificate of the same CA vouches for itself.
// Envoy would take the first of the two that it finds, and look in vain for who
// vouches for it.
func (t *TrustDomain) shadowed(c *x509.Certificate) bool {
	return !bytes.Equal(c.RawSubject, c.RawIssuer) && slices.ContainsFunc(t.certificates, func(x *x509.Certificate) bool {
		return sameCA(x, c) && vouchesForItself(x)
	})
}

// Certificates yields the certificates of a MeshTrust in DER.
func Certificates(spec *kind.MeshTrustSpec) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for _, b := range spec.CABundles {
			if b.Pem == nil {
				continue
			}
			rest := []byte(b.Pem.Value)
			for {
				var block *pem.Block
				if block, rest = pem.Decode(bytes.TrimSpace(rest)); block == nil {
					break
				}
				if _, err := x509.ParseCertificate(block.Bytes); block.Type != "CERTIFICATE" || err != nil {
					continue
				}
				if !yield(block.Bytes) {
					return
				}
			}
		}
	}
}
