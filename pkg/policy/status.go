package policy

import "github.com/atoll-mesh/atoll/pkg/kind"

// Status is what control planes found out about a policy.
type Status struct {
	Conditions []kind.Condition `json:"conditions,omitempty"`
}

// ConditionRejected is the type of the condition of a policy that made proxies
// refuse their configuration. It is there only while they do.
const ConditionRejected = "Rejected"

// With returns the status with a condition set, or without those of its type
// when c says nothing. Nil stands for a status without conditions.
func (s *Status) With(typ string, c *kind.Condition) *Status {
	next := &Status{}
	if s != nil {
		for _, old := range s.Conditions {
			if old.Type != typ {
				next.Conditions = append(next.Conditions, old)
			}
		}
	}
	if c != nil {
		next.Conditions = append(next.Conditions, *c)
	}
	if len(next.Conditions) == 0 {
		return nil
	}
	return next
}

// Condition returns the condition of a type, or nil.
func (s *Status) Condition(typ string) *kind.Condition {
	if s == nil {
		return nil
	}
	for i := range s.Conditions {
		if s.Conditions[i].Type == typ {
			return &s.Conditions[i]
		}
	}
	return nil
}
