package resource

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// FieldError is one violation in a resource. Field is a path such as
// spec.to[0].default.http or labels["kuma.io/origin"].
type FieldError struct {
	Field  string
	Reason string
}

// FieldErrors is every violation found in one stage of validation.
type FieldErrors []FieldError

// Add appends a violation. Format verbs apply when args are given.
func (e *FieldErrors) Add(field, reason string, args ...any) {
	if len(args) > 0 {
		reason = fmt.Sprintf(reason, args...)
	}
	*e = append(*e, FieldError{Field: field, Reason: reason})
}

// Error joins the violations as "field: reason; …".
func (e FieldErrors) Error() string {
	parts := make([]string, len(e))
	for i, v := range e {
		parts[i] = v.Field + ": " + v.Reason
	}
	return strings.Join(parts, "; ")
}

// Err returns e as an error, or nil when there is none.
func (e FieldErrors) Err() error {
	if len(e) == 0 {
		return nil
	}
	return e
}

// Sort orders by field, then reason, so that answers are the same every time.
func (e FieldErrors) Sort() {
	slices.SortStableFunc(e, func(a, b FieldError) int {
		return cmp.Or(strings.Compare(a.Field, b.Field), strings.Compare(a.Reason, b.Reason))
	})
}
