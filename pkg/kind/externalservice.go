package kind

import (
	"fmt"
	"slices"

	"github.com/atoll-mesh/atoll/pkg/resource"
)

// MeshExternalServiceSpec describes something outside the mesh that proxies of
// the mesh may call.
type MeshExternalServiceSpec struct {
	// Match tells by what clients call it.
	Match ExternalMatch `json:"match"`
	// Extension has another program decide about endpoints and TLS.
	Extension *ExternalExtension `json:"extension,omitempty"`
	// Endpoints are where calls go.
	Endpoints []ExternalEndpoint `json:"endpoints,omitempty"`
	// TLS is how calls are protected on their way out of the mesh.
	TLS *ExternalTLS `json:"tls,omitempty"`
}

// ExternalMatch is the port and protocol that clients use.
type ExternalMatch struct {
	Type     string `json:"type,omitempty" schema:"enum=HostnameGenerator,default=HostnameGenerator"`
	Port     int32  `json:"port" schema:"min=1,max=65535"`
	Protocol string `json:"protocol,omitempty" schema:"enum=tcp|grpc|http|http2,default=tcp"`
}

// ExternalExtension names a program and what it needs to know.
type ExternalExtension struct {
	Type   string `json:"type"`
	Config any    `json:"config,omitempty"`
}

// ExternalEndpoint is one address outside the mesh.
type ExternalEndpoint struct {
	Address string `json:"address" schema:"minLen=1"`
	Port    int32  `json:"port" schema:"min=1,max=65535"`
	// Priority of the endpoint: those with a higher number are used when none
	// with a lower one is healthy.
	Priority *int32 `json:"priority,omitempty" schema:"min=0,max=128"`
}

// ExternalTLS is originated by the proxy that leaves the mesh.
type ExternalTLS struct {
	Enabled            bool                  `json:"enabled,omitempty" schema:"default=false"`
	AllowRenegotiation bool                  `json:"allowRenegotiation,omitempty" schema:"default=false"`
	Version            *TLSVersions          `json:"version,omitempty"`
	Verification       *ExternalVerification `json:"verification,omitempty"`
}

// TLSVersions bounds the version that is negotiated.
type TLSVersions struct {
	Min string `json:"min,omitempty" schema:"enum=TLSAuto|TLS10|TLS11|TLS12|TLS13,default=TLSAuto"`
	Max string `json:"max,omitempty" schema:"enum=TLSAuto|TLS10|TLS11|TLS12|TLS13,default=TLSAuto"`
}

// ExternalVerification tells what the other side has to prove, and with what
// this side identifies itself.
type ExternalVerification struct {
	Mode            string            `json:"mode,omitempty" schema:"enum=SkipSAN|SkipCA|Secured|SkipAll,default=Secured"`
	ServerName      string            `json:"serverName,omitempty"`
	SubjectAltNames []SubjectAltName  `json:"subjectAltNames,omitempty"`
	CACert          *SecureDataSource `json:"caCert,omitempty"`
	ClientCert      *SecureDataSource `json:"clientCert,omitempty"`
	ClientKey       *SecureDataSource `json:"clientKey,omitempty"`
}

// SubjectAltName is a name that a certificate may be for.
type SubjectAltName struct {
	Type  string `json:"type,omitempty" schema:"enum=Exact|Prefix,default=Exact"`
	Value string `json:"value"`
}

// MeshExternalServiceStatus is what the control plane decides.
type MeshExternalServiceStatus struct {
	VIP                VIP                       `json:"vip,omitempty"`
	Addresses          []HostnameAddress         `json:"addresses,omitempty"`
	HostnameGenerators []HostnameGeneratorStatus `json:"hostnameGenerators,omitempty"`
}

func meshExternalServiceKind() *resource.Kind {
	return resource.Define[MeshExternalServiceSpec, MeshExternalServiceStatus](resource.Kind{
		Names: resource.Names{
			Type: MeshExternalService, Plural: "meshexternalservices", Single: "meshexternalservice", Short: "extsvc",
			Display: "Mesh External Service", Displays: "Mesh External Services",
		},
		Scope: resource.ScopeMesh,
		Flows: resource.GlobalToZone | resource.ZoneToGlobal,
		Ports: func(o *resource.Object) []resource.Port {
			m := resource.SpecOf[MeshExternalServiceSpec](o).Match
			return []resource.Port{{Section: sectionName("", uint32(m.Port)), Number: uint32(m.Port), Protocol: NormalProtocol(m.Protocol)}}
		},
		Validate: validateMeshExternalService,
		Warnings: sniWarnings,
	})
}

func validateMeshExternalService(o *resource.Object) resource.FieldErrors {
	var errs resource.FieldErrors
	spec := resource.SpecOf[MeshExternalServiceSpec](o)
	requireLabelName(&errs, o.DisplayName())
	if spec.Extension != nil && spec.Extension.Type == "" {
		errs.Add("spec.extension.type", "must not be empty")
	}
	if spec.Extension == nil { // otherwise the extension knows what is right
		for i, e := range spec.Endpoints {
			if !isIP(e.Address) && !resource.IsDNS1123Subdomain(e.Address) {
				errs.Add(fmt.Sprintf("spec.endpoints[%d].address", i), "must be an IP address or a DNS name")
			}
		}
	}
	if spec.TLS == nil {
		return errs
	}
	if v := spec.TLS.Version; v != nil && spec.Extension == nil && v.Min != "TLSAuto" && v.Max != "TLSAuto" &&
		slices.Index(tlsVersions, v.Min) > slices.Index(tlsVersions, v.Max) {
		errs.Add("spec.tls.version.min", "must not be later than max")
	}
	v := spec.TLS.Verification
	if v == nil {
		return errs
	}
	const path = "spec.tls.verification"
	if spec.Extension == nil {
		if v.ServerName != "" && !resource.IsDNS1123Subdomain(v.ServerName) {
			errs.Add(path+".serverName", "must be a DNS name")
		}
		if v.ClientCert != nil && v.ClientKey == nil {
			errs.Add(path+".clientKey", "must be set together with clientCert")
		}
		if v.ClientKey != nil && v.ClientCert == nil {
			errs.Add(path+".clientCert", "must be set together with clientKey")
		}
	}
	validateSecretSource(&errs, path+".caCert", v.CACert)
	validateSecretSource(&errs, path+".clientCert", v.ClientCert)
	validateSecretSource(&errs, path+".clientKey", v.ClientKey)
	return errs
}

var tlsVersions = []string{"", "TLSAuto", "TLS10", "TLS11", "TLS12", "TLS13"}
