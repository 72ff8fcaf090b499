package main

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
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
	Rows []row `json:"rows"`
}

// get returns a figure of a case, and whether it was measured.
func (r *report) get(name, what string) (figure, bool) {
	i := slices.IndexFunc(r.Rows, func(row row) bool { return row.Case == name && row.What == what })
	if i < 0 {
		return figure{}, false
	}
	return r.Rows[i].figure, true
}

func (r *report) add(name, what string, f figure) {
	r.Rows = append(r.Rows, row{name, what, f})
	fmt.Fprintf(os.Stderr, "  %s: %s: %v\n", name, what, f)
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
