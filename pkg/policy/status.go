package policy

import "github.com/atoll-mesh/atoll/pkg/kind"

// Status of policies that refer to resources which may be missing.
type Status struct {
	Conditions []kind.Condition `json:"conditions,omitempty"`
}
