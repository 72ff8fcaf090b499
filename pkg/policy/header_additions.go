package policy

import (
	"fmt"

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

// Validate adds a violation for each name that is used twice at path p.
func (h *HeaderAdditions) Validate(errs *resource.FieldErrors, p string) {
	if h == nil {
		return
	}
	seen := map[HeaderName]bool{}
	for _, list := range []struct {
		name string
		of   []Header
	}{{"set", h.Set}, {"add", h.Add}} {
		for i, x := range list.of {
			if seen[x.Name] {
				errs.Add(fmt.Sprintf("%s.%s[%d].name", p, list.name, i), "duplicate header name")
			}
			seen[x.Name] = true
		}
	}
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
