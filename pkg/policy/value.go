package policy

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/atoll-mesh/atoll/pkg/resource"
)

// Duration is written as a string such as 1m30s.
type Duration time.Duration

// MarshalJSON writes the duration in its normal form.
func (d Duration) MarshalJSON() ([]byte, error) { return json.Marshal(time.Duration(d).String()) }

// UnmarshalJSON reads what time.ParseDuration accepts.
func (d *Duration) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return fmt.Errorf("a duration is a string such as 10s: %w", err)
	}
	v, err := time.ParseDuration(s)
	if err != nil {
		return fmt.Errorf("%q is not a duration such as 500ms, 10s or 1h30m", s)
	}
	*d = Duration(v)
	return nil
}

// JSONSchema describes the string.
func (Duration) JSONSchema() *resource.Schema {
	return &resource.Schema{Type: "string", Check: func(s string) string {
		if _, err := time.ParseDuration(s); err != nil {
			return "must be a duration such as 500ms, 10s or 1h30m"
		}
		return ""
	}}
}

// Or returns the duration, or the default when it is not set. The pointer is
// new, as IR wants it.
func (d *Duration) Or(def time.Duration) *time.Duration {
	if d != nil {
		def = time.Duration(*d)
	}
	return &def
}

// Get returns the duration as IR wants it, nil when it is not set.
func (d *Duration) Get() *time.Duration {
	if d == nil {
		return nil
	}
	return d.Or(0)
}

// DurationOf returns a pointer to a Duration, for specs written in code.
func DurationOf(d time.Duration) *Duration {
	v := Duration(d)
	return &v
}

// IntOrString is an integer, or a number written as a string such as "0.5".
type IntOrString struct {
	Text   bool // written as a string
	String string
	Int    int64
}

// MarshalJSON writes the value as it was given.
func (v IntOrString) MarshalJSON() ([]byte, error) {
	if v.Text {
		return json.Marshal(v.String)
	}
	return strconv.AppendInt(nil, v.Int, 10), nil
}

// UnmarshalJSON reads an integer or any string.
func (v *IntOrString) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		*v = IntOrString{Text: true}
		return json.Unmarshal(b, &v.String)
	}
	*v = IntOrString{}
	return json.Unmarshal(b, &v.Int)
}

// JSONSchema accepts both forms.
func (IntOrString) JSONSchema() *resource.Schema { return &resource.Schema{IntOrString: true} }

// Float is the number; ok is false when the string is none.
func (v IntOrString) Float() (f float64, ok bool) {
	if !v.Text {
		return float64(v.Int), true
	}
	f, err := strconv.ParseFloat(v.String, 64)
	return f, err == nil && f == f
}

// ValidatePercentage adds a violation unless v is a number from 0 to 100.
func ValidatePercentage(errs *resource.FieldErrors, path string, v IntOrString) {
	f, ok := v.Float()
	switch {
	case !ok:
		errs.Add(path, "string must be a valid number")
	case f < 0 || f > 100:
		errs.Add(path, "must be in inclusive range [0.0, 100.0]")
	}
}

// ValidatePositive adds a violation when d is set and not above zero.
func ValidatePositive(errs *resource.FieldErrors, path string, d *Duration) {
	if d != nil && *d <= 0 {
		errs.Add(path, "must be greater than zero when defined")
	}
}

// ValidateNotNegative adds a violation when d is set and below zero.
func ValidateNotNegative(errs *resource.FieldErrors, path string, d *Duration) {
	if d != nil && *d < 0 {
		errs.Add(path, "must not be negative when defined")
	}
}
