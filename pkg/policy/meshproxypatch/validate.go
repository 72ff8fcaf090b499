package meshproxypatch

import (
	"errors"
	"fmt"

	"sigs.k8s.io/yaml"

	"github.com/atoll-mesh/atoll/pkg/resource"
)

func validate(s *Spec) resource.FieldErrors {
	var errs resource.FieldErrors
	const p = "spec.default.appendModifications"
	if len(s.Default.AppendModifications) == 0 {
		errs.Add(p, "must not be empty")
		return errs
	}
	for i, m := range s.Default.AppendModifications {
		m.validate(&errs, fmt.Sprintf("%s[%d]", p, i))
	}
	return errs
}

func (m Modification) validate(errs *resource.FieldErrors, p string) {
	n := 0
	for _, set := range []bool{m.Cluster != nil, m.Listener != nil, m.NetworkFilter != nil, m.HTTPFilter != nil, m.VirtualHost != nil} {
		if set {
			n++
		}
	}
	if n != 1 {
		errs.Add(p, "exactly one of cluster, listener, networkFilter, httpFilter and virtualHost must be set")
	}
	if c := m.Cluster; c != nil {
		c.Change.validate(errs, p+".cluster", c.Operation)
		if c.Operation == Add && c.Match != nil {
			errs.Add(p+".cluster.match", "must not be defined")
		}
	}
	if l := m.Listener; l != nil {
		l.Change.validate(errs, p+".listener", l.Operation)
		if l.Operation == Add && l.Match != nil {
			errs.Add(p+".listener.match", "must not be defined")
		}
	}
	m.NetworkFilter.validate(errs, p+".networkFilter")
	m.HTTPFilter.validate(errs, p+".httpFilter")
	if v := m.VirtualHost; v != nil {
		v.Change.validate(errs, p+".virtualHost", v.Operation)
		if v.Operation == Add && v.Match.Name != nil {
			errs.Add(p+".virtualHost.match.name", "must not be defined")
		}
	}
}

func (f *Filter) validate(errs *resource.FieldErrors, p string) {
	if f == nil {
		return
	}
	f.Change.validate(errs, p, f.Operation)
	switch f.Operation {
	case AddBefore, AddAfter, Patch:
		if f.Match == nil || f.Match.Name == nil || *f.Match.Name == "" {
			errs.Add(p+".match.name", "must be defined")
		}
	}
}

func (c *Change) validate(errs *resource.FieldErrors, p, operation string) {
	switch operation {
	case Remove:
		if c.Value != nil {
			errs.Add(p+".value", "must not be defined")
		}
	case Patch:
		if (c.Value == nil) == (len(c.JSONPatches) == 0) {
			errs.Add(p, "exactly one of value and jsonPatches must be defined")
		}
		if c.Value != nil {
			if err := isMessage(*c.Value); err != nil {
				errs.Add(p+".value", "must be YAML of a message of Envoy: %s", err.Error())
			}
		}
	case Add, AddFirst, AddLast, AddBefore, AddAfter:
		if c.Value == nil || *c.Value == "" {
			errs.Add(p+".value", "must be defined")
		} else if err := isMessage(*c.Value); err != nil {
			errs.Add(p+".value", "must be YAML of a message of Envoy: %s", err.Error())
		}
	default:
		errs.Add(p+".operation", "unknown operation %q", operation)
	}
	for i, j := range c.JSONPatches {
		j.validate(errs, fmt.Sprintf("%s.jsonPatches[%d]", p, i))
	}
}

func (j JSONPatch) validate(errs *resource.FieldErrors, p string) {
	if j.Op == "remove" && (j.Path == "" || j.Path == "/") {
		errs.Add(p+".path", "must not be the whole document")
	}
	value, from := false, false
	switch j.Op {
	case "add", "replace":
		value = true
	case "move", "copy":
		from = true
	case "remove":
	default:
		errs.Add(p+".op", "must be one of add, remove, replace, move, copy")
		return
	}
	for _, f := range []struct {
		name      string
		set, want bool
	}{{"value", j.Value != nil, value}, {"from", j.From != nil, from}} {
		switch {
		case f.want && !f.set:
			errs.Add(p+"."+f.name, "must be defined")
		case !f.want && f.set:
			errs.Add(p+"."+f.name, "must not be defined")
		}
	}
}

// isMessage checks what can be known without Envoy's messages: that it is a
// mapping. Whether Envoy knows its members shows when it is applied.
func isMessage(text string) error {
	var m map[string]any
	if err := yaml.Unmarshal([]byte(text), &m); err != nil {
		return errors.New("it is not a mapping")
	}
	return nil
}
