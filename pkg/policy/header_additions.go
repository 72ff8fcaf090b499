package policy

import (
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

// Ops is the additions as IR.
func (h *HeaderAdditions) Ops() ir.HeaderOps {
	var out ir.HeaderOps
	if h == nil {
		return out
	}
	for _, x := range h.Set {
		out.Set = append(out.Set, ir.Header{Name: string(x.Name), Value: x.Value})
	}
	for _, x := range h.Add {
		out.Add = append(out.Add, ir.Header{Name: string(x.Name), Value: x.Value})
	}
	return out
}
