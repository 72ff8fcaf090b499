package sealed

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/atoll-mesh/atoll/pkg/resource"
)

// A sealed value is
//
//	00 "atoll" 01 | length of id | id | nonce | wrapped data key | nonce | text
//
// where the wrapped key and the text each end in a tag of AES-256-GCM. Every
// value has a data key of its own. What a value belongs to is authenticated with
// it, so that nobody can move one secret to the place of another in the database.
// No clear value begins like this: 0 is no field number of protobuf and no JSON.
var magic = []byte("\x00atoll\x01")

const (
	nonceBytes   = 12
	tagBytes     = 16
	wrappedBytes = keyBytes + tagBytes
)

// Errors of values that cannot be opened.
var (
	// ErrNoKey: the key that a value was sealed with is not configured.
	ErrNoKey = errors.New("encryption key is missing")
	// ErrDamaged: the value, or its key, is not what it was.
	ErrDamaged = errors.New("sealed value cannot be opened")
)

// isSealed tells whether a stored value is sealed, and with which key.
func isSealed(b []byte) (id string, ok bool) {
	rest, ok := bytes.CutPrefix(b, magic)
	if !ok {
		return "", false
	}
	if len(rest) == 0 || len(rest) < 1+int(rest[0]) {
		return "", true
	}
	return string(rest[1 : 1+int(rest[0])]), true
}

// part names what of a resource a value is.
type part string

const (
	spec   part = "spec"
	status part = "status"
)

func binding(id resource.ID, p part) []byte {
	return fmt.Appendf(nil, "%q %q %q %s", id.Type, id.Mesh, id.Name, p)
}

// seal encrypts a value with the active key.
func (k *Keys) seal(id resource.ID, p part, clear []byte) ([]byte, error) {
	dataKey := make([]byte, keyBytes)
	if _, err := rand.Read(dataKey); err != nil {
		return nil, err
	}
	data, err := gcm(dataKey)
	if err != nil {
		return nil, err
	}
	out := append(bytes.Clone(magic), byte(len(k.active)))
	out = append(out, k.active...)
	aad := binding(id, p)
	for _, s := range []struct {
		with cipher.AEAD
		what []byte
	}{{k.byID[k.active], dataKey}, {data, clear}} {
		nonce := make([]byte, nonceBytes)
		if _, err := rand.Read(nonce); err != nil {
			return nil, err
		}
		out = append(out, nonce...)
		out = s.with.Seal(out, nonce, s.what, aad)
	}
	return out, nil
}

// open decrypts a sealed value.
func (k *Keys) open(id resource.ID, p part, b []byte) ([]byte, error) {
	keyID, _ := isSealed(b)
	wrap := k.get(keyID)
	if wrap == nil {
		return nil, fmt.Errorf("%s: %w: it is sealed with key %q, add that to the configured keys", id, ErrNoKey, keyID)
	}
	rest := b[len(magic)+1+len(keyID):]
	damaged := fmt.Errorf("%s: %w with key %q: the key is another one than then, or the database was changed", id, ErrDamaged, keyID)
	if len(rest) < nonceBytes+wrappedBytes+nonceBytes+tagBytes {
		return nil, damaged
	}
	aad := binding(id, p)
	dataKey, err := wrap.Open(nil, rest[:nonceBytes], rest[nonceBytes:nonceBytes+wrappedBytes], aad)
	if err != nil {
		return nil, damaged
	}
	data, err := gcm(dataKey)
	if err != nil {
		return nil, damaged
	}
	rest = rest[nonceBytes+wrappedBytes:]
	clear, err := data.Open(nil, rest[:nonceBytes], rest[nonceBytes:], aad)
	if err != nil {
		return nil, damaged
	}
	return clear, nil
}

func gcm(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}
