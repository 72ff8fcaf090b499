package auth

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

// Authenticator says who sent an HTTP request.
type Authenticator struct {
	Tokens           *Tokens // nil: no tokens are accepted
	LocalhostIsAdmin bool
	// SkipTokens names requests whose token is not looked at, so that an expired
	// one does not hide public pages. Nil: none.
	SkipTokens func(*http.Request) bool
	// ClientCertificates lets a verified certificate of the client say who it is,
	// when no token does.
	ClientCertificates bool
}

// Authenticate returns the caller, Anonymous if the request does not say, or an
// error wrapping ErrInvalidToken. A direct call from this machine counts as the
// administrator, whatever token it carries.
func (a *Authenticator) Authenticate(r *http.Request) (User, error) {
	if a.LocalhostIsAdmin && IsDirectLoopback(r) {
		return Admin(), nil
	}
	if a.Tokens != nil && (a.SkipTokens == nil || !a.SkipTokens(r)) {
		if token, ok := Bearer(r.Header.Get("Authorization")); ok {
			return a.Tokens.User(token)
		}
	}
	if a.ClientCertificates {
		if u, ok := fromCertificate(r); ok {
			return u, nil
		}
	}
	return Anonymous(), nil
}

// Middleware puts the caller into the context of each request; UserFrom reads
// it. Requests with an invalid token go to refuse.
func (a *Authenticator) Middleware(next http.Handler, refuse func(http.ResponseWriter, *http.Request, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u, err := a.Authenticate(r)
		if err != nil {
			refuse(w, r, err)
			return
		}
		next.ServeHTTP(w, r.WithContext(WithUser(r.Context(), u)))
	})
}

// Bearer takes the token out of an Authorization header. ok is false if the
// header is empty or of another scheme.
func Bearer(header string) (token string, ok bool) {
	scheme, token, found := strings.Cut(strings.TrimSpace(header), " ")
	if !found || !strings.EqualFold(scheme, "bearer") {
		return "", false
	}
	token = strings.TrimSpace(token)
	return token, token != ""
}

// RawOrBearer is the token in a header that proxies send: with the scheme
// Bearer or bare.
func RawOrBearer(header string) string {
	if token, ok := Bearer(header); ok {
		return token
	}
	return strings.TrimSpace(header)
}

// IsDirectLoopback reports whether a program on this machine made the call
// itself: not a proxy for somebody else, and not a web page of another origin
// in a local browser.
func IsDirectLoopback(r *http.Request) bool {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || !peer.Addr().Unmap().IsLoopback() {
		return false
	}
	for _, h := range []string{"Forwarded", "X-Forwarded-For", "X-Real-IP"} {
		if len(r.Header.Values(h)) > 0 {
			return false
		}
	}
	defaultPort := "80"
	if r.TLS != nil {
		defaultPort = "443"
	}
	host, ok := loopbackAuthority(r.Host, defaultPort)
	if !ok {
		return false
	}
	for _, site := range r.Header.Values("Sec-Fetch-Site") {
		if site != "same-origin" && site != "none" {
			return false
		}
	}
	for _, origin := range r.Header.Values("Origin") {
		if !sameLoopbackOrigin(origin, host) {
			return false
		}
	}
	return true
}

// authority is a normalised host and port.
type authority struct{ host, port string }

// loopbackAuthority parses the value of a Host header that names this machine.
func loopbackAuthority(s, defaultPort string) (authority, bool) {
	// url.Parse alone decides whether brackets, ports and escapes are sound.
	u, err := url.Parse("//" + s)
	if err != nil || s == "" || u.Host != s || u.User != nil || u.Path != "" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		return authority{}, false
	}
	a := authority{host: strings.ToLower(strings.TrimSuffix(u.Hostname(), ".")), port: u.Port()}
	if a.port == "" {
		if strings.HasSuffix(s, ":") {
			return authority{}, false
		}
		a.port = defaultPort
	} else if _, err := net.LookupPort("tcp", a.port); err != nil {
		return authority{}, false
	}
	if a.host == "localhost" {
		return a, true
	}
	addr, err := netip.ParseAddr(a.host)
	if err != nil || addr.Zone() != "" || !addr.Unmap().IsLoopback() {
		return authority{}, false
	}
	a.host = addr.Unmap().String()
	return a, true
}

func sameLoopbackOrigin(origin string, want authority) bool {
	scheme, rest, ok := strings.Cut(origin, "://")
	if !ok {
		return false
	}
	port := ""
	switch strings.ToLower(scheme) {
	case "http":
		port = "80"
	case "https":
		port = "443"
	default:
		return false
	}
	got, ok := loopbackAuthority(rest, port)
	return ok && got == want
}
