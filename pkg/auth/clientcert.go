package auth

import "net/http"

// fromCertificate is the user that a verified client certificate names: its
// common name, in the groups that are its organizations.
func fromCertificate(r *http.Request) (User, bool) {
	if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 || len(r.TLS.PeerCertificates) == 0 {
		return User{}, false
	}
	subject := r.TLS.PeerCertificates[0].Subject
	if subject.CommonName == "" {
		return User{}, false
	}
	return User{Name: subject.CommonName, Groups: append(append([]string{}, subject.Organization...), GroupAuthenticated)}, true
}
