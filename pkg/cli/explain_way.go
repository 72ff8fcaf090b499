package cli

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	api "github.com/atoll-mesh/atoll/api/client"
)

// wayStep is one step of a way through the mesh.
type wayStep struct {
	Name, State, Text, Remedy string
	Details                   []string
	Policies                  []wayField
}

// wayField is a field of a policy that has a part in a step.
type wayField struct {
	Kind, Policy, Field string
	Value               any
}

// fieldsByPolicy is a line for each policy, so that what is broken stays in sight.
func fieldsByPolicy(fields []wayField) ([]string, error) {
	var order []string
	lines := map[string]string{}
	for _, f := range fields {
		value, err := json.Marshal(f.Value)
		if err != nil {
			return nil, err
		}
		from := f.Kind + " " + orDash(f.Policy)
		if _, known := lines[from]; !known {
			order = append(order, from)
			lines[from] = from + ":"
		}
		lines[from] += fmt.Sprintf(" %s=%s", f.Field, value)
	}
	for i, from := range order {
		order[i] = lines[from]
	}
	return order, nil
}

// explainWay shows what happens between a proxy and what it calls.
func (a *app) explainWay(cmd *cobra.Command, from, to string) error {
	if err := a.checkOutput("wide", "jsonpath"); err != nil {
		return err
	}
	cl, err := a.connect()
	if err != nil {
		return err
	}
	got, err := raw(cl, func(x *api.Client) (api.GetMeshesMeshItsExplainAnswer, error) {
		return x.GetMeshesMeshItsExplain(cmd.Context(), a.mesh, api.WithFrom(from), api.WithTo(to))
	})
	if err != nil {
		return err
	}
	b := got.body
	var report struct {
		OK     bool
		Broken string
		Steps  []wayStep
	}
	if err := json.Unmarshal(b, &report); err != nil {
		return err
	}
	switch kind, _, _ := strings.Cut(a.output, "="); kind {
	case "jsonpath":
		err = a.printPath(b)
	case "json", "yaml":
		err = a.printJSON(b)
	default:
		err = a.printWay(report.Steps)
	}
	if err == nil && !report.OK {
		for _, s := range report.Steps {
			if s.State == "broken" {
				return failWith(exitFailed, "the way is broken at step %q: %s", report.Broken, s.Text)
			}
		}
		return failWith(exitFailed, "the way is broken at step %q", report.Broken)
	}
	return err
}

func (a *app) printWay(steps []wayStep) error {
	var rows [][]string
	for _, s := range steps {
		rows = append(rows, []string{s.Name, s.State, s.Text})
		for _, d := range s.Details {
			rows = append(rows, []string{"", "", "  " + d})
		}
		fields, err := fieldsByPolicy(s.Policies)
		if err != nil {
			return err
		}
		for _, line := range fields {
			rows = append(rows, []string{"", "", "  " + line})
		}
		if s.Remedy != "" {
			rows = append(rows, []string{"", "", "→ " + s.Remedy})
		}
	}
	return a.printTable([]string{"STEP", "STATE", "WHAT"}, rows)
}
