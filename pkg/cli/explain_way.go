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
	Policies                  []struct {
		Kind, Policy, Field string
		Value               any
	}
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
		for _, p := range s.Policies {
			value, err := json.Marshal(p.Value)
			if err != nil {
				return err
			}
			rows = append(rows, []string{"", "", fmt.Sprintf("  %s: %s = %s, from %s", p.Kind, p.Field, value, orDash(p.Policy))})
		}
		if s.Remedy != "" {
			rows = append(rows, []string{"", "", "→ " + s.Remedy})
		}
	}
	return a.printTable([]string{"STEP", "STATE", "WHAT"}, rows)
}
