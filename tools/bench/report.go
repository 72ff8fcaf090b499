package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"text/tabwriter"
	"time"
)

// idleTime is how long idleness is watched; the mean counts.
var idleTime = 30 * time.Second

// rounds is how often a change is measured; 0: not at all.
var rounds = 10

// figure is one measured value.
type figure struct {
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
}

func (f figure) String() string {
	if f.Unit == "" {
		return fmt.Sprintf("%.0f", f.Value)
	}
	return fmt.Sprintf("%.2f %s", f.Value, f.Unit)
}

func seconds(d time.Duration) figure { return figure{d.Seconds(), "s"} }
func millis(d time.Duration) figure  { return figure{float64(d.Microseconds()) / 1000, "ms"} }
func percent(p float64) figure       { return figure{p, "%"} }
func megabytes(mb float64) figure    { return figure{mb, "MB"} }
func count(n int64) figure           { return figure{float64(n), ""} }

// row is one line of the table.
type row struct {
	Case string `json:"case"`
	What string `json:"what"`
	figure
}

// report collects what was measured and shows it as it comes.
type report struct {
	out  io.Writer
	Rows []row `json:"rows"`
}

func (r *report) add(name, what string, f figure) {
	r.Rows = append(r.Rows, row{name, what, f})
	fmt.Fprintf(os.Stderr, "  %s: %s: %v\n", name, what, f)
}

// growth states by which factor a figure grew from one case to another.
func (r *report) growth(from, to, what string) {
	get := func(name string) float64 {
		for _, row := range r.Rows {
			if row.Case == name && row.What == what {
				return row.Value
			}
		}
		return 0
	}
	if a, b := get(from), get(to); a > 0 {
		r.add(from+" → "+to, "growth: "+what, figure{b / a, "×"})
	}
}

func (r *report) print() error {
	w := tabwriter.NewWriter(r.out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "CASE\tMEASURED\tVALUE")
	for _, row := range r.Rows {
		fmt.Fprintf(w, "%s\t%s\t%v\n", row.Case, row.What, row.figure)
	}
	return w.Flush()
}

func (r *report) save(path string) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(b, '\n'), 0o644)
}

func median(d []time.Duration) time.Duration {
	s := slices.Sorted(slices.Values(d))
	if len(s) == 0 {
		return 0
	}
	return s[len(s)/2]
}
