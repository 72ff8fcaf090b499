package ir

// DownstreamTLS terminates mutual TLS: clients must present a certificate.
type DownstreamTLS struct {
	Certificate SecretRef `json:"certificate"`
	Trust       SecretRef `json:"trust"`
	// ClientPrefixes are of the URIs of which a client's certificate must have
	// one; without any every client that is trusted may connect.
	ClientPrefixes []string  `json:"clientPrefixes,omitempty"`
	Params         TLSParams `json:"params,omitzero"`
}

// UpstreamTLS originates mutual TLS.
type UpstreamTLS struct {
	ServerName  string    `json:"serverName"` // SNI
	ALPN        []string  `json:"alpn,omitempty"`
	Certificate SecretRef `json:"certificate"`
	Trust       SecretRef `json:"trust"`
	// ServerIDs are the URIs of which a server's certificate must have one;
	// without any every server that is trusted may answer.
	ServerIDs []string  `json:"serverIDs,omitempty"`
	Params    TLSParams `json:"params,omitzero"`
}

// TLSParams bound what is negotiated. Empty fields leave it to Envoy.
type TLSParams struct {
	MinVersion string   `json:"minVersion,omitempty"` // TLS10 to TLS13
	MaxVersion string   `json:"maxVersion,omitempty"`
	Ciphers    []string `json:"ciphers,omitempty"` // up to TLS 1.2
}

// SecretRef says where Envoy gets a secret: from its ADS stream, or from a
// server of secrets behind a cluster.
type SecretRef struct {
	Name    string `json:"name"`
	Cluster string `json:"cluster,omitempty"`
}

// Secret is what Envoy asks for by name. KeyPair or Trust is set.
type Secret struct {
	Name    string        `json:"name"`
	KeyPair *KeyPair      `json:"keyPair,omitempty"`
	Trust   []TrustDomain `json:"trust,omitempty"`
}

// KeyPair is a certificate and its key in PEM.
type KeyPair struct {
	Certificate string    `json:"certificate"`
	Key         Sensitive `json:"key"`
}

// TrustDomain is the CAs, in PEM, that may vouch for the SPIFFE IDs of a trust
// domain.
type TrustDomain struct {
	Name string `json:"name"`
	CAs  string `json:"cas"`
}

// RBAC decides about clients by what they proved in the TLS handshake. The
// first rule that matches decides; without one the client is refused.
type RBAC struct {
	Rules []RBACRule `json:"rules,omitempty"`
	// Shadow decides for statistics only. Empty: there are none.
	Shadow []RBACRule `json:"shadow,omitempty"`
}

// RBACRule allows or refuses clients that one of Clients matches.
type RBACRule struct {
	Policy  string        `json:"policy"` // KRI of the policy that says so
	Deny    bool          `json:"deny,omitempty"`
	Clients []ClientMatch `json:"clients"` // one or more
}

// ClientMatch selects clients; what is set must hold.
type ClientMatch struct {
	SpiffeID   *ValueMatch `json:"spiffeID,omitempty"` // MatchExact or MatchPrefix; Name is not used
	ServerName string      `json:"serverName,omitempty"`
}

// CertificateFiles are a certificate and its key, as files of the proxy's
// machine. Clients prove nothing.
type CertificateFiles struct {
	Certificate string `json:"certificate"`
	Key         string `json:"key"`
}
