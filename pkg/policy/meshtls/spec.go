// Package meshtls is the policy MeshTLS: what kind of TLS the inbounds of
// proxies with an identity ask of their clients.
package meshtls

import (
	"github.com/atoll-mesh/atoll/pkg/policy"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// Spec of a MeshTLS.
type Spec struct {
	// TargetRef selects the proxies; all of the mesh when absent.
	TargetRef *policy.ProxyRef `json:"targetRef,omitempty"`
	// Rules set how inbounds are protected.
	Rules []Rule `json:"rules,omitempty"`
}

// Rule is what all clients of an inbound are asked for.
type Rule struct {
	Default Conf `json:"default,omitzero"`
}

// Values of Conf.Mode.
const (
	Strict     = "Strict"     // mutual TLS only; the default
	Permissive = "Permissive" // mutual TLS, and what comes without it
)

// Conf is the TLS of one inbound; nil is not set here.
type Conf struct {
	// Mode says what happens to connections without mutual TLS.
	Mode *string `json:"mode,omitempty" schema:"enum=Permissive|Strict"`
	// TLSVersion bounds the version that is negotiated, by servers and clients.
	TLSVersion *Version `json:"tlsVersion,omitempty"`
	// TLSCiphers are the ciphers that may be used up to TLS 1.2.
	TLSCiphers []Cipher `json:"tlsCiphers,omitempty"`
}

// Cipher is the name of a cipher suite as OpenSSL has it.
type Cipher string

// JSONSchema lists the ciphers.
func (Cipher) JSONSchema() *resource.Schema {
	return &resource.Schema{Type: "string", Enum: []string{
		"ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305",
		"ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-RSA-CHACHA20-POLY1305",
	}}
}

// Version is a range of versions.
type Version struct {
	Min string `json:"min,omitempty" schema:"enum=TLSAuto|TLS10|TLS11|TLS12|TLS13,default=TLSAuto"`
	Max string `json:"max,omitempty" schema:"enum=TLSAuto|TLS10|TLS11|TLS12|TLS13,default=TLSAuto"`
}

// Def is the policy.
var Def = policy.Define(resource.Names{
	Type: "MeshTLS", Short: "mtls",
	Plural: "meshtlses", Single: "meshtls",
	Display: "Mesh TLS", Displays: "Mesh TLSes",
}, policy.Hooks[Spec, Conf]{
	Bodies: func(s *Spec) policy.Bodies[Conf] {
		b := policy.Bodies[Conf]{TargetRef: s.TargetRef}
		for _, r := range s.Rules {
			b.Rules = append(b.Rules, policy.Rule[Conf]{Default: r.Default})
		}
		return b
	},
	HasRules:  true,
	Validate:  validate,
	Always:    true,
	Inbound:   inbound,
	ClientTLS: client,
})
