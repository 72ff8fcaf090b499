package kind

import (
	"encoding/pem"
	"fmt"
	"strings"

	"github.com/atoll-mesh/atoll/pkg/resource"
)

// BundlePem is the only type of a CABundle.
const BundlePem = "Pem"

// MeshTrustSpec lists the CAs that may vouch for the identities of a trust
// domain. All MeshTrusts of a mesh count together.
type MeshTrustSpec struct {
	// CABundles are the CAs.
	CABundles []CABundle `json:"caBundles" schema:"minItems=1"`
	// TrustDomain is the part of SPIFFE IDs that they may vouch for.
	TrustDomain string `json:"trustDomain" schema:"maxLen=253"`
}

// CABundle is one or several CA certificates.
type CABundle struct {
	Type string     `json:"type" schema:"enum=Pem"`
	Pem  *PemBundle `json:"pem,omitempty"`
}

// PemBundle is certificates in PEM.
type PemBundle struct {
	Value string `json:"value"`
}

// MeshTrustStatus tells where a MeshTrust comes from.
type MeshTrustStatus struct {
	Origin *TrustOrigin `json:"origin,omitempty"`
}

// TrustOrigin is the MeshIdentity for which the control plane made a MeshTrust.
type TrustOrigin struct {
	KRI string `json:"kri,omitempty"`
}

func meshTrustKind() *resource.Kind {
	return resource.Define[MeshTrustSpec, MeshTrustStatus](resource.Kind{
		Names: resource.Names{
			Type: MeshTrust, Plural: "meshtrusts", Single: "meshtrust", Short: "mtrust",
			Display: "Mesh Trust", Displays: "Mesh Trusts",
		},
		Scope: resource.ScopeMesh,
		// What proxies of one zone present, those of all others must be able to check.
		Flows:    resource.GlobalToZone | resource.ZoneToGlobal | resource.AcrossZones,
		Validate: validateMeshTrust,
	})
}

func validateMeshTrust(o *resource.Object) resource.FieldErrors {
	var errs resource.FieldErrors
	spec := resource.SpecOf[MeshTrustSpec](o)
	if spec.TrustDomain == "" {
		errs.Add("spec.trustDomain", "must not be empty")
	} else if len(spec.TrustDomain) > 253 {
		errs.Add("spec.trustDomain", "must be no longer than 253 characters")
	}
	if len(spec.CABundles) == 0 {
		errs.Add("spec.caBundles", "must not be empty")
	}
	for i, b := range spec.CABundles {
		at := fmt.Sprintf("spec.caBundles[%d]", i)
		switch {
		case b.Type != BundlePem:
			errs.Add(at+".type", "must be %s", BundlePem)
		case b.Pem == nil:
			errs.Add(at+".pem", "must be set when type is %s", b.Type)
		default:
			if reason := notCertificates(b.Pem.Value); reason != "" {
				errs.Add(at+".pem.value", "%s", reason)
			}
		}
	}
	return errs
}

// notCertificates says why a text cannot be a bundle, or nothing.
func notCertificates(text string) string {
	rest := []byte(text)
	for n := 0; ; n++ {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			if n == 0 {
				return "must be PEM"
			}
			return ""
		}
		if strings.HasSuffix(block.Type, "PRIVATE KEY") {
			return "must be certificates, not a private key: anybody may read a MeshTrust"
		}
	}
}
