package auth

import (
	"crypto/tls"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestDirectLoopback(t *testing.T) {
	type headers map[string]string
	for name, c := range map[string]struct {
		peer, host string
		tls        bool
		headers    headers
		want       bool
	}{
		"curl":                      {"127.0.0.1:4242", "localhost:5681", false, nil, true},
		"address":                   {"127.0.0.1:4242", "127.0.0.1:5681", false, nil, true},
		"other loopback":            {"127.9.9.9:4242", "127.8.8.8", false, nil, true},
		"IPv6":                      {"[::1]:4242", "[::1]:5681", false, nil, true},
		"mapped":                    {"[::ffff:127.0.0.1]:4242", "localhost", false, nil, true},
		"trailing dot":              {"127.0.0.1:1", "localhost.:5681", false, nil, true},
		"upper case":                {"127.0.0.1:1", "LOCALHOST", false, nil, true},
		"remote peer":               {"10.0.0.1:4242", "localhost:5681", false, nil, false},
		"no peer":                   {"", "localhost:5681", false, nil, false},
		"rebound name":              {"127.0.0.1:1", "evil.example:5681", false, nil, false},
		"other address":             {"127.0.0.1:1", "10.0.0.1:5681", false, nil, false},
		"no host":                   {"127.0.0.1:1", "", false, nil, false},
		"host with user":            {"127.0.0.1:1", "x@localhost", false, nil, false},
		"host with path":            {"127.0.0.1:1", "localhost/x", false, nil, false},
		"host with fragment":        {"127.0.0.1:1", "localhost#", false, nil, false},
		"host with zone":            {"127.0.0.1:1", "[::1%25lo]", false, nil, false},
		"bad port":                  {"127.0.0.1:1", "localhost:x", false, nil, false},
		"large port":                {"127.0.0.1:1", "localhost:99999", false, nil, false},
		"empty port":                {"127.0.0.1:1", "localhost:", false, nil, false},
		"bare IPv6":                 {"127.0.0.1:1", "::1", false, nil, false},
		"Forwarded":                 {"127.0.0.1:1", "localhost", false, headers{"Forwarded": "for=1.2.3.4"}, false},
		"X-Forwarded-For":           {"127.0.0.1:1", "localhost", false, headers{"X-Forwarded-For": "127.0.0.1"}, false},
		"X-Real-IP":                 {"127.0.0.1:1", "localhost", false, headers{"X-Real-Ip": "127.0.0.1"}, false},
		"empty X-Forwarded-For":     {"127.0.0.1:1", "localhost", false, headers{"X-Forwarded-For": ""}, false},
		"same origin":               {"127.0.0.1:1", "localhost:5681", false, headers{"Sec-Fetch-Site": "same-origin"}, true},
		"typed by the user":         {"127.0.0.1:1", "localhost:5681", false, headers{"Sec-Fetch-Site": "none"}, true},
		"cross site":                {"127.0.0.1:1", "localhost:5681", false, headers{"Sec-Fetch-Site": "cross-site"}, false},
		"same site":                 {"127.0.0.1:1", "localhost:5681", false, headers{"Sec-Fetch-Site": "same-site"}, false},
		"own page":                  {"127.0.0.1:1", "localhost:5681", false, headers{"Origin": "http://localhost:5681"}, true},
		"own page, default port":    {"127.0.0.1:1", "localhost", false, headers{"Origin": "http://localhost:80"}, true},
		"own page, TLS":             {"127.0.0.1:1", "localhost", true, headers{"Origin": "https://localhost"}, true},
		"other port":                {"127.0.0.1:1", "localhost:5681", false, headers{"Origin": "http://localhost:3000"}, false},
		"other scheme's port":       {"127.0.0.1:1", "localhost", false, headers{"Origin": "https://localhost"}, false},
		"other host":                {"127.0.0.1:1", "localhost:5681", false, headers{"Origin": "http://127.0.0.1:5681"}, false},
		"page from elsewhere":       {"127.0.0.1:1", "localhost:5681", false, headers{"Origin": "https://evil.example"}, false},
		"opaque origin":             {"127.0.0.1:1", "localhost:5681", false, headers{"Origin": "null"}, false},
		"origin with path":          {"127.0.0.1:1", "localhost:5681", false, headers{"Origin": "http://localhost:5681/"}, false},
		"origin with query":         {"127.0.0.1:1", "localhost:5681", false, headers{"Origin": "http://localhost:5681?x"}, false},
		"origin with user":          {"127.0.0.1:1", "localhost:5681", false, headers{"Origin": "http://u@localhost:5681"}, false},
		"origin of another sort":    {"127.0.0.1:1", "localhost:5681", false, headers{"Origin": "file://localhost:5681"}, false},
		"origin with trailing dot":  {"127.0.0.1:1", "localhost:5681", false, headers{"Origin": "http://localhost.:5681"}, true},
		"empty origin, but present": {"127.0.0.1:1", "localhost:5681", false, headers{"Origin": ""}, false},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr, r.Host = c.peer, c.host
		if c.tls {
			r.TLS = &tls.ConnectionState{}
		}
		for k, v := range c.headers {
			r.Header.Set(k, v)
		}
		if got := IsDirectLoopback(r); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestAuthenticator(t *testing.T) {
	tokens := newTokens(t, secrets{global("user-token-signing-key-1"): keys()[0]}, nil)
	jane := must[string](t)(tokens.IssueUser(UserClaims{Name: "jane"}, time.Hour))
	request := func(local bool, header string) *http.Request {
		r := httptest.NewRequest("GET", "/meshes", nil)
		r.RemoteAddr, r.Host = "10.0.0.1:1", "cp:5681"
		if local {
			r.RemoteAddr, r.Host = "127.0.0.1:1", "localhost:5681"
		}
		if header != "" {
			r.Header.Set("Authorization", header)
		}
		return r
	}
	for name, c := range map[string]struct {
		a    Authenticator
		r    *http.Request
		want string
	}{
		"localhost":              {Authenticator{Tokens: tokens, LocalhostIsAdmin: true}, request(true, ""), AdminName},
		"localhost with token":   {Authenticator{Tokens: tokens, LocalhostIsAdmin: true}, request(true, "Bearer garbage"), AdminName},
		"localhost turned off":   {Authenticator{Tokens: tokens, LocalhostIsAdmin: false}, request(true, ""), AnonymousName},
		"token":                  {Authenticator{Tokens: tokens, LocalhostIsAdmin: true}, request(false, "Bearer "+jane), "jane"},
		"lower case":             {Authenticator{Tokens: tokens, LocalhostIsAdmin: true}, request(false, "bearer "+jane), "jane"},
		"no token":               {Authenticator{Tokens: tokens, LocalhostIsAdmin: true}, request(false, ""), AnonymousName},
		"other scheme":           {Authenticator{Tokens: tokens, LocalhostIsAdmin: true}, request(false, "Basic eDp5"), AnonymousName},
		"tokens are not in use":  {Authenticator{LocalhostIsAdmin: true}, request(false, "Bearer "+jane), AnonymousName},
		"bad token":              {Authenticator{Tokens: tokens, LocalhostIsAdmin: true}, request(false, "Bearer garbage"), "401"},
		"bad token, public page": {Authenticator{Tokens: tokens, LocalhostIsAdmin: true, SkipTokens: func(*http.Request) bool { return true }}, request(false, "Bearer garbage"), AnonymousName},
	} {
		got := ""
		h := c.a.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = UserFrom(r.Context()).Name }),
			func(_ http.ResponseWriter, _ *http.Request, err error) {
				if errors.Is(err, ErrInvalidToken) {
					got = "401"
				}
			})
		h.ServeHTTP(httptest.NewRecorder(), c.r)
		if got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
	if UserFrom(t.Context()).Name != AnonymousName {
		t.Error("without authentication a caller has a name")
	}
	for header, want := range map[string]string{"Bearer x": "x", "x": "x", " x ": "x", "": "", "Bearer ": "Bearer"} {
		if got := RawOrBearer(header); got != want {
			t.Errorf("%q gives %q", header, got)
		}
	}
}

func TestAccess(t *testing.T) {
	a := DefaultAccess()
	jane := User{Name: "jane", Groups: []string{GroupAuthenticated}}
	ops := User{Name: "joe", Groups: []string{"ops", GroupAuthenticated}}
	mesh, secret := secretKinds().ByType("Mesh"), secretKinds().ByType("Secret")
	tuned := DefaultAccess()
	tuned.AdminResources.Groups = append(tuned.AdminResources.Groups, "ops")
	open := DefaultAccess()
	open.AnonymousRead, open.AnonymousWrite = true, true
	reading := DefaultAccess()
	reading.AnonymousRead = true
	for name, c := range map[string]struct {
		err error
		ok  bool
	}{
		"admin reads secrets":                   {a.Resource(Admin(), Read, secret), true},
		"admin writes":                          {a.Resource(Admin(), Write, mesh), true},
		"user reads":                            {a.Resource(jane, Read, mesh), true},
		"user writes":                           {a.Resource(jane, Write, mesh), true},
		"user reads secrets":                    {a.Resource(jane, Read, secret), false},
		"granted group":                         {tuned.Resource(ops, Write, secret), true},
		"anonymous reads":                       {a.Resource(Anonymous(), Read, mesh), false},
		"anonymous writes":                      {a.Resource(Anonymous(), Write, mesh), false},
		"anonymous reads when let":              {reading.Resource(Anonymous(), Read, mesh), true},
		"anonymous writes when let read":        {reading.Resource(Anonymous(), Write, mesh), false},
		"anonymous writes when let":             {open.Resource(Anonymous(), Write, mesh), true},
		"anonymous reads secrets even then":     {open.Resource(Anonymous(), Read, secret), false},
		"admin issues user tokens":              {a.UserToken(Admin()), true},
		"user issues user tokens":               {a.UserToken(jane), false},
		"admin issues zone tokens":              {a.ZoneToken(Admin(), nil), true},
		"user issues zone tokens":               {a.ZoneToken(jane, nil), false},
		"admin issues dataplane tokens":         {a.DPToken(Admin(), nil), true},
		"anonymous issues dataplane tokens":     {open.DPToken(Anonymous(), nil), false},
		"user views configurations":             {a.ConfigDump(jane), true},
		"user views statistics":                 {a.Stats(jane), true},
		"user views clusters":                   {a.Clusters(jane), true},
		"user views settings":                   {a.Metadata(jane), true},
		"anonymous views settings":              {a.Metadata(Anonymous()), false},
		"anonymous views settings when let":     {reading.Metadata(Anonymous()), true},
		"anonymous views configurations by far": {a.ConfigDump(Anonymous()), false},
	} {
		var denied *DeniedError
		if (c.err == nil) != c.ok || c.err != nil && (!errors.As(c.err, &denied) || !strings.Contains(c.err.Error(), denied.User.String())) {
			t.Errorf("%s: %v", name, c.err)
		}
	}
}
