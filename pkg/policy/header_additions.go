package policy

import (
	"slices"

	"github.com/atoll-mesh/atoll/pkg/ir"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// HeaderName is the lower-case name of a header.
type HeaderName string

// JSONSchema states the characters of a token.
func (HeaderName) JSONSchema() *resource.Schema {
	low, high := 1, 256
	return &resource.Schema{
		Type: "string", MinLength: &low, MaxLength: &high,
		Pattern: "^[a-z0-9!#$%&'*+\\-.^_\\x60|~]+$",
	}
}

// Header is a name and its value.
type Header struct {
	Name  HeaderName `json:"name"`
	Value string     `json:"value"`
}

// HeaderAdditions sets and adds headers.
type HeaderAdditions struct {
	Set []Header `json:"set,omitempty" schema:"maxItems=16"`
	Add []Header `json:"add,omitempty" schema:"maxItems=16"`
}

// Host is the header that Envoy refuses among those to set, add or remove: it
// is what the request is for.
const Host = "host"

// Ops is the additions as IR, without the host. Percent signs that begin no
// operator of Envoy stand for themselves.
func (h *HeaderAdditions) Ops() ir.HeaderOps {
	if h == nil {
		return ir.HeaderOps{}
	}
	return ir.HeaderOps{Set: headers(h.Set), Add: headers(h.Add)}
}

func headers(in []Header) (out []ir.Header) {
	for _, x := range in {
		if x.Name != Host {
			value, _ := Literal(x.Value)
			out = append(out, ir.Header{Name: string(x.Name), Value: value})
		}
	}
	return out
}

// Host is the value given to the host, empty if there is none.
func (h *HeaderAdditions) Host() string {
	if h == nil {
		return ""
	}
	for _, x := range slices.Concat(h.Set, h.Add) {
		if x.Name == Host {
			return x.Value
		}
	}
	return ""
}
