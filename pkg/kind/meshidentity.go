package kind

import (
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"
	"text/template"
	"time"

	"github.com/atoll-mesh/atoll/pkg/resource"
)

// Values of IdentityProvider.Type.
const (
	ProviderBundled   = "Bundled"
	ProviderSpire     = "Spire"
	ProviderExtension = "Extension"
)

// Values of BundledProvider.MeshTrustCreation.
const (
	TrustCreationEnabled  = "Enabled"
	TrustCreationDisabled = "Disabled"
)

// Types of the conditions of a MeshIdentity.
const (
	ConditionReady            = "Ready"
	ConditionProvider         = "Provider"
	ConditionMeshTrustCreated = "MeshTrustCreated"
	ConditionSpiffeIDProvider = "SpiffeIDProvider"
)

// MeshIdentitySpec says which proxies get an identity, what it looks like and
// who issues the certificate for it.
type MeshIdentitySpec struct {
	// Selector tells which Dataplanes get the identity; without it none do.
	Selector *IdentitySelector `json:"selector,omitempty"`
	// SpiffeID is the form of the identities.
	SpiffeID *SpiffeIDTemplates `json:"spiffeID,omitempty"`
	// Provider issues certificates. Without it there are identities only, which
	// prepare others for the time when there are certificates.
	Provider *IdentityProvider `json:"provider,omitempty"`
}

// IdentitySelector selects Dataplanes. Without Dataplane it selects none.
type IdentitySelector struct {
	// Dataplane selects by labels; without labels all of the mesh.
	Dataplane *LabelSelector `json:"dataplane,omitempty"`
}

// SpiffeIDTemplates are the parts of spiffe://<trust domain><path> as text
// templates; unset ones have defaults.
type SpiffeIDTemplates struct {
	TrustDomain *string `json:"trustDomain,omitempty"`
	Path        *string `json:"path,omitempty"`
}

// IdentityProvider says who issues certificates. Type tells which other member
// counts.
type IdentityProvider struct {
	Type      string             `json:"type" schema:"enum=Bundled|Spire|Extension"`
	Bundled   *BundledProvider   `json:"bundled,omitempty"`
	Spire     *SpireProvider     `json:"spire,omitempty"`
	Extension *IdentityExtension `json:"extension,omitempty"`
}

// BundledProvider is the control plane itself.
type BundledProvider struct {
	// MeshTrustCreation tells whether a MeshTrust is kept for the CA.
	MeshTrustCreation string `json:"meshTrustCreation,omitempty" schema:"enum=Enabled|Disabled"`
	// InsecureAllowSelfSigned accepts a CA that vouches for itself.
	InsecureAllowSelfSigned bool `json:"insecureAllowSelfSigned,omitempty"`
	// CertificateParameters of what is issued.
	CertificateParameters *CertificateParameters `json:"certificateParameters,omitempty"`
	// Autogenerate has the control plane make the CA.
	Autogenerate *Autogenerate `json:"autogenerate,omitempty"`
	// CA is one that exists.
	CA *ProvidedCA `json:"ca,omitempty"`
}

// CreatesTrust tells whether the provider keeps a MeshTrust.
func (b *BundledProvider) CreatesTrust() bool { return b.MeshTrustCreation != TrustCreationDisabled }

// Autogenerates tells whether the control plane makes the CA.
func (b *BundledProvider) Autogenerates() bool {
	return b.Autogenerate != nil && b.Autogenerate.Enabled
}

// Autogenerate switches a CA of the control plane's own on.
type Autogenerate struct {
	Enabled bool `json:"enabled,omitempty"`
}

// CertificateParameters of the certificates of proxies.
type CertificateParameters struct {
	// Expiry is how long a certificate is valid.
	Expiry *Duration `json:"expiry,omitempty"`
}

// ProvidedCA says where the CA's certificate and key are.
type ProvidedCA struct {
	Certificate *SecureDataSource `json:"certificate,omitempty"`
	PrivateKey  *SecureDataSource `json:"privateKey,omitempty"`
}

// SpireProvider is a SPIRE agent beside the proxies.
type SpireProvider struct {
	Agent *SpireAgent `json:"agent,omitempty"`
}

// SpireAgent is how to reach it.
type SpireAgent struct {
	// Timeout of connecting to the agent.
	Timeout *Duration `json:"timeout,omitempty"`
}

// IdentityExtension names a provider that is compiled in.
type IdentityExtension struct {
	Name   string `json:"name"`
	Config any    `json:"config,omitempty"`
}

// MeshIdentityStatus is how far a zone is with an identity.
type MeshIdentityStatus struct {
	Conditions []Condition `json:"conditions,omitempty"`
}

// Duration is written as a string such as 24h or 1m30s.
type Duration time.Duration

// MarshalJSON writes the duration in its normal form.
func (d Duration) MarshalJSON() ([]byte, error) { return json.Marshal(time.Duration(d).String()) }

// UnmarshalJSON reads what time.ParseDuration accepts.
func (d *Duration) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return fmt.Errorf("a duration is a string such as 24h: %w", err)
	}
	v, err := time.ParseDuration(s)
	*d = Duration(v)
	return err
}

// JSONSchema describes the string.
func (Duration) JSONSchema() *resource.Schema {
	return &resource.Schema{Type: "string", Check: func(s string) string {
		if _, err := time.ParseDuration(s); err != nil {
			return "must be a duration such as 30m or 24h"
		}
		return ""
	}}
}

func meshIdentityKind() *resource.Kind {
	return resource.Define[MeshIdentitySpec, MeshIdentityStatus](resource.Kind{
		Names: resource.Names{
			Type: MeshIdentity, Plural: "meshidentities", Single: "meshidentity", Short: "mid",
			Display: "Mesh Identity", Displays: "Mesh Identities",
		},
		Scope:    resource.ScopeMesh,
		Flows:    resource.GlobalToZone | resource.ZoneToGlobal,
		Validate: validateMeshIdentity,
	})
}

func validateMeshIdentity(o *resource.Object) resource.FieldErrors {
	var errs resource.FieldErrors
	spec := resource.SpecOf[MeshIdentitySpec](o)
	if id := spec.SpiffeID; id != nil {
		requireTemplate(&errs, "spec.spiffeID.trustDomain", id.TrustDomain)
		requireTemplate(&errs, "spec.spiffeID.path", id.Path)
	}
	p := spec.Provider
	if p == nil {
		return errs
	}
	missing := func(field string) {
		errs.Add("spec.provider."+field, "must be set when type is %s", p.Type)
	}
	switch p.Type {
	case ProviderBundled:
		if p.Bundled == nil {
			missing("bundled")
		} else {
			p.Bundled.validate(&errs, "spec.provider.bundled")
		}
	case ProviderSpire:
		if p.Spire == nil {
			missing("spire")
		} else if a := p.Spire.Agent; a != nil && a.Timeout != nil && *a.Timeout < 0 {
			// The path is the one that tools know.
			errs.Add("spec.provider.spire.agent.spire.agent.timeout", "must not be negative")
		}
	case ProviderExtension:
		if p.Extension == nil {
			missing("extension")
		} else if p.Extension.Name == "" {
			errs.Add("spec.provider.extension.name", "must not be empty")
		}
	default:
		errs.Add("spec.provider.type", "must be one of %s, %s, %s", ProviderBundled, ProviderSpire, ProviderExtension)
	}
	return errs
}

func (b *BundledProvider) validate(errs *resource.FieldErrors, at string) {
	switch {
	case b.Autogenerates() && b.CA != nil:
		errs.Add(at+".ca", "must not be set when the CA is autogenerated")
	case !b.Autogenerates() && b.CA == nil:
		errs.Add(at+".ca", "must be set, or autogenerate.enabled be true")
	case b.CA != nil:
		requireSource(errs, at+".ca.certificate", b.CA.Certificate)
		requireSource(errs, at+".ca.privateKey", b.CA.PrivateKey)
	}
	if c := b.CertificateParameters; c != nil && c.Expiry != nil && *c.Expiry < 0 {
		errs.Add(at+".certificateParameters.expiry", "must not be negative")
	}
}

// requireSource accepts a source of any type, with what belongs to its type.
func requireSource(errs *resource.FieldErrors, at string, s *SecureDataSource) {
	if s == nil {
		errs.Add(at, "must be set")
		return
	}
	missing := func(field string) { errs.Add(at+"."+field, "must be set when type is %s", s.Type) }
	switch s.Type {
	case SourceFile:
		switch {
		case s.File == nil:
			missing("file")
		case !path.IsAbs(s.File.Path) || slices.Contains(strings.Split(s.File.Path, "/"), ".."):
			errs.Add(at+".file.path", "must be an absolute path without ..")
		}
	case SourceSecret:
		switch {
		case s.SecretRef == nil:
			missing("secretRef")
		case s.SecretRef.Name == "":
			errs.Add(at+".secretRef.name", "must not be empty")
		}
	case SourceEnvVar:
		switch {
		case s.EnvVar == nil:
			missing("envVar")
		case s.EnvVar.Name == "":
			errs.Add(at+".envVar.name", "must not be empty")
		}
	case SourceInsecureInline:
		if s.InsecureInline == nil {
			missing("insecureInline")
		}
	default:
		errs.Add(at+".type", "must be one of %s, %s, %s, %s", SourceFile, SourceSecret, SourceEnvVar, SourceInsecureInline)
	}
}

func requireTemplate(errs *resource.FieldErrors, at string, text *string) {
	if text == nil {
		return
	}
	label := func(string) string { return "" }
	if _, err := template.New("").Funcs(template.FuncMap{"label": label}).Parse(*text); err != nil {
		errs.Add(at, "must be a text template: %s", err.Error())
	}
}
