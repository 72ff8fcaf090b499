package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"sigs.k8s.io/yaml"
)

// printTable aligns columns as kubectl does.
func (a *app) printTable(header []string, rows [][]string) error {
	t := a.table(header, rows)
	return t.print(rows)
}

// table prints rows under a header, in columns that stay as wide as they were.
type table struct {
	a      *app
	widths []int
}

const columnGap = 3

// table prints the header and makes columns wide enough for the rows.
func (a *app) table(header []string, rows [][]string) *table {
	t := &table{a: a, widths: make([]int, len(header))}
	for _, r := range append([][]string{header}, rows...) {
		for i, cell := range r {
			t.widths[i] = max(t.widths[i], utf8.RuneCountInString(cell))
		}
	}
	_ = t.print([][]string{header})
	return t
}

func (t *table) print(rows [][]string) error {
	var b strings.Builder
	for _, r := range rows {
		for i, cell := range r {
			b.WriteString(t.a.painted(cell))
			if i < len(r)-1 {
				b.WriteString(strings.Repeat(" ", max(0, t.widths[i]-utf8.RuneCountInString(cell))+columnGap))
			}
		}
		b.WriteByte('\n')
	}
	_, err := io.WriteString(t.a.out, b.String())
	return err
}

// colours of words that say how something is, on terminals.
var colours = map[string]string{
	"Online": green, "Offline": red, "Partially degraded": yellow, "Disabled": yellow, "Rejected": red,
	"Available": green, "Unavailable": red, "DELETED": red, "ADDED": green, "MODIFIED": yellow,
}

const (
	red    = "\x1b[31m"
	green  = "\x1b[32m"
	yellow = "\x1b[33m"
	plainC = "\x1b[0m"
)

func (a *app) painted(cell string) string {
	if c := colours[cell]; c != "" {
		return a.paint(c, cell)
	}
	return cell
}

// paint colours text when somebody looks at it.
func (a *app) paint(colour, text string) string {
	if !a.coloured() {
		return text
	}
	return colour + text + plainC
}

func (a *app) coloured() bool {
	f, ok := a.out.(*os.File)
	if !ok || os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

func (a *app) checkOutput(more ...string) error {
	kind, _, _ := strings.Cut(a.output, "=")
	known := append([]string{"table", "json", "yaml"}, more...)
	if !slices.Contains(known, kind) {
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
	b, err := listJSON(items, total)
	if err != nil {
		return err
	}
	return a.printJSON(b)
}

func listJSON(items []json.RawMessage, total int) ([]byte, error) {
	if items == nil {
		items = []json.RawMessage{}
	}
	return json.Marshal(map[string]any{"total": total, "items": items, "next": nil})
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

// until says how long it takes to t, in one or two units.
func until(t time.Time) string {
	d := time.Until(t)
	if d < 0 {
		return "expired"
	}
	return age(time.Now().Add(-d))
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
