package fields

import (
	"bytes"
	"fmt"
	"strings"
)

// Table writes the page of a kind and lists the fields for which a golden or
// a test with traffic is missing without a reason.
func Table(s Subject, goldens, tests Record) (page []byte, missing []string) {
	k := s.Kind
	var b bytes.Buffer
	fmt.Fprintf(&b, "# %s\n\nEvery field that a user can set, the golden file that shows what it becomes, and the\ntest that sends traffic through real Envoys with it. Made by `make policy-tables`.\n\n", k.Type)
	b.WriteString("| field | golden | traffic |\n|---|---|---|\n")
	for _, f := range s.Fields {
		e := exceptions[k.Type][f]
		golden, traffic := first(goldens[k.Type][f]), first(tests[k.Type][f])
		for _, x := range []struct {
			what, why string
			cell      *string
		}{{"golden", e.golden, &golden}, {"test with traffic", e.traffic, &traffic}} {
			switch {
			case *x.cell != "" && x.why != "":
				missing = append(missing, fmt.Sprintf("%s %s has a %s, so its exception can go", k.Type, f, x.what))
			case *x.cell == "" && x.why == "":
				missing = append(missing, fmt.Sprintf("%s %s has no %s", k.Type, f, x.what))
			case *x.cell == "":
				*x.cell = x.why
			default:
				*x.cell = "`" + *x.cell + "`"
			}
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", strings.TrimPrefix(string(f), "spec."), golden, traffic)
	}
	return b.Bytes(), missing
}

func first(list []string) string {
	if len(list) == 0 {
		return ""
	}
	out := list[0]
	for _, x := range list[1:] {
		out = min(out, x)
	}
	return out
}
