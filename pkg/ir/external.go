package ir

// ExternalTLS protects connections to something outside the mesh.
type ExternalTLS struct {
	ServerName string `json:"serverName,omitempty"` // SNI; empty: none is sent
	// Names of which the other side must prove one; without any its certificate
	// may be for anything. They need CA or CAFile.
	Names []ValueMatch `json:"names,omitempty"` // MatchExact or MatchPrefix; Name is not used
	// CA verifies the other side, or CAFile does, a path on the proxy's machine.
	// Without either it may be anybody.
	CA     string `json:"ca,omitempty"` // PEM
	CAFile string `json:"caFile,omitempty"`
	// Cert and Key identify this side.
	Cert        string    `json:"cert,omitempty"` // PEM
	Key         Sensitive `json:"key,omitempty"`  // PEM
	MinVersion  string    `json:"minVersion,omitempty"`
	MaxVersion  string    `json:"maxVersion,omitempty"` // TLS10 to TLS13; empty: Envoy's own
	Renegotiate bool      `json:"renegotiate,omitempty"`
}

// Sensitive is a text that is not shown.
type Sensitive string

// MarshalJSON hides the text.
func (s Sensitive) MarshalJSON() ([]byte, error) { return []byte(`"hidden"`), nil }

// String hides the text.
func (s Sensitive) String() string { return "hidden" }
