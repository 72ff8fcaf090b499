package cli

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

func (a *app) explainCmd() *cobra.Command {
	c := &cobra.Command{
		Use:   "explain [KIND[.FIELD...] | FROM TO]",
		Short: "Say what a kind or a field is, or what happens on the way from a proxy to a service",
		Long: `With FROM and TO: walk the way of a request from a proxy (a Dataplane, or a service)
to what it calls (a hostname, a virtual address, a service or a KRI, with :port where
there are several): name, address, listener, route, endpoints, identity, permission and
what Envoy refused. Each step says which policy fields have a part in it. The first
step that is broken comes with a remedy, and makes the exit code 1. The control plane
of the proxy's zone answers.

Otherwise: say what a kind or one of its fields is: type, meaning, what may stand there and
what stands there when nothing is given. Without argument, list the kinds.

It is what the server says of itself (GET /api/openapi), so that it fits the
server's version.`,
		Example: `  atollctl explain
  atollctl explain meshtimeout
  atollctl explain meshtimeout.spec.to.default.http
  atollctl explain web-01 backend.mesh.local:80`,
		Args:              args(cobra.MaximumNArgs(2)),
		ValidArgsFunction: a.completeKind,
		RunE: func(cmd *cobra.Command, given []string) error {
			if len(given) == 2 {
				return a.explainWay(cmd, given[0], given[1])
			}
			cl, err := a.connect()
			if err != nil {
				return err
			}
			if len(given) == 0 {
				kinds, err := cl.allKinds(cmd.Context())
				if err != nil {
					return err
				}
				var rows [][]string
				for _, k := range kinds {
					rows = append(rows, []string{k.Path, orDash(k.ShortName), k.Scope, k.Name})
				}
				return a.printTable([]string{"NAME", "SHORT", "SCOPE", "KIND"}, rows)
			}
			name, path, _ := strings.Cut(given[0], ".")
			k, err := cl.kindByName(cmd.Context(), name)
			if err != nil {
				return err
			}
			d, err := cl.describe(cmd.Context())
			if err != nil {
				return err
			}
			s := d.Components.Schemas[k.Name]
			if s == nil {
				return failWith(exitFailed, "the server does not describe %s", k.Name)
			}
			at := k.Name
			for _, step := range pathSteps(path) {
				next := member(s, step)
				if next == nil {
					return failWith(exitNotFound, "%s has no field %q; it has %s", at, step, strings.Join(fieldNames(s), ", "))
				}
				s, at = next, at+"."+step
			}
			a.explain(at, s)
			return nil
		},
	}
	a.meshFlag(c)
	a.outputFlag(c)
	return c
}

// inside is what lists and maps hold, or the schema itself.
func inside(s *schema) *schema {
	for {
		switch {
		case s.Items != nil:
			s = s.Items
		case s.Additional != nil && len(s.Properties) == 0:
			s = s.Additional
		default:
			return s
		}
	}
}

// member finds a field; an index or the key of a map may be left out.
func member(s *schema, name string) *schema {
	if p := inside(s).Properties[name]; p != nil {
		return p
	}
	if strings.Trim(name, "0123456789") == "" && s.Items != nil {
		return s.Items
	}
	if s.Additional != nil {
		return s.Additional
	}
	return nil
}

func fieldNames(s *schema) []string {
	names := slices.Sorted(maps.Keys(inside(s).Properties))
	if len(names) == 0 {
		return []string{"none"}
	}
	return names
}

// typeText names a type as people say it.
func typeText(s *schema) string {
	switch {
	case s.Items != nil:
		return "list of " + typeText(s.Items)
	case s.Additional != nil && len(s.Properties) == 0:
		return "map of " + typeText(s.Additional)
	case s.Const != nil:
		return fmt.Sprintf("%q", s.Const)
	}
	switch t := s.Type.(type) {
	case string:
		if s.Format != "" && t == "string" {
			return t + " (" + s.Format + ")"
		}
		return t
	case []any:
		var names []string
		for _, n := range t {
			names = append(names, fmt.Sprint(n))
		}
		return strings.Join(names, " or ")
	}
	return "anything"
}

func (a *app) explain(at string, s *schema) {
	fmt.Fprintf(a.out, "%s: %s\n", at, typeText(s))
	if s.Description != "" {
		fmt.Fprintf(a.out, "\n%s\n", wrap(s.Description, 78))
	}
	if rules := constraints(s); len(rules) > 0 {
		fmt.Fprintln(a.out)
		for _, r := range rules {
			fmt.Fprintln(a.out, r)
		}
	}
	of := inside(s)
	if len(of.Properties) == 0 {
		return
	}
	fmt.Fprintln(a.out, "\nFIELDS")
	width := 0
	for name := range of.Properties {
		width = max(width, len(name))
	}
	for _, name := range fieldNames(of) {
		p := of.Properties[name]
		notes := ""
		if slices.Contains(of.Required, name) {
			notes = " -required-"
		}
		if p.ReadOnly {
			notes += " -computed-"
		}
		fmt.Fprintf(a.out, "  %-*s  <%s>%s\n", width, name, typeText(p), notes)
		if p.Description != "" {
			fmt.Fprintf(a.out, "      %s\n", firstSentence(p.Description))
		}
	}
}

// constraints says what may stand in a field.
func constraints(s *schema) []string {
	var out []string
	if len(s.Enum) > 0 {
		var values []string
		for _, v := range s.Enum {
			values = append(values, fmt.Sprint(v))
		}
		out = append(out, "One of: "+strings.Join(values, ", "))
	}
	if s.Default != nil {
		out = append(out, fmt.Sprintf("Default: %v", s.Default))
	}
	for _, l := range []struct {
		name  string
		value *float64
	}{{"At least", s.Minimum}, {"At most", s.Maximum}} {
		if l.value != nil {
			out = append(out, fmt.Sprintf("%s: %v", l.name, *l.value))
		}
	}
	for _, l := range []struct {
		name  string
		value *int
	}{{"Items at least", s.MinItems}, {"Items at most", s.MaxItems}, {"Characters at least", s.MinLength}, {"Characters at most", s.MaxLength}} {
		if l.value != nil {
			out = append(out, fmt.Sprintf("%s: %d", l.name, *l.value))
		}
	}
	if s.Pattern != "" {
		out = append(out, "Looks like: "+s.Pattern)
	}
	return out
}

func firstSentence(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	if i := strings.Index(text, ". "); i > 0 {
		return text[:i+1]
	}
	return text
}

// wrap breaks text into lines of a width.
func wrap(text string, width int) string {
	var b strings.Builder
	line := 0
	for _, word := range strings.Fields(text) {
		switch {
		case line == 0:
		case line+1+len(word) > width:
			b.WriteByte('\n')
			line = 0
		default:
			b.WriteByte(' ')
			line++
		}
		b.WriteString(word)
		line += len(word)
	}
	return b.String()
}
