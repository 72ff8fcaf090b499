// Package resource describes what every resource of the API has in common:
// identity, metadata, labels, how a kind is described, and how its resources
// are written as JSON, YAML and on the wire. It knows no kind by name.
package resource

import (
	"cmp"
	"strings"
)

// Type is the name of a kind as users write it, for example "MeshTimeout".
type Type string

// ID names one resource in one control plane. Mesh is empty for kinds of
// global scope. It is comparable and serves as a map key.
type ID struct {
	Type Type
	Mesh string
	Name string
}

// String gives "Type mesh/name" for logs and messages; it is not a KRI.
func (id ID) String() string {
	if id.Mesh == "" {
		return string(id.Type) + " " + id.Name
	}
	return string(id.Type) + " " + id.Mesh + "/" + id.Name
}

// Compare orders by type, then mesh, then name, which is the order of lists.
func (id ID) Compare(other ID) int {
	return cmp.Or(
		strings.Compare(string(id.Type), string(other.Type)),
		strings.Compare(id.Mesh, other.Mesh),
		strings.Compare(id.Name, other.Name),
	)
}
