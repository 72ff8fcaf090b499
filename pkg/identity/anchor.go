package identity

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"iter"
)

// Anchors is what a MeshTrust needs for certificates of the CA, in PEM: its own
// certificate first, and what came with it. Envoy trusts nothing but CAs that
// vouch for themselves. If none of these does for this CA, because it is an
// intermediate one and came alone, a certificate of the same name and key that
// vouches for itself is added.
func (ca *CA) Anchors() ([]byte, error) {
	out := encodeCertificate(ca.Certificate.Raw)
	for _, c := range ca.with {
		out = append(out, encodeCertificate(c.Raw)...)
	}
	if ca.anchoredBy(ca.with) {
		return out, nil
	}
	c := ca.Certificate
	template := &x509.Certificate{
		SerialNumber: c.SerialNumber, RawSubject: c.RawSubject, SubjectKeyId: c.SubjectKeyId, URIs: c.URIs,
		NotBefore: c.NotBefore, NotAfter: c.NotAfter,
		IsCA: true, BasicConstraintsValid: true, MaxPathLen: c.MaxPathLen, MaxPathLenZero: c.MaxPathLenZero,
		KeyUsage: c.KeyUsage, ExtKeyUsage: c.ExtKeyUsage,
		PermittedDNSDomainsCritical: c.PermittedDNSDomainsCritical,
		PermittedDNSDomains:         c.PermittedDNSDomains, ExcludedDNSDomains: c.ExcludedDNSDomains,
		PermittedIPRanges: c.PermittedIPRanges, ExcludedIPRanges: c.ExcludedIPRanges,
		PermittedEmailAddresses: c.PermittedEmailAddresses, ExcludedEmailAddresses: c.ExcludedEmailAddresses,
		PermittedURIDomains: c.PermittedURIDomains, ExcludedURIDomains: c.ExcludedURIDomains,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, ca.key.Public(), ca.key)
	if err != nil {
		return nil, fmt.Errorf("the CA cannot sign: %w", err)
	}
	return append(out, encodeCertificate(der)...), nil
}

// Anchored tells whether the certificates of a MeshTrust, in DER, are enough for
// Envoy to accept what the CA issues.
func (ca *CA) Anchored(certificates iter.Seq[[]byte]) bool {
	own, others := false, []*x509.Certificate(nil)
	for der := range certificates {
		if bytes.Equal(der, ca.Certificate.Raw) {
			own = true
		} else if c, err := x509.ParseCertificate(der); err == nil {
			others = append(others, c)
		}
	}
	return own && ca.anchoredBy(others)
}

// anchoredBy tells whether others vouch for the CA, up to one that vouches for
// itself, or whether the CA does.
func (ca *CA) anchoredBy(others []*x509.Certificate) bool {
	if vouchesForItself(ca.Certificate) {
		return true
	}
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	for _, c := range others {
		switch {
		case !vouchesForItself(c):
			between.AddCert(c)
		case sameCA(c, ca.Certificate):
			return true
		default:
			roots.AddCert(c)
		}
	}
	_, err := ca.Certificate.Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
		CurrentTime: ca.Certificate.NotBefore, // whether one has ended is another question
	})
	return err == nil
}

func vouchesForItself(c *x509.Certificate) bool {
	return bytes.Equal(c.RawSubject, c.RawIssuer) && c.CheckSignatureFrom(c) == nil
}

// sameCA tells whether two certificates are of one name and key.
func sameCA(a, b *x509.Certificate) bool {
	key, ok := a.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	return ok && bytes.Equal(a.RawSubject, b.RawSubject) && key.Equal(b.PublicKey)
}

// SameCA tells whether two certificates in DER are of one name and key.
func SameCA(a, b []byte) bool {
	x, err := x509.ParseCertificate(a)
	if err != nil {
		return false
	}
	y, err := x509.ParseCertificate(b)
	return err == nil && sameCA(x, y)
}

func encodeCertificate(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}
