package resource

import (
	"fmt"
	"strings"
)

// KRI is the identifier of a resource, or of a section of it, that is the same
// in every control plane. It also names Envoy's resources.
type KRI struct {
	Short     string // short name of the kind
	Mesh      string
	Zone      string
	Namespace string
	Name      string // display name
	Section   string // port, inbound or rule; may be empty
}

// KRI identifies the object. It is the zero KRI for kinds without short name.
func (o *Object) KRI() KRI { return o.Kind.KRIOf(&o.Meta) }

// KRIOf identifies a resource of kind k by its metadata.
func (k *Kind) KRIOf(m *Meta) KRI {
	if k.Short == "" {
		return KRI{}
	}
	return KRI{Short: k.Short, Mesh: m.Mesh, Zone: m.Zone(), Namespace: m.Namespace(), Name: m.DisplayName()}
}

// WithSection returns k naming a part of the resource.
func (k KRI) WithSection(section string) KRI {
	k.Section = section
	return k
}

// IsZero reports whether k identifies nothing.
func (k KRI) IsZero() bool { return k == KRI{} }

// String is kri_<short>_<mesh>_<zone>_<namespace>_<name>_<section>, with empty
// parts kept; the empty string for the zero KRI.
func (k KRI) String() string {
	if k.IsZero() {
		return ""
	}
	return strings.Join([]string{"kri", k.Short, k.Mesh, k.Zone, k.Namespace, k.Name, k.Section}, "_")
}

// ParseKRI reads what String wrote. Parts beyond the seventh belong to the
// section and are joined without underscore, as the API has it: a section with
// underscores does not survive a round trip. Whether the short name is known is
// left to the caller.
func ParseKRI(s string) (KRI, error) {
	parts := strings.Split(s, "_")
	if len(parts) < 7 || parts[0] != "kri" {
		return KRI{}, fmt.Errorf("invalid identifier string: %q", s)
	}
	return KRI{
		Short: parts[1], Mesh: parts[2], Zone: parts[3], Namespace: parts[4], Name: parts[5],
		Section: strings.Join(parts[6:], ""),
	}, nil
}

// SNI is the TLS server name under which a destination's port is reached
// across zones. ok is false when a part cannot be a DNS label (RFC 1123) or the
// whole is longer than 253; such a destination gets no cluster.
func (k KRI) SNI() (sni string, ok bool) {
	parts := []string{"sni", k.Short, k.Mesh}
	if k.Zone != "" {
		parts = append(parts, k.Zone)
		if k.Namespace != "" {
			parts = append(parts, k.Namespace)
		}
	}
	parts = append(parts, k.Name, k.Section)
	for _, p := range parts {
		if !IsDNS1123Label(p) {
			return "", false
		}
	}
	sni = strings.Join(parts, ".")
	return sni, len(sni) <= 253
}
