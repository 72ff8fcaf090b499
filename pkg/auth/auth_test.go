package auth

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"iter"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"google.golang.org/protobuf/types/known/wrapperspb"

	systemv1 "github.com/atoll-mesh/atoll/api/kuma/system/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// secrets is a Reader over a map.
type secrets map[resource.ID][]byte

func (s secrets) Get(id resource.ID) *resource.Object {
	data, ok := s[id]
	if !ok {
		return nil
	}
	o, err := secretKinds().ByType(id.Type).New(resource.Meta{ID: id}, &systemv1.Secret{Data: wrapperspb.Bytes(data)}, nil)
	if err != nil {
		panic(err)
	}
	return o
}

func (s secrets) List(t resource.Type, mesh string) iter.Seq[*resource.Object] {
	return func(yield func(*resource.Object) bool) {
		for id := range s {
			if id.Type == t && (mesh == "" || id.Mesh == mesh) && !yield(s.Get(id)) {
				return
			}
		}
	}
}

var secretKinds = sync.OnceValue(func() *resource.Kinds { return resource.NewKinds(kind.All()...) })

// Two keys, made once because that is slow.
var keys = sync.OnceValue(func() [2][]byte {
	var out [2][]byte
	for i := range out {
		var err error
		if out[i], err = GenerateKey(); err != nil {
			panic(err)
		}
	}
	return out
})

func global(name string) resource.ID { return resource.ID{Type: "GlobalSecret", Name: name} }
func meshed(mesh, name string) resource.ID {
	return resource.ID{Type: "Secret", Mesh: mesh, Name: name}
}

func newTokens(t testing.TB, s secrets, change func(*Config)) *Tokens {
	t.Helper()
	cfg := Config{Snapshot: func() Reader { return s }}
	if change != nil {
		change(&cfg)
	}
	tokens, err := NewTokens(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return tokens
}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func claimsOf(t *testing.T, token string) (header, claims map[string]any) {
	t.Helper()
	parts := strings.Split(token, ".")
	for i, into := range []*map[string]any{&header, &claims} {
		b := must[[]byte](t)(base64.RawURLEncoding.DecodeString(parts[i]))
		if err := json.Unmarshal(b, into); err != nil {
			t.Fatal(err)
		}
	}
	return header, claims
}

func TestUserToken(t *testing.T) {
	s := secrets{global("user-token-signing-key-1"): keys()[0]}
	tokens := newTokens(t, s, nil)
	token := must[string](t)(tokens.IssueUser(UserClaims{Name: "jane", Groups: []string{"team-a"}}, time.Hour))
	header, claims := claimsOf(t, token)
	if header["alg"] != "RS256" || header["kid"] != "1" {
		t.Errorf("header %v", header)
	}
	iat, nbf, exp := claims["iat"].(float64), claims["nbf"].(float64), claims["exp"].(float64)
	if iat != nbf || exp-iat != 3605 || claims["jti"] == "" || claims["Name"] != "jane" {
		t.Errorf("claims %v", claims)
	}
	u := must[User](t)(tokens.User(token))
	if u.Name != "jane" || !slices.Equal(u.Groups, []string{"team-a", GroupAuthenticated}) || u.IsAnonymous() {
		t.Errorf("user %v", u)
	}
	if u.String() != "jane/team-a,mesh-system:authenticated" {
		t.Errorf("named %s", u)
	}

	// Rotation: the highest number signs, all verify until they are deleted.
	s[global("user-token-signing-key-2")] = keys()[1]
	s[global("user-token-signing-key-10")] = keys()[1]
	newer := must[string](t)(tokens.IssueUser(UserClaims{Name: "joe"}, time.Hour))
	if header, _ := claimsOf(t, newer); header["kid"] != "10" {
		t.Errorf("kid %v", header["kid"])
	}
	must[User](t)(tokens.User(token))
	must[User](t)(tokens.User(newer))
	delete(s, global("user-token-signing-key-1"))
	if _, err := tokens.User(token); !errors.Is(err, ErrInvalidToken) {
		t.Errorf("the key is gone, but: %v", err)
	}

	// Revocation.
	_, claims = claimsOf(t, newer)
	s[global("user-token-revocations")] = []byte("other," + claims["jti"].(string) + "\n")
	if _, err := tokens.User(newer); !errors.Is(err, ErrInvalidToken) || !strings.Contains(err.Error(), "revoked") {
		t.Errorf("it is revoked, but: %v", err)
	}
}

func TestInvalidTokens(t *testing.T) {
	s := secrets{global("user-token-signing-key-1"): keys()[0], global("zone-token-signing-key-1"): keys()[1]}
	tokens := newTokens(t, s, nil)
	key := must[*rsa.PrivateKey](t)(parsePrivate(keys()[0]))
	now := time.Now()
	claims := func(change func(*UserClaims)) UserClaims {
		c := UserClaims{Name: "jane", RegisteredClaims: jwt.RegisteredClaims{
			ID: "id", NotBefore: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(now.Add(time.Hour)),
		}}
		if change != nil {
			change(&c)
		}
		return c
	}
	sign := func(kid string, c UserClaims) string { return must[string](t)(Sign(key, kid, c)) }
	good := sign("1", claims(nil))
	must[User](t)(tokens.User(good))
	parts := strings.Split(good, ".")
	hs := jwt.NewWithClaims(jwt.SigningMethodHS256, claims(nil))
	hs.Header["kid"] = "1"
	none := jwt.NewWithClaims(jwt.SigningMethodNone, claims(nil))
	none.Header["kid"] = "1"
	noKid := jwt.NewWithClaims(jwt.SigningMethodRS256, claims(nil))
	numberKid := jwt.NewWithClaims(jwt.SigningMethodRS256, claims(nil))
	numberKid.Header["kid"] = 1
	pss := jwt.NewWithClaims(jwt.SigningMethodPS256, claims(nil))
	pss.Header["kid"] = "1"
	for name, token := range map[string]string{
		"empty":          "",
		"no token":       "garbage",
		"no signature":   parts[0] + "." + parts[1] + ".",
		"other payload":  parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(`{"Name":"root"}`)) + "." + parts[2],
		"expired":        sign("1", claims(func(c *UserClaims) { c.ExpiresAt = jwt.NewNumericDate(now.Add(-6 * time.Second)) })),
		"not yet":        sign("1", claims(func(c *UserClaims) { c.NotBefore = jwt.NewNumericDate(now.Add(time.Minute)) })),
		"unknown kid":    sign("2", claims(nil)),
		"other family":   sign("../zone-token-signing-key-1", claims(nil)),
		"no name":        sign("1", claims(func(c *UserClaims) { c.Name = "" })),
		"HMAC":           must[string](t)(hs.SignedString([]byte("secret"))),
		"HMAC of public": must[string](t)(hs.SignedString(must[[]byte](t)(PublicKey(keys()[0])))),
		"none":           must[string](t)(none.SignedString(jwt.UnsafeAllowNoneSignatureType)),
		"PSS":            must[string](t)(pss.SignedString(key)),
		"no kid":         must[string](t)(noKid.SignedString(key)),
		"kid no string":  must[string](t)(numberKid.SignedString(key)),
		"a zone token":   must[string](t)(tokens.IssueZone(ZoneClaims{Zone: "east"}, time.Hour)),
		"too long":       strings.Repeat("a", maxToken+1),
	} {
		if u, err := tokens.User(token); !errors.Is(err, ErrInvalidToken) {
			t.Errorf("%s: %v, %v", name, u, err)
		}
	}
	// Clocks may differ by five seconds.
	must[User](t)(tokens.User(sign("1", claims(func(c *UserClaims) { c.ExpiresAt = jwt.NewNumericDate(now.Add(-2 * time.Second)) }))))
	must[User](t)(tokens.User(sign("1", claims(func(c *UserClaims) { c.NotBefore = jwt.NewNumericDate(now.Add(3 * time.Second)) }))))
}

func TestIssuing(t *testing.T) {
	tokens := newTokens(t, secrets{}, nil)
	if _, err := tokens.IssueUser(UserClaims{Name: "x"}, time.Hour); !errors.Is(err, ErrNoSigningKey) {
		t.Errorf("without key: %v", err)
	}
	tokens = newTokens(t, secrets{global("zone-token-signing-public-key-1"): must[[]byte](t)(PublicKey(keys()[0]))}, nil)
	if _, err := tokens.IssueZone(ZoneClaims{Zone: "x"}, time.Hour); !errors.Is(err, ErrNoSigningKey) {
		t.Errorf("with the public half only: %v", err)
	}
	off := func(c *Config) {
		c.User.DisableIssuer, c.Zone.DisableIssuer, c.Dataplane.DisableIssuer = true, true, true
	}
	tokens = newTokens(t, secrets{global("user-token-signing-key-1"): keys()[0]}, off)
	if _, err := tokens.IssueUser(UserClaims{Name: "x"}, time.Hour); !errors.Is(err, ErrIssuerDisabled) {
		t.Errorf("disabled: %v", err)
	}
	tokens = newTokens(t, secrets{global("user-token-signing-key-1"): []byte("no key")}, nil)
	if _, err := tokens.IssueUser(UserClaims{Name: "x"}, time.Hour); err == nil || errors.Is(err, ErrNoSigningKey) {
		t.Errorf("broken key: %v", err)
	}
	// Keys from before they had numbers, and in DER.
	block := must[*rsa.PrivateKey](t)(parsePrivate(keys()[0]))
	tokens = newTokens(t, secrets{global("user-token-signing-key"): x509.MarshalPKCS1PrivateKey(block)}, nil)
	old := must[string](t)(tokens.IssueUser(UserClaims{Name: "x"}, time.Hour))
	if header, _ := claimsOf(t, old); header["kid"] != "0" {
		t.Errorf("kid %v", header["kid"])
	}
	must[User](t)(tokens.User(old))
}

func TestZoneToken(t *testing.T) {
	s := secrets{global("zone-token-signing-key-1"): keys()[0]}
	tokens := newTokens(t, s, nil)
	token := must[string](t)(tokens.IssueZone(ZoneClaims{Zone: "east", Scope: []string{"cp"}}, time.Hour))
	// A zone has the public half.
	there := newTokens(t, secrets{global("zone-token-signing-public-key-1"): must[[]byte](t)(PublicKey(keys()[0]))}, nil)
	for _, tk := range []*Tokens{tokens, there} {
		c := must[*ZoneClaims](t)(tk.Zone(token))
		if c.Zone != "east" || !slices.Equal(c.Scope, []string{"cp"}) {
			t.Errorf("claims %v", c)
		}
	}
	_, claims := claimsOf(t, token)
	s[global("zone-token-revocations")] = []byte(claims["jti"].(string))
	if _, err := tokens.Zone(token); !errors.Is(err, ErrInvalidToken) {
		t.Errorf("revoked: %v", err)
	}
}

func TestConfiguredKeys(t *testing.T) {
	key := must[*rsa.PrivateKey](t)(parsePrivate(keys()[0]))
	public := must[[]byte](t)(PublicKey(keys()[0]))
	c := DataplaneClaims{Name: "dp", Mesh: "a", RegisteredClaims: jwt.RegisteredClaims{ID: "x"}}
	token := must[string](t)(Sign(key, "offline", c))
	for name, tc := range map[string]struct {
		keys []StaticKey
		mesh string
		ok   bool
	}{
		"of the mesh":    {[]StaticKey{{KID: "offline", Mesh: "a", Key: public}}, "a", true},
		"of all meshes":  {[]StaticKey{{KID: "offline", Key: public}}, "a", true},
		"of another one": {[]StaticKey{{KID: "offline", Mesh: "b", Key: public}}, "a", false},
		"other kid":      {[]StaticKey{{KID: "1", Key: public}}, "a", false},
		"none":           {nil, "a", false},
	} {
		tokens := newTokens(t, secrets{meshed("a", "dataplane-token-signing-key-a-offline"): keys()[0]}, func(cfg *Config) {
			cfg.Dataplane = TokenConfig{PublicKeys: tc.keys, IgnoreSecrets: true}
		})
		if _, err := tokens.Dataplane(token, tc.mesh); (err == nil) != tc.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	weak := must[*rsa.PrivateKey](t)(rsa.GenerateKey(rand.Reader, 1024))
	for _, bad := range [][]byte{nil, []byte("no key"), x509.MarshalPKCS1PublicKey(&weak.PublicKey)} {
		if _, err := NewTokens(Config{User: TokenConfig{PublicKeys: []StaticKey{{KID: "1", Key: bad}}}}); err == nil {
			t.Errorf("key %q was accepted", bad)
		}
	}
}

func TestDataplaneToken(t *testing.T) {
	private := keys()[0]
	s := secrets{meshed("default", "dataplane-token-signing-key-default-1"): private, meshed("other", "dataplane-token-signing-key-other-1"): keys()[1]}
	tokens := newTokens(t, s, nil)
	issue := func(c DataplaneClaims) string { return must[string](t)(tokens.IssueDataplane(c, time.Hour)) }
	dp := &resource.Meta{ID: resource.ID{Type: "Dataplane", Mesh: "default", Name: "web-1"}, Labels: map[string]string{
		"team": "a", resource.LabelWorkload: "web",
	}}
	for name, c := range map[string]struct {
		token    string
		identity bool
		ok       bool
	}{
		"mesh only":               {issue(DataplaneClaims{Mesh: "default"}), false, true},
		"name":                    {issue(DataplaneClaims{Mesh: "default", Name: "web-1"}), false, true},
		"other name":              {issue(DataplaneClaims{Mesh: "default", Name: "web-2"}), false, false},
		"other mesh":              {issue(DataplaneClaims{Mesh: "other"}), false, false},
		"type":                    {issue(DataplaneClaims{Mesh: "default", Type: "dataplane"}), false, true},
		"other type":              {issue(DataplaneClaims{Mesh: "default", Type: "ingress"}), false, false},
		"tags":                    {issue(DataplaneClaims{Mesh: "default", Tags: map[string][]string{"team": {"b", "a"}}}), false, true},
		"other tag value":         {issue(DataplaneClaims{Mesh: "default", Tags: map[string][]string{"team": {"b"}}}), false, false},
		"other tag":               {issue(DataplaneClaims{Mesh: "default", Tags: map[string][]string{"tier": {"a"}}}), false, false},
		"workload":                {issue(DataplaneClaims{Mesh: "default", Workload: "web"}), true, true},
		"other workload":          {issue(DataplaneClaims{Mesh: "default", Workload: "db"}), false, false},
		"identity needs workload": {issue(DataplaneClaims{Mesh: "default"}), true, false},
		"garbage":                 {"garbage", false, false},
		"nothing":                 {"", false, false},
	} {
		if err := tokens.CheckDataplane(c.token, dp, c.identity); (err == nil) != c.ok || err != nil && !errors.Is(err, ErrInvalidToken) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := must[*DataplaneClaims](t)(tokens.Dataplane(issue(DataplaneClaims{Mesh: "default", Workload: "web"}), "default")).Fits(
		&resource.Meta{ID: dp.ID}, false); err == nil {
		t.Error("a token of a workload fits a Dataplane without one")
	}

	// In a zone, which has the public half.
	token := issue(DataplaneClaims{Mesh: "default"})
	there := newTokens(t, secrets{meshed("default", "dataplane-token-signing-public-key-default-1"): must[[]byte](t)(PublicKey(private))}, nil)
	if err := there.CheckDataplane(token, dp, false); err != nil {
		t.Error(err)
	}
	// Both places of the list of revoked tokens.
	_, claims := claimsOf(t, token)
	for _, id := range []resource.ID{global("dataplane-token-revocations-default"), meshed("default", "dataplane-token-revocations-default")} {
		s[id] = []byte(claims["jti"].(string) + ", x")
		if err := tokens.CheckDataplane(token, dp, false); err == nil {
			t.Errorf("revoked in %s, but accepted", id)
		}
		delete(s, id)
	}
	if err := tokens.CheckDataplane(token, dp, false); err != nil {
		t.Error(err)
	}
}

func TestKeyNames(t *testing.T) {
	for _, c := range []struct {
		keys     Keys
		name, to string
	}{
		{ZoneKeys(), "zone-token-signing-key-7", "zone-token-signing-public-key-7"},
		{ZoneKeys(), "zone-token-signing-key", "zone-token-signing-public-key"},
		{ZoneKeys(), "zone-token-signing-key-", ""},
		{ZoneKeys(), "zone-token-signing-key-x", ""},
		{ZoneKeys(), "user-token-signing-key-1", ""},
		{UserKeys(), "user-token-signing-key-1", ""},
		{DataplaneKeys("a"), "dataplane-token-signing-key-a-1", "dataplane-token-signing-public-key-a-1"},
		{DataplaneKeys("a"), "dataplane-token-signing-key-a-b-1", ""},
		{DataplaneKeys("a-1"), "dataplane-token-signing-key-a-1", "dataplane-token-signing-public-key-a-1"},
	} {
		if got, ok := c.keys.PublicName(c.name); got != c.to || ok != (c.to != "") {
			t.Errorf("%s: %s %v, want %q", c.name, got, ok, c.to)
		}
	}
	if id := DataplaneKeys("m").First(); id != meshed("m", "dataplane-token-signing-key-m-1") {
		t.Errorf("first key %s", id)
	}
}

// FuzzUser feeds garbage to where tokens of strangers arrive.
func FuzzUser(f *testing.F) {
	tokens := newTokens(f, secrets{global("user-token-signing-key-1"): keys()[0]}, nil)
	good, err := tokens.IssueUser(UserClaims{Name: "jane"}, time.Hour)
	if err != nil {
		f.Fatal(err)
	}
	other, err := Sign(must[*rsa.PrivateKey](f)(parsePrivate(keys()[1])), "1", UserClaims{Name: "eve"})
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range []string{"", "a.b.c", other, good[:len(good)-1], "eyJhbGciOiJub25lIn0.e30."} {
		f.Add(s)
	}
	signed := good[:strings.LastIndexByte(good, '.')]
	f.Fuzz(func(t *testing.T, token string) {
		u, err := tokens.User(token)
		if err != nil {
			if !errors.Is(err, ErrInvalidToken) {
				t.Errorf("%q: %v", token, err)
			}
			return
		}
		// Nothing but what was signed may pass, in whichever spelling of base64.
		if !strings.HasPrefix(token, signed) {
			t.Errorf("%q passed as %v", token, u)
		}
	})
}
