package policy

import (
	"cmp"
	"strings"

	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// Types of comparison in a Match.
const (
	Exact  = "Exact"
	Prefix = "Prefix"
)

// Match says which clients of an inbound a rule is about. Set fields must all
// hold.
type Match struct {
	SpiffeID *SpiffeIDMatch `json:"spiffeID,omitempty"`
	SNI      *SNIMatch      `json:"sni,omitempty"`
}

// SpiffeIDMatch compares the URI of the client's certificate.
type SpiffeIDMatch struct {
	Type  string `json:"type" schema:"enum=Exact|Prefix"`
	Value string `json:"value"`
}

// SNIMatch compares the TLS server name that the client asked for.
type SNIMatch struct {
	Type  string `json:"type" schema:"enum=Exact"`
	Value string `json:"value"`
}

// IsEmpty tells whether nothing is asked for.
func (m Match) IsEmpty() bool { return m.SpiffeID == nil && m.SNI == nil }

// Matches says what the items of spec.rules may be conditioned on.
type Matches uint8

// Kinds of conditions on inbound rules.
const (
	NoMatches     Matches = iota // the spec has no rules, or their items no matches
	LooseMatches                 // shared checks only
	StrictMatches                // in addition, empty matches and unknown types are refused
)

// ValidateMatch makes the shared checks of a match that stands elsewhere than in
// the matches of a rule.
func ValidateMatch(errs *resource.FieldErrors, p string, m Match) { m.validate(errs, p, LooseMatches) }

func (m Match) validate(errs *resource.FieldErrors, p string, how Matches) {
	strict := how == StrictMatches
	if strict && m.IsEmpty() {
		errs.Add(p, "at least one of spiffeID and sni must be set")
	}
	if id := m.SpiffeID; id != nil {
		if strict {
			switch id.Type {
			case Exact, Prefix:
			case "":
				errs.Add(p+".spiffeID.type", "must be set")
			default:
				errs.Add(p+".spiffeID.type", "unrecognized type %q, only Exact and Prefix are supported", id.Type)
			}
		}
		if _, err := spiffeid.FromString(id.Value); err != nil {
			errs.Add(p+".spiffeID", "must be a valid Spiffe ID: %s", err.Error())
		}
	}
	if sni := m.SNI; sni != nil {
		switch sni.Type {
		case Exact:
		case "":
			errs.Add(p+".sni.type", "must be set")
		default:
			errs.Add(p+".sni.type", "unrecognized type %q, only Exact is supported", sni.Type)
		}
		ValidateDNSName(errs, p+".sni.value", sni.Value)
	}
}

// ValidateDNSName adds every violation of a required DNS-1123 subdomain.
func ValidateDNSName(errs *resource.FieldErrors, path, name string) {
	if name == "" {
		errs.Add(path, "must be set")
		return
	}
	if len(name) > 253 {
		errs.Add(path, "must be no more than 253 characters")
	}
	if !resource.IsDNS1123Subdomain(name[:min(len(name), 253)]) && !resource.IsDNS1123Subdomain(name) {
		errs.Add(path, "must be a DNS name of lower case letters, digits, '-' and '.' that starts and ends with a letter or digit")
	}
}

// rank orders matches from special to general: an exact client before a prefix
// of clients before any, and one server name before any.
func (m *Match) rank() int {
	if m == nil {
		return 0
	}
	r := 0
	if m.SpiffeID != nil {
		r += 2
		if m.SpiffeID.Type == Exact {
			r += 2
		}
	}
	if m.SNI != nil {
		r++
	}
	return r
}

// Compare orders matches by specificity, most specific first: as rules are
// listed, and within prefixes the longer one first. Nil matches everything.
func (m *Match) Compare(other *Match) int {
	return cmp.Or(-cmp.Compare(m.rank(), other.rank()), -cmp.Compare(m.prefixLen(), other.prefixLen()))
}

func (m *Match) prefixLen() int {
	if m == nil || m.SpiffeID == nil || m.SpiffeID.Type != Prefix {
		return 0
	}
	return len(m.SpiffeID.Value)
}

// Subsumes reports whether every client that other matches is matched by m.
func (m *Match) Subsumes(other *Match) bool {
	if m == nil {
		return true
	}
	if other == nil {
		return m.SpiffeID == nil && m.SNI == nil
	}
	if m.SNI != nil && (other.SNI == nil || other.SNI.Value != m.SNI.Value) {
		return false
	}
	switch {
	case m.SpiffeID == nil:
		return true
	case other.SpiffeID == nil:
		return false
	case m.SpiffeID.Type == Exact:
		return *m.SpiffeID == *other.SpiffeID
	}
	return strings.HasPrefix(other.SpiffeID.Value, m.SpiffeID.Value)
}
