package identity

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"time"
)

const (
	caLifetime = 10 * 365 * 24 * time.Hour
	// backdate lets machines whose clocks are a little behind accept what was
	// issued a moment ago.
	backdate = 10 * time.Second
)

// Pair is a certificate and its key in PEM.
type Pair struct {
	Certificate, Key []byte
}

// CA is a certificate authority that can sign.
type CA struct {
	Certificate *x509.Certificate
	PEM         []byte // the certificate alone
	Fingerprint [32]byte
	key         crypto.Signer
	with        []*x509.Certificate // that came with it, such as who vouches for it
}

// NewCA makes a CA for a trust domain, which vouches for itself.
func NewCA(trustDomain string, now time.Time) (Pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Pair{}, err
	}
	serial, err := serialNumber()
	if err != nil {
		return Pair{}, err
	}
	der, err := x509.CreateCertificate(rand.Reader, caTemplate(trustDomain, serial, now), caTemplate(trustDomain, serial, now), key.Public(), key)
	if err != nil {
		return Pair{}, err
	}
	return encodePair(der, key)
}

func caTemplate(trustDomain string, serial *big.Int, now time.Time) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: trustDomain, Organization: []string{"Atoll"}, OrganizationalUnit: []string{"Mesh"}},
		URIs:         []*url.URL{{Scheme: "spiffe", Host: trustDomain}},
		NotBefore:    now.Add(-backdate), NotAfter: now.Add(caLifetime),
		IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
}

func serialNumber() (*big.Int, error) {
	return rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 128))
}

func encodePair(der []byte, key crypto.PrivateKey) (Pair, error) {
	k, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return Pair{}, err
	}
	return Pair{
		Certificate: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		Key:         pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: k}),
	}, nil
}

// LoadCA reads a CA and refuses what could not issue certificates that proxies
// accept. selfSigned allows one that vouches for itself.
func LoadCA(p Pair, selfSigned bool) (*CA, error) {
	block, rest := pem.Decode(p.Certificate)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, errors.New("the CA's certificate is not a certificate in PEM")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("the CA's certificate cannot be read: %w", err)
	}
	key, err := parseKey(p.Key)
	if err != nil {
		return nil, err
	}
	public, ok := cert.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	switch {
	case !ok || !public.Equal(key.Public()):
		return nil, errors.New("the CA's key does not belong to its certificate")
	case !cert.IsCA:
		return nil, errors.New("the CA's certificate is not one of a CA (basic constraints)")
	case cert.KeyUsage&x509.KeyUsageCertSign == 0:
		return nil, errors.New("the CA's certificate does not allow signing certificates (key usage certSign)")
	case cert.KeyUsage&x509.KeyUsageKeyAgreement != 0:
		return nil, errors.New("the CA's certificate allows key agreement, which one of a CA must not")
	case !selfSigned && vouchesForItself(cert):
		return nil, errors.New("the CA vouches for itself: provide an intermediate CA, or set insecureAllowSelfSigned")
	}
	ca := &CA{
		Certificate: cert, key: key, Fingerprint: sha256.Sum256(cert.Raw),
		PEM: encodeCertificate(cert.Raw),
	}
	for {
		if block, rest = pem.Decode(bytes.TrimSpace(rest)); block == nil {
			return ca, nil
		}
		if c, err := x509.ParseCertificate(block.Bytes); block.Type == "CERTIFICATE" && err == nil && c.IsCA {
			ca.with = append(ca.with, c)
		}
	}
}

func parseKey(text []byte) (crypto.Signer, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("the CA's key is not in PEM")
	}
	var key any
	var err error
	switch block.Type {
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	default:
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	}
	if err != nil {
		return nil, errors.New("the CA's key cannot be read: use PKCS #8, PKCS #1 or SEC 1 without a password")
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, errors.New("the CA's key cannot sign")
	}
	return signer, nil
}

// Leaf is the certificate of one proxy.
type Leaf struct {
	Pair
	SpiffeID  string
	CA        [32]byte // that issued it
	NotBefore time.Time
	NotAfter  time.Time
}

// Issue makes a certificate for a SPIFFE ID, with a new key, that is valid from
// now on for the time given or as long as the CA is.
func (ca *CA) Issue(spiffeID string, validity time.Duration, now time.Time) (*Leaf, error) {
	uri, err := url.Parse(spiffeID)
	if err != nil {
		return nil, err
	}
	if now.After(ca.Certificate.NotAfter) {
		return nil, fmt.Errorf("the CA expired at %s: replace it", ca.Certificate.NotAfter.UTC().Format(time.RFC3339))
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := serialNumber()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial, URIs: []*url.URL{uri},
		NotBefore: now.Add(-backdate), NotAfter: now.Add(validity),
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment | x509.KeyUsageKeyAgreement,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if template.NotAfter.After(ca.Certificate.NotAfter) {
		template.NotAfter = ca.Certificate.NotAfter
	}
	template.NotAfter = template.NotAfter.Truncate(time.Second) // as it is encoded
	der, err := x509.CreateCertificate(rand.Reader, template, ca.Certificate, key.Public(), ca.key)
	if err != nil {
		return nil, fmt.Errorf("the CA cannot sign: %w", err)
	}
	pair, err := encodePair(der, key)
	if err != nil {
		return nil, err
	}
	return &Leaf{
		Pair: pair, SpiffeID: spiffeID, CA: ca.Fingerprint,
		NotBefore: now, NotAfter: template.NotAfter,
	}, nil
}
