package main

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
)

// column is a figure that each case of proxies has.
type column struct {
	head, what string
	// grows: it is part of what is said of growth.
	grows bool
}

var columns = []column{
	{"CONVERGE", whatConverge, false},
	{"CPU", whatConvergeCPU, true},
	{"PEAK", whatPeak, true},
	{"IDLE", whatIdle, false},
	{"POLICY → ALL", whatPolicy, false},
	{"CPU", whatPolicyCPU, false},
	{"ONE SERVICE", whatOne, false},
	{"CPU", whatOneCPU, true},
	{"ENDPOINT → ALL", whatEndpoint, false},
	{"CPU", whatEndpointCPU, true},
	{"GENERATOR CPU", whatGenerator, false},
}

var herdColumns = []column{
	{"ALL BACK", whatBack, false},
	{"CPU", whatBackCPU, false},
	{"PEAK", whatBackPeak, false},
	{"ENDPOINTS LOST", whatLost, false},
	{"SENT AGAIN", whatAgain, false},
}

// targets are what Atoll is to stay below, by case; with mutual TLS 1.5 times that.
// Times are in the unit of the figure.
var targets = map[string]map[string]float64{
	"200x100": {
		whatConverge: 1, whatConvergeCPU: 1.2, whatPeak: 90, whatIdle: 0.5,
		whatPolicy: 150, whatPolicyCPU: 0.1, whatEndpoint: 40,
	},
	"1000x100": {
		whatConverge: 4, whatConvergeCPU: 4, whatPeak: 200, whatIdle: 1,
		whatPolicy: 1000, whatPolicyCPU: 0.3, whatEndpoint: 150,
	},
	"2000x1000": {
		whatConverge: 30, whatConvergeCPU: 25, whatPeak: 1000, whatIdle: 1,
		whatPolicy: 8000, whatPolicyCPU: 4, whatOne: 300, whatEndpoint: 300,
	},
	"10000x200/10": {
		whatConverge: 30, whatPeak: 1200, whatIdle: 2, whatPolicy: 3000, whatEndpoint: 1000,
	},
}

// target returns what a figure of a case is to stay below, if there is such a thing.
func (c size) target(what string) (float64, bool) {
	plain := c
	plain.secured = false
	limit, ok := targets[plain.flag()][what]
	if c.secured {
		limit *= 1.5
	}
	return limit, ok
}

// print writes a table of the cases of proxies, what is said of growth between
// them, and a list of all else.
func (r *report) print(out io.Writer, sizes []size) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	shown := map[string]bool{}
	beyond := r.matrix(w, sizes, columns, func(c size) string { return c.flag() }, shown)
	r.matrix(w, sizes, herdColumns, func(c size) string { return c.flag() + ", killed and started" }, shown)
	r.growths(w, sizes)
	rest := slices.DeleteFunc(slices.Clone(r.Rows), func(row row) bool { return shown[row.Case] })
	if len(rest) > 0 {
		fmt.Fprintln(w, "CASE\tMEASURED\tVALUE")
	}
	for _, row := range rest {
		fmt.Fprintf(w, "%s\t%s\t%v\n", row.Case, row.What, row.figure)
	}
	if beyond {
		fmt.Fprintln(w, "\n!: beyond its target")
	}
	return w.Flush()
}

// matrix writes a line for each case that has figures, and reports whether one is
// beyond its target.
func (r *report) matrix(w io.Writer, sizes []size, columns []column, name func(size) string, shown map[string]bool) (beyond bool) {
	sizes = slices.DeleteFunc(slices.Clone(sizes), func(c size) bool {
		return !slices.ContainsFunc(r.Rows, func(row row) bool { return row.Case == name(c) })
	})
	if len(sizes) == 0 {
		return false
	}
	fmt.Fprint(w, "PROXIES × SERVICES")
	for _, c := range columns {
		fmt.Fprint(w, "\t", c.head)
	}
	fmt.Fprintln(w)
	for _, c := range sizes {
		key := name(c)
		shown[key] = true
		fmt.Fprint(w, key)
		for _, col := range columns {
			f, measured := r.get(key, col.what)
			if !measured {
				fmt.Fprint(w, "\t-")
				continue
			}
			fmt.Fprint(w, "\t", f)
			if limit, ok := c.target(col.what); ok && f.Value >= limit {
				beyond = true
				fmt.Fprintf(w, " ! %v", limit)
			}
		}
		fmt.Fprintln(w)
	}
	fmt.Fprintln(w)
	return beyond
}

// growths says how costs grow between cases that differ in one number only.
func (r *report) growths(w io.Writer, sizes []size) {
	for _, a := range sizes {
		for _, b := range sizes {
			if a.secured || b.secured || a.reach < a.services || b.reach < b.services {
				continue
			}
			var more string
			switch {
			case a.services == b.services && a.proxies < b.proxies:
				more = fmt.Sprintf("%.3g times the proxies", float64(b.proxies)/float64(a.proxies))
			case a.proxies == b.proxies && a.services < b.services:
				more = fmt.Sprintf("%.3g times the services", float64(b.services)/float64(a.services))
			default:
				continue
			}
			if _, measured := r.get(b.flag(), whatConverge); !measured {
				continue
			}
			fmt.Fprintf(w, "%s → %s, %s:", a.flag(), b.flag(), more)
			for _, col := range columns {
				from, ok := r.get(a.flag(), col.what)
				to, ok2 := r.get(b.flag(), col.what)
				if col.grows && ok && ok2 && from.Value > 0 {
					fmt.Fprintf(w, " %s %.2g ×;", col.what, to.Value/from.Value)
				}
			}
			fmt.Fprintln(w)
		}
	}
}
