package policy

import (
	"fmt"
	"regexp"

	"github.com/atoll-mesh/atoll/pkg/ir"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// HeaderMatch compares a header.
type HeaderMatch struct {
	Type  string     `json:"type,omitempty" schema:"enum=Exact|Present|RegularExpression|Absent|Prefix,default=Exact"`
	Name  HeaderName `json:"name"`
	Value string     `json:"value,omitempty"`
}

// IR returns the match as IR has it.
func (m HeaderMatch) IR() ir.ValueMatch {
	out := ir.ValueMatch{Name: string(m.Name), Kind: m.Type, Value: m.Value}
	if out.Kind == "" {
		out.Kind = ir.MatchExact
	}
	if out.Kind == ir.MatchPrefix && out.Value == "" {
		out.Kind = ir.MatchPresent // every value starts with nothing
	}
	return out
}

// ValidateHeaderMatches adds every violation of matches at path p.
func ValidateHeaderMatches(errs *resource.FieldErrors, p string, list []HeaderMatch) {
	for i, m := range list {
		if m.Type != ir.MatchRegex {
			continue
		}
		// Envoy's RE2 and Go's regexp accept the same syntax.
		if _, err := regexp.Compile(m.Value); err != nil {
			errs.Add(fmt.Sprintf("%s[%d].value", p, i), "must be a valid regular expression: %s", err.Error())
		}
	}
}
