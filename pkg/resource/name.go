package resource

import (
	"hash/fnv"
	"regexp"
	"strings"
)

var (
	dns1123Label     = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`)
	dns1035Label     = regexp.MustCompile(`^[a-z]([-a-z0-9]*[a-z0-9])?$`)
	dns1123Subdomain = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)
	qualifiedPart    = regexp.MustCompile(`^([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]$`)
	meshName         = regexp.MustCompile(`^[0-9a-z\-_.]*$`)
)

// IsDNS1123Label reports whether s is a DNS label of at most 63 characters.
func IsDNS1123Label(s string) bool { return len(s) <= 63 && dns1123Label.MatchString(s) }

// IsDNS1035Label is IsDNS1123Label that starts with a letter.
func IsDNS1035Label(s string) bool { return len(s) <= 63 && dns1035Label.MatchString(s) }

// IsDNS1123Subdomain reports whether s is a DNS name of at most 253 characters.
func IsDNS1123Subdomain(s string) bool { return len(s) <= 253 && dns1123Subdomain.MatchString(s) }

// IsMeshName reports whether s may stand in the mesh field of a resource.
func IsMeshName(s string) bool { return len(s) <= 253 && meshName.MatchString(s) }

// IsLabelKey reports whether s may be the key of a label: a qualified name,
// which is at most 63 characters after an optional DNS name and a slash.
func IsLabelKey(s string) bool {
	name := s
	if prefix, rest, ok := strings.Cut(s, "/"); ok {
		if !IsDNS1123Subdomain(prefix) {
			return false
		}
		name = rest
	}
	return len(name) <= 63 && qualifiedPart.MatchString(name)
}

// IsLabelValue reports whether s may be the value of a label.
func IsLabelValue(s string) bool {
	return s == "" || len(s) <= 63 && qualifiedPart.MatchString(s)
}

// suffixAlphabet maps a hex digit, by its ASCII code modulo 27, to a letter or
// digit that cannot form words. 0 and f share a letter; names in the field
// depend on it.
const suffixAlphabet = "bcdfghjklmnpqrstvwxz2456789"

const maxName = 253

// SyncedName is the name of a resource in a control plane other than its own:
// the display name and a hash of mesh, display name, zone and namespace. It is
// the same wherever it is computed.
func (m *Meta) SyncedName() string {
	display := m.DisplayName()
	h := fnv.New64a()
	for _, part := range []string{m.Mesh, display, m.Zone(), m.Namespace()} {
		h.Write([]byte(part))
	}
	const hexDigits = "0123456789abcdef"
	sum := h.Sum64()
	var suffix [16]byte
	for i := range suffix {
		digit := hexDigits[(sum>>(60-4*i))&0xf]
		suffix[i] = suffixAlphabet[digit%27]
	}
	if limit := maxName - 17; len(display) > limit {
		display = display[:limit]
	}
	return display + "-" + string(suffix[:])
}
