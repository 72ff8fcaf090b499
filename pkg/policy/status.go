package policy

import "github.com/atoll-mesh/atoll/pkg/kind"

// Status is what control planes found out about a policy.
type Status = kind.PolicyStatus
