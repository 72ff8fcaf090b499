package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	api "github.com/atoll-mesh/atoll/api/client"
	"github.com/atoll-mesh/atoll/pkg/failover"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

func (a *app) failoverCmd() *cobra.Command {
	return group("failover", "Tell beforehand what the loss of a zone would do",
		`  atollctl failover check --zone east
  atollctl failover simulate --lose east`,
		a.failoverCheckCmd(), a.failoverSimulateCmd())
}

// foresight is where a look ahead gets its resources, and what it is about.
type foresight struct {
	*app
	files      []string
	mesh, zone string
}

func (f *foresight) flags(c *cobra.Command) {
	c.Flags().StringSliceVarP(&f.files, "filename", "f", nil, "files, folders, URLs or - to look at instead of asking a control plane")
	c.Flags().StringVarP(&f.mesh, "mesh", "m", "", "look at this mesh only (default: all)")
	f.outputFlag(c)
}

// inputs reads the files.
func (f *foresight) inputs(ctx context.Context) (failover.Inputs, error) {
	docs, err := f.readDocuments(ctx, f.files, nil)
	if err != nil {
		return failover.Inputs{}, err
	}
	var list [][]byte
	for _, d := range docs {
		b, err := json.Marshal(d.value)
		if err != nil {
			return failover.Inputs{}, err
		}
		list = append(list, b)
	}
	in, err := failover.FromDocuments(list)
	in.Now = time.Now()
	var wrong *failover.DocumentError
	if errors.As(err, &wrong) {
		var fields resource.FieldErrors
		at := ""
		if errors.As(err, &fields) && len(fields) > 0 {
			at = fields[0].Field
		}
		return in, failWith(exitRejected, "%s: %w", docs[wrong.Index].at(at), wrong.Err)
	}
	return in, err
}

// options are what the control plane is asked about.
func (f *foresight) options(of ...api.Option) []api.Option {
	if f.mesh != "" {
		of = append(of, api.WithMesh(f.mesh))
	}
	return of
}

// answer prints what was found, or returns false when a table is wanted.
func (f *foresight) answer(v any) (done bool, err error) {
	if f.output == "table" || f.output == "wide" {
		return false, nil
	}
	b, err := json.Marshal(v)
	if err != nil {
		return true, err
	}
	return true, f.printJSON(b)
}

type gapList struct {
	Total  int             `json:"total"`
	Items  []failover.Gap  `json:"items"`
	Losses []failover.Loss `json:"losses"`
}

func (a *app) failoverCheckCmd() *cobra.Command {
	f := &foresight{app: a}
	failOn := failover.Error
	c := &cobra.Command{
		Use:   "check",
		Short: "List the reasons why services would not survive the loss of a zone",
		Long: `List the reasons why services would not survive the loss of a zone.

For each service and each zone that could be lost, everything that would keep
other zones from serving is a gap with a stable code. docs/failover.md has a
section for each code.

Exits with 0 when no gap is as severe as --fail-on, with 1 when one is, and with
2 or more when it could not look. With -f it looks at files, as they would be
applied to a global, and asks no server.`,
		Example: `  atollctl failover check --zone east -m shop
  atollctl failover check -f deploy/ --fail-on warning`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !slices.Contains([]string{failover.Error, failover.Warning, "never"}, failOn) {
				return failWith(exitUsage, "unknown --fail-on %q; choose error, warning or never", failOn)
			}
			if err := f.checkOutput("wide"); err != nil {
				return err
			}
			list, err := f.gaps(cmd)
			if err != nil {
				return err
			}
			if done, err := f.answer(list); err != nil {
				return err
			} else if !done {
				if err := f.printGaps(list); err != nil {
					return err
				}
			}
			severe := 0
			for _, g := range list.Items {
				if g.Severity == failover.Error || failOn == failover.Warning {
					severe++
				}
			}
			if severe > 0 && failOn != "never" {
				return failWith(exitFailed, "%d of %d gaps are as severe as %s", severe, len(list.Items), failOn)
			}
			return nil
		},
	}
	f.flags(c)
	c.Flags().StringVar(&f.zone, "zone", "", "only what the loss of this zone would do (default: each)")
	c.Flags().StringVar(&failOn, "fail-on", failOn, "severity that makes the exit code 1: error, warning or never")
	return c
}

func (f *foresight) gaps(cmd *cobra.Command) (*gapList, error) {
	if len(f.files) == 0 {
		cl, err := f.connect()
		if err != nil {
			return nil, err
		}
		options := f.options()
		if f.zone != "" {
			options = append(options, api.WithZone(f.zone))
		}
		var list gapList
		return &list, read(cl, &list, func(x *api.Client) (api.GetFailoverGapsAnswer, error) {
			return x.GetFailoverGaps(cmd.Context(), options...)
		})
	}
	in, err := f.inputs(cmd.Context())
	if err != nil {
		return nil, err
	}
	r, err := failover.Check(in, failover.Query{Mesh: f.mesh, Zone: f.zone})
	if err != nil {
		return nil, lookedFor(err)
	}
	return &gapList{len(r.Gaps), r.Gaps, r.Losses}, nil
}

// lookedFor gives the exit code of what is not there.
func lookedFor(err error) error {
	if errors.Is(err, failover.ErrNoZone) {
		return failWith(exitNotFound, "%w", err)
	}
	return err
}

func (f *foresight) printGaps(list *gapList) error {
	if len(list.Items) == 0 {
		_, err := fmt.Fprintf(f.out, "no gaps: %d services and zones looked at\n", len(list.Losses))
		return err
	}
	header := []string{"CODE", "SEVERITY", "MESH", "SERVICE", "LOST ZONE", "CLIENTS IN", "REASON"}
	if f.output == "wide" {
		header = append(header, "RESOURCE")
	}
	var rows [][]string
	remedies := map[string][]string{}
	for _, g := range list.Items {
		row := []string{g.Code, g.Severity, g.Mesh, orDash(g.Service), orDash(g.Zone), orDash(strings.Join(g.Clients, ",")), g.Message}
		if f.output == "wide" {
			row = append(row, g.Resource)
		}
		rows = append(rows, row)
		if !slices.Contains(remedies[g.Code], g.Remedy) {
			remedies[g.Code] = append(remedies[g.Code], g.Remedy)
		}
	}
	if err := f.printTable(header, rows); err != nil {
		return err
	}
	fmt.Fprintln(f.out)
	for _, g := range list.Items {
		for _, remedy := range remedies[g.Code] {
			fmt.Fprintf(f.out, "%s → %s\n", g.Code, remedy)
		}
		delete(remedies, g.Code)
	}
	return nil
}

func (a *app) failoverSimulateCmd() *cobra.Command {
	f := &foresight{app: a}
	c := &cobra.Command{
		Use:   "simulate --lose ZONE",
		Short: "Show where requests go before and after a zone is lost",
		Long: `Show where requests go before and after a zone is lost.

For every destination and the clients of every other zone: the zones of the
endpoints with their share of the requests, and behind it the zones that are next.
It starts from the world as it is: what is drained, or not reached, now is marked,
and serves only what nobody else can.
It comes from the code that compiles for the clients' proxies; traffic is not
touched. -o json and -o yaml show each endpoint.`,
		Example: `  atollctl failover simulate --lose east -m shop
  atollctl failover simulate --lose east -f deploy/ -o yaml`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.zone == "" {
				return failWith(exitUsage, "name the zone with --lose ZONE")
			}
			if err := f.checkOutput("wide"); err != nil {
				return err
			}
			s, err := f.simulate(cmd)
			if err != nil {
				return err
			}
			if done, err := f.answer(s); done || err != nil {
				return err
			}
			header := []string{"MESH", "DESTINATION", "KIND", "PORT", "CLIENTS IN", "OUTCOME", "BEFORE", "AFTER"}
			if f.output == "wide" {
				header = append(header, "RESOURCE", "CLIENT")
			}
			var rows [][]string
			for _, m := range s.Moves {
				kind := m.Kind
				if m.Of != "" {
					kind += " of " + m.Of
				}
				row := []string{m.Mesh, m.Name, kind, m.Port, m.Zone, m.Outcome, shares(m.Before), shares(m.After)}
				if f.output == "wide" {
					row = append(row, m.Destination, m.Client)
				}
				rows = append(rows, row)
			}
			return f.printTable(header, rows)
		},
	}
	f.flags(c)
	c.Flags().StringVar(&f.zone, "lose", "", "the zone that is lost")
	return c
}

func (f *foresight) simulate(cmd *cobra.Command) (*failover.Simulation, error) {
	if len(f.files) == 0 {
		cl, err := f.connect()
		if err != nil {
			return nil, err
		}
		var s failover.Simulation
		return &s, read(cl, &s, func(x *api.Client) (api.GetFailoverSimulateAnswer, error) {
			return x.GetFailoverSimulate(cmd.Context(), f.options(api.WithLose(f.zone))...)
		})
	}
	in, err := f.inputs(cmd.Context())
	if err != nil {
		return nil, err
	}
	s, err := failover.Simulate(in, f.zone, f.mesh)
	return s, lookedFor(err)
}

// shares are the zones of targets in order of priority: "east 67%, west 33%; then
// north".
func shares(list []failover.Target) string {
	type part struct {
		zone     string
		priority uint32
		standing string
		share    float64
	}
	var parts []part
	for _, t := range list {
		i := slices.IndexFunc(parts, func(p part) bool {
			return p.zone == t.Zone && p.priority == t.Priority && p.standing == t.Standing
		})
		if i < 0 {
			i = len(parts)
			parts = append(parts, part{zone: t.Zone, priority: t.Priority, standing: t.Standing})
		}
		parts[i].share += t.Share
	}
	var b strings.Builder
	for i, p := range parts {
		switch {
		case i == 0:
		case p.priority != parts[i-1].priority:
			b.WriteString("; then ")
		default:
			b.WriteString(", ")
		}
		b.WriteString(orDash(p.zone))
		if p.priority == 0 {
			fmt.Fprintf(&b, " %.0f%%", p.share*100)
		}
		if p.standing != "" {
			fmt.Fprintf(&b, " (%s)", p.standing)
		}
	}
	return orDash(b.String())
}
