package kind

// PolicyStatus is what control planes found out about a policy.
type PolicyStatus struct {
	Conditions []Condition `json:"conditions,omitempty"`
}

// ConditionRejected is the type of the condition of a policy that made proxies
// refuse their configuration. It is there only while they do.
const ConditionRejected = "Rejected"

// With returns the status with one condition of a type, or none when c is nil.
// Nil stands for a status without conditions.
func (s *PolicyStatus) With(typ string, c *Condition) *PolicyStatus {
	next := &PolicyStatus{}
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
func (s *PolicyStatus) Condition(typ string) *Condition {
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
