package sealed

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
)

// Keys are key-encryption keys by id. One of them encrypts, all decrypt. The
// zero value and nil have none.
type Keys struct {
	active string // id; empty: nothing is encrypted
	byID   map[string]cipher.AEAD
}

const keyBytes = 32 // AES-256

var keyID = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// ParseKeys reads a list of keys, separated by lines or commas, each "id:key" or
// only the key, which then has a hash of itself as its id. A key is 32 bytes in
// base64. The first key encrypts; to rotate, put a new one before it. Lines that
// begin with # are comments. An empty list is no error.
func ParseKeys(text []byte) (*Keys, error) {
	k := &Keys{byID: map[string]cipher.AEAD{}}
	n := 0
	for _, line := range bytes.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == ',' || r == '\r' }) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		n++
		id, encoded, named := strings.Cut(string(line), ":")
		if !named {
			id, encoded = "", id
		}
		raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(encoded))
		if err != nil || len(raw) != keyBytes { // never shown: it may be a key with a typing error
			return nil, fmt.Errorf("encryption key %d must be %d bytes in base64, optionally after an id and a colon; make one with: openssl rand -base64 %d", n, keyBytes, keyBytes)
		}
		if !named {
			sum := sha256.Sum256(raw)
			id = hex.EncodeToString(sum[:6])
		}
		if !keyID.MatchString(id) {
			return nil, fmt.Errorf("encryption key %d: its id must be 1 to 64 letters, digits, '.', '_' or '-'", n)
		}
		if k.byID[id] != nil {
			return nil, fmt.Errorf("encryption key %d: the id %q is listed twice", n, id)
		}
		block, err := aes.NewCipher(raw)
		if err != nil {
			return nil, err
		}
		if k.byID[id], err = cipher.NewGCM(block); err != nil {
			return nil, err
		}
		if k.active == "" {
			k.active = id
		}
	}
	return k, nil
}

// Active is the id of the key that encrypts, empty when there is none.
func (k *Keys) Active() string {
	if k == nil {
		return ""
	}
	return k.active
}

func (k *Keys) get(id string) cipher.AEAD {
	if k == nil {
		return nil
	}
	return k.byID[id]
}

// Ring is where keys come from: given once, or a file that is read again when it
// was replaced. It is safe for concurrent use.
type Ring struct {
	path string

	mu      sync.Mutex
	keys    *Keys
	content []byte
}

// NewRing holds the keys of a text, which may be empty.
func NewRing(text []byte) (*Ring, error) {
	keys, err := ParseKeys(text)
	if err != nil {
		return nil, err
	}
	return &Ring{keys: keys}, nil
}

// NewFileRing holds the keys of a file, which must have one at least.
func NewFileRing(path string) (*Ring, error) {
	r := &Ring{path: path}
	if _, err := r.Reload(); err != nil {
		return nil, err
	}
	return r, nil
}

// MakeFile writes a new key to a file that must not exist, for its owner only, and
// makes it durable.
func MakeFile(path string) error {
	raw := make([]byte, keyBytes)
	if _, err := rand.Read(raw); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	// Under another name first: half a key would be worse than none.
	temp := path + ".new"
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "# Encrypts the secrets in the database beside it. Without this file they are lost.\n%s\n", base64.StdEncoding.EncodeToString(raw))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Link(temp, path); err != nil { // unlike a rename it replaces nothing
		return errors.Join(err, os.Remove(temp))
	}
	if err := os.Remove(temp); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// Keys are those in use now.
func (r *Ring) Keys() *Keys {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.keys
}

// Reload reads the file again and tells whether it says something new. When it
// cannot be read, or is wrong, the keys stay as they are.
func (r *Ring) Reload() (changed bool, err error) {
	if r.path == "" {
		return false, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	b, err := os.ReadFile(r.path)
	if err != nil {
		return false, fmt.Errorf("encryption keys: %w", err)
	}
	if r.keys != nil && bytes.Equal(b, r.content) {
		return false, nil
	}
	keys, err := ParseKeys(b)
	if err == nil && keys.active == "" {
		err = errors.New("there is no key in it")
	}
	if err != nil {
		return false, fmt.Errorf("encryption keys in %s: %w", r.path, err)
	}
	r.keys, r.content = keys, b
	return true, nil
}
