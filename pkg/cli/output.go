package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"sigs.k8s.io/yaml"
)

// printTable aligns columns as kubectl does.
func (a *app) printTable(header []string, rows [][]string) error {
	w := tabwriter.NewWriter(a.out, 0, 8, 3, ' ', 0)
	fmt.Fprintln(w, strings.Join(header, "\t"))
	for _, r := range rows {
		fmt.Fprintln(w, strings.Join(r, "\t"))
	}
	return w.Flush()
}

func (a *app) checkOutput(more ...string) error {
	if known := append([]string{"table", "json", "yaml"}, more...); !slices.Contains(known, a.output) {
		return failWith(exitUsage, "unknown output %q; choose one of %s", a.output, strings.Join(known, ", "))
	}
	return nil
}

// printJSON writes JSON in the chosen machine-readable form.
func (a *app) printJSON(b []byte) error {
	if a.output == "yaml" {
		return a.printDocument(b)
	}
	var out bytes.Buffer
	if err := json.Indent(&out, b, "", "  "); err != nil {
		return err
	}
	out.WriteByte('\n')
	_, err := out.WriteTo(a.out)
	return err
}

// printDocument writes JSON as one YAML document.
func (a *app) printDocument(b []byte) error {
	y, err := yaml.JSONToYAML(b)
	if err == nil {
		_, err = fmt.Fprintf(a.out, "%s", y)
	}
	return err
}

// printList writes items as a JSON list or as YAML documents.
func (a *app) printList(items []json.RawMessage, total int) error {
	if a.output == "yaml" {
		for i, item := range items {
			if i > 0 {
				fmt.Fprintln(a.out, "---")
			}
			if err := a.printDocument(item); err != nil {
				return err
			}
		}
		return nil
	}
	if items == nil {
		items = []json.RawMessage{}
	}
	b, err := json.Marshal(map[string]any{"total": total, "items": items, "next": nil})
	if err != nil {
		return err
	}
	return a.printJSON(b)
}

// age says how long ago t was, in one or two units.
func age(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	d := time.Since(t)
	switch {
	case d < 0:
		return "0s"
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
