package auth

import (
	"cmp"
	"crypto/rsa"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
)

// leeway is how far clocks may differ.
const leeway = 5 * time.Second

// DefaultValidity is how long tokens live when nobody says.
const DefaultValidity = 87600 * time.Hour

// Errors that callers tell apart; all are wrapped with details.
var (
	// ErrInvalidToken: the token does not prove anything (HTTP 401).
	ErrInvalidToken = errors.New("invalid token")
	// ErrNoSigningKey: there is no private key to sign with here (HTTP 404).
	ErrNoSigningKey = errors.New("there is no signing key")
	// ErrIssuerDisabled: tokens of this kind are issued elsewhere (HTTP 400).
	ErrIssuerDisabled = errors.New("issuing tokens of this kind is disabled in this control plane")
)

// UserClaims are the claims of a user token.
type UserClaims struct {
	Name   string
	Groups []string
	jwt.RegisteredClaims
}

// DataplaneClaims are the claims of a dataplane token. Each that is set must
// hold for the Dataplane that uses the token.
type DataplaneClaims struct {
	Name     string
	Mesh     string
	Tags     map[string][]string
	Type     string
	Workload string
	jwt.RegisteredClaims
}

// ZoneClaims are the claims of a zone token.
type ZoneClaims struct {
	Zone  string
	Scope []string
	jwt.RegisteredClaims
}

// ScopeControlPlane lets a zone's control plane use a zone token for KDS.
const ScopeControlPlane = "cp"

// StaticKey is a public key from the configuration.
type StaticKey struct {
	KID  string
	Mesh string // of dataplane tokens; empty: every mesh
	Key  []byte // PEM or DER
}

// TokenConfig says how tokens of one kind are issued and validated.
type TokenConfig struct {
	DisableIssuer bool
	IgnoreSecrets bool // validate with PublicKeys only
	PublicKeys    []StaticKey
}

// Config makes Tokens.
type Config struct {
	// Snapshot returns the newest moment of the resources.
	Snapshot func() Reader
	// Now is the clock; nil is time.Now.
	Now func() time.Time
	// Used is told about every token that is presented. It must not block. Nil:
	// nobody wants to know.
	Used func(Use)

	User, Dataplane, Zone TokenConfig
}

// Tokens issues and validates tokens. It is safe for concurrent use, and sees
// new keys and revocations with the next snapshot.
type Tokens struct {
	cfg   Config
	cache keyCache
}

// NewTokens checks the configured keys.
func NewTokens(cfg Config) (*Tokens, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	t := &Tokens{cfg: cfg}
	for _, c := range []TokenConfig{cfg.User, cfg.Dataplane, cfg.Zone} {
		for _, k := range c.PublicKeys {
			key, err := t.cache.publicKey(k.Key)
			if err == nil {
				err = sane(key)
			}
			if err != nil {
				return nil, fmt.Errorf("public key with kid %q: %w", k.KID, err)
			}
		}
	}
	return t, nil
}

// IssueUser signs a user token.
func (t *Tokens) IssueUser(c UserClaims, validFor time.Duration) (string, error) {
	c.RegisteredClaims = t.registered(validFor)
	return t.issue(t.cfg.User, UserKeys(), c)
}

// IssueDataplane signs a dataplane token; c.Mesh says with whose key.
func (t *Tokens) IssueDataplane(c DataplaneClaims, validFor time.Duration) (string, error) {
	c.RegisteredClaims = t.registered(validFor)
	return t.issue(t.cfg.Dataplane, DataplaneKeys(c.Mesh), c)
}

// IssueZone signs a zone token.
func (t *Tokens) IssueZone(c ZoneClaims, validFor time.Duration) (string, error) {
	c.RegisteredClaims = t.registered(validFor)
	return t.issue(t.cfg.Zone, ZoneKeys(), c)
}

func (t *Tokens) registered(validFor time.Duration) jwt.RegisteredClaims {
	now := t.cfg.Now()
	since := jwt.NewNumericDate(now.Add(-leeway))
	return jwt.RegisteredClaims{
		ID: uuid.NewString(), IssuedAt: since, NotBefore: since,
		ExpiresAt: jwt.NewNumericDate(now.Add(validFor)),
	}
}

func (t *Tokens) issue(c TokenConfig, keys Keys, claims jwt.Claims) (string, error) {
	if c.DisableIssuer {
		return "", ErrIssuerDisabled
	}
	kid, secret := keys.newest(t.cfg.Snapshot())
	if secret == nil {
		return "", fmt.Errorf("%w: no secret is named %s-<number>; in a federated zone, issue the token at its global", ErrNoSigningKey, keys.Prefix)
	}
	key, err := t.cache.privateKey(SecretData(secret))
	if err != nil {
		return "", fmt.Errorf("%s: %w", secret.ID, err)
	}
	return Sign(key, kid, claims)
}

// Sign makes a token with a key that is at hand, as offline issuing does.
func Sign(key *rsa.PrivateKey, kid string, claims jwt.Claims) (string, error) {
	token := jwt.NewWithClaims(jwt.SigningMethodRS256, claims)
	token.Header["kid"] = kid
	return token.SignedString(key)
}

// User validates a user token and says whose it is.
func (t *Tokens) User(token string) (User, error) {
	var c UserClaims
	err := t.validate(t.cfg.User, UserKeys(), token, &c, &c.RegisteredClaims)
	if err == nil && c.Name == "" {
		err = fmt.Errorf("%w: claim Name is missing", ErrInvalidToken)
	}
	t.used(TokenUser, c.Name, &c.RegisteredClaims, err)
	if err != nil {
		return User{}, err
	}
	groups := slices.Clone(c.Groups)
	if !slices.Contains(groups, GroupAuthenticated) {
		groups = append(groups, GroupAuthenticated)
	}
	return User{Name: c.Name, Groups: groups}, nil
}

// Zone validates a zone token.
func (t *Tokens) Zone(token string) (*ZoneClaims, error) {
	var c ZoneClaims
	err := t.validate(t.cfg.Zone, ZoneKeys(), token, &c, &c.RegisteredClaims)
	if err == nil && c.Zone == "" {
		err = fmt.Errorf("%w: claim Zone is missing", ErrInvalidToken)
	}
	t.used(TokenZone, c.Zone, &c.RegisteredClaims, err)
	if err != nil {
		return nil, err
	}
	return &c, nil
}

// Dataplane validates a dataplane token against the keys of a mesh. Whether it
// fits a Dataplane is another question: see CheckDataplane.
func (t *Tokens) Dataplane(token, mesh string) (*DataplaneClaims, error) {
	var c DataplaneClaims
	err := t.validate(t.cfg.Dataplane, DataplaneKeys(mesh), token, &c, &c.RegisteredClaims)
	t.used(TokenDataplane, strings.TrimSuffix(mesh+"/"+cmp.Or(c.Name, c.Workload), "/"), &c.RegisteredClaims, err)
	if err != nil {
		return nil, err
	}
	return &c, nil
}

func (t *Tokens) used(kind, subject string, c *jwt.RegisteredClaims, err error) {
	if t.cfg.Used == nil {
		return
	}
	u := Use{Kind: kind, Err: err}
	if err == nil {
		u.ID, u.Subject = c.ID, subject
		if c.ExpiresAt != nil {
			u.Expires = c.ExpiresAt.Time
		}
	}
	t.cfg.Used(u)
}

// maxToken bounds what is parsed before its signature is known.
const maxToken = 64 << 10

func (t *Tokens) validate(c TokenConfig, keys Keys, token string, claims jwt.Claims, reg *jwt.RegisteredClaims) error {
	if len(token) > maxToken {
		return fmt.Errorf("%w: longer than %d bytes", ErrInvalidToken, maxToken)
	}
	snap := t.cfg.Snapshot()
	parser := jwt.NewParser(
		jwt.WithValidMethods([]string{jwt.SigningMethodRS256.Alg()}),
		jwt.WithLeeway(leeway),
		jwt.WithTimeFunc(t.cfg.Now),
	)
	_, err := parser.ParseWithClaims(token, claims, func(tok *jwt.Token) (any, error) {
		kid, ok := tok.Header["kid"].(string)
		if !ok {
			return nil, errors.New("header kid is missing or no string")
		}
		return t.key(c, keys, snap, kid)
	})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrInvalidToken, err)
	}
	if keys.isRevoked(snap, reg.ID) {
		return fmt.Errorf("%w: it was revoked (jti %s)", ErrInvalidToken, reg.ID)
	}
	return nil
}

func (t *Tokens) key(c TokenConfig, keys Keys, snap Reader, kid string) (*rsa.PublicKey, error) {
	for _, k := range c.PublicKeys {
		if k.KID == kid && (k.Mesh == "" || k.Mesh == keys.Mesh) {
			return t.cache.publicKey(k.Key)
		}
	}
	if c.IgnoreSecrets {
		return nil, fmt.Errorf("no public key with kid %q is configured", kid)
	}
	key, err := keys.verificationKey(snap, &t.cache, kid)
	if err == nil {
		err = sane(key)
	}
	return key, err
}
