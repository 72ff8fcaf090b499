package auth

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"iter"
	"math/big"
	"strconv"
	"strings"
	"sync"

	systemv1 "github.com/atoll-mesh/atoll/api/kuma/system/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// Types of resources that hold keys and revocations.
const (
	secretType       resource.Type = "Secret"
	globalSecretType resource.Type = "GlobalSecret"
)

// Reader is one moment of the resources, such as a *view.Snapshot.
type Reader interface {
	Get(id resource.ID) *resource.Object
	List(t resource.Type, mesh string) iter.Seq[*resource.Object]
}

// Keys is a family of signing keys: those of one kind of token, and for
// dataplane tokens of one mesh. They are secrets whose names share a prefix and
// end in the key's id.
type Keys struct {
	Mesh    string // empty: the keys are GlobalSecrets
	Prefix  string // of secrets with private keys, without final dash
	Public  string // of secrets with public keys; empty: there are none
	revoked string
}

// UserKeys are the keys of user tokens. They never leave their control plane.
func UserKeys() Keys {
	return Keys{Prefix: "user-token-signing-key", revoked: "user-token-revocations"}
}

// ZoneKeys are the keys of zone tokens: the private ones are the global's,
// zones have the public halves.
func ZoneKeys() Keys {
	return Keys{
		Prefix: "zone-token-signing-key", Public: "zone-token-signing-public-key",
		revoked: "zone-token-revocations",
	}
}

// DataplaneKeys are the keys of a mesh's dataplane tokens. A zone that received
// them from an Atoll global has the public halves only.
func DataplaneKeys(mesh string) Keys {
	return Keys{
		Mesh: mesh, Prefix: "dataplane-token-signing-key-" + mesh, Public: "dataplane-token-signing-public-key-" + mesh,
		revoked: "dataplane-token-revocations-" + mesh,
	}
}

// ID is the secret that holds the private key with this id.
func (k Keys) ID(kid string) resource.ID { return k.id(k.Prefix, kid) }

// First is the secret to create when a family has no key yet.
func (k Keys) First() resource.ID { return k.ID("1") }

// PublicName turns the name of a secret with a private key of this family into
// the name for its public half; ok is false for every other name.
func (k Keys) PublicName(name string) (public string, ok bool) {
	kid, ok := k.kid(name)
	if !ok || k.Public == "" {
		return "", false
	}
	return k.id(k.Public, kid).Name, true
}

func (k Keys) id(prefix, kid string) resource.ID {
	id := resource.ID{Type: globalSecretType, Mesh: k.Mesh, Name: prefix + "-" + kid}
	if k.Mesh != "" {
		id.Type = secretType
	}
	if kid == "0" { // keys from before they had ids
		id.Name = prefix
	}
	return id
}

// kid is the id of the key that a secret of this name would hold.
func (k Keys) kid(name string) (string, bool) {
	if name == k.Prefix {
		return "0", true
	}
	kid, ok := strings.CutPrefix(name, k.Prefix+"-")
	if !ok || kid == "" || strings.Trim(kid, "0123456789") != "" {
		return "", false
	}
	return kid, true
}

// newest returns the signing key with the highest numeric id.
func (k Keys) newest(r Reader) (kid string, secret *resource.Object) {
	t := globalSecretType
	if k.Mesh != "" {
		t = secretType
	}
	var highest uint64
	for o := range r.List(t, k.Mesh) {
		id, ok := k.kid(o.Name)
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(id, 10, 64)
		if err == nil && (secret == nil || n > highest) {
			highest, kid, secret = n, id, o
		}
	}
	return kid, secret
}

// SecretData is the content of a Secret or GlobalSecret, nil for nil.
func SecretData(o *resource.Object) []byte {
	if o == nil {
		return nil
	}
	s, ok := o.Spec.(*systemv1.Secret)
	if !ok {
		return nil
	}
	return s.GetData().GetValue()
}

// GenerateKey makes a signing key: RSA of 2048 bits as PEM (PKCS#1).
func GenerateKey() ([]byte, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}), nil
}

// PublicKey returns the public half of a private key, as PEM (PKCS#1).
func PublicKey(private []byte) ([]byte, error) {
	key, err := parsePrivate(private)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "RSA PUBLIC KEY", Bytes: x509.MarshalPKCS1PublicKey(&key.PublicKey)}), nil
}

// parsePrivate reads PEM, or DER as early versions stored it.
func parsePrivate(b []byte) (*rsa.PrivateKey, error) {
	der := b
	if block, _ := pem.Decode(b); block != nil {
		der = block.Bytes
	}
	key, err := x509.ParsePKCS1PrivateKey(der)
	if err == nil {
		return key, nil
	}
	if other, err := x509.ParsePKCS8PrivateKey(der); err == nil {
		if key, ok := other.(*rsa.PrivateKey); ok {
			return key, nil
		}
	}
	return nil, errors.New("not an RSA private key: expected PEM or DER of PKCS#1")
}

func parsePublic(b []byte) (*rsa.PublicKey, error) {
	der := b
	if block, _ := pem.Decode(b); block != nil {
		der = block.Bytes
	}
	key, err := x509.ParsePKCS1PublicKey(der)
	if err == nil {
		return key, nil
	}
	if other, err := x509.ParsePKIXPublicKey(der); err == nil {
		if key, ok := other.(*rsa.PublicKey); ok {
			return key, nil
		}
	}
	return nil, errors.New("not an RSA public key: expected PEM or DER of PKCS#1")
}

// keyCache keeps parsed keys by their bytes, so that a token costs one
// verification and no parsing.
type keyCache struct {
	mu      sync.Mutex
	private map[string]*rsa.PrivateKey
	public  map[string]*rsa.PublicKey
}

// maxParsedKeys bounds the cache; rotated keys are forgotten all at once.
const maxParsedKeys = 1024

func (c *keyCache) privateKey(b []byte) (*rsa.PrivateKey, error) {
	return cached(&c.mu, &c.private, b, parsePrivate)
}

func (c *keyCache) publicKey(b []byte) (*rsa.PublicKey, error) {
	return cached(&c.mu, &c.public, b, parsePublic)
}

func cached[K any](mu *sync.Mutex, m *map[string]*K, b []byte, parse func([]byte) (*K, error)) (*K, error) {
	mu.Lock()
	defer mu.Unlock()
	if k, ok := (*m)[string(b)]; ok {
		return k, nil
	}
	k, err := parse(b)
	if err != nil {
		return nil, err
	}
	if *m == nil || len(*m) >= maxParsedKeys {
		*m = map[string]*K{}
	}
	(*m)[string(b)] = k
	return k, nil
}

// verificationKey finds the public key with that id in the secrets.
func (k Keys) verificationKey(r Reader, c *keyCache, kid string) (*rsa.PublicKey, error) {
	if o := r.Get(k.id(k.Prefix, kid)); o != nil {
		key, err := c.privateKey(SecretData(o))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", o.ID, err)
		}
		return &key.PublicKey, nil
	}
	if k.Public != "" {
		if o := r.Get(k.id(k.Public, kid)); o != nil {
			key, err := c.publicKey(SecretData(o))
			if err != nil {
				return nil, fmt.Errorf("%s: %w", o.ID, err)
			}
			return key, nil
		}
	}
	return nil, fmt.Errorf("no key %s with id %q is known here", k.Prefix, kid)
}

// isRevoked reports whether the list of revoked ids holds this one. Lists of
// dataplane tokens are read from the mesh and from the global secrets, because
// both places have been documented.
func (k Keys) isRevoked(r Reader, jti string) bool {
	ids := []resource.ID{{Type: globalSecretType, Name: k.revoked}}
	if k.Mesh != "" {
		ids = append(ids, resource.ID{Type: secretType, Mesh: k.Mesh, Name: k.revoked})
	}
	for _, id := range ids {
		for s := range strings.SplitSeq(string(SecretData(r.Get(id))), ",") {
			if s = strings.TrimSpace(s); s != "" && s == jti {
				return true
			}
		}
	}
	return false
}

// sane rejects keys too small or odd to trust, however they were configured.
func sane(k *rsa.PublicKey) error {
	if k.N.BitLen() < 2048 || k.E < 3 || k.N.Cmp(big.NewInt(0)) <= 0 {
		return fmt.Errorf("RSA key of %d bits is too weak: use 2048 or more", k.N.BitLen())
	}
	return nil
}
