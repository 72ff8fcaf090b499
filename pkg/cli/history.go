package cli

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	api "github.com/atoll-mesh/atoll/api/client"
)

// changed is one change as the server lists it.
type changed struct {
	Revision  uint64
	Time      time.Time
	Author    string
	Operation string
	Type      string
	Mesh      string
	Name      string
}

func (c *changed) String() string {
	if c.Mesh != "" {
		return c.Type + " " + c.Mesh + "/" + c.Name
	}
	return c.Type + " " + c.Name
}

func (a *app) historyCmd() *cobra.Command {
	var since time.Duration
	var author string
	var size int
	c := &cobra.Command{
		Use:   "history [KIND [NAME]]",
		Short: "Show who changed what, the newest first",
		Long: `Show who changed what, the newest first: of all resources, of a kind, or of one
resource. Each line is one change; those of one revision were made together.

'atollctl get --at REVISION' shows how things were then, and 'atollctl revert'
undoes a revision.`,
		Example: `  atollctl history
  atollctl history meshtimeout slow-reports -m shop
  atollctl history --since 24h --author ci`,
		Args:              args(cobra.MaximumNArgs(2)),
		ValidArgsFunction: a.completeResource,
		RunE: func(cmd *cobra.Command, given []string) error {
			if err := a.checkOutput("jsonpath"); err != nil {
				return err
			}
			mesh := a.mesh // that of the flag only, not of the context
			cl, err := a.connect()
			if err != nil {
				return err
			}
			q := url.Values{"size": {strconv.Itoa(size)}}
			if len(given) > 0 {
				k, err := cl.kindByName(cmd.Context(), given[0])
				if err != nil {
					return err
				}
				q.Set("kind", k.Name)
				if len(given) == 2 {
					q.Set("name", given[1])
					if k.Scope == "Mesh" {
						mesh = a.mesh
					}
				}
			}
			if mesh != "" {
				q.Set("mesh", mesh)
			}
			if author != "" {
				q.Set("author", author)
			}
			if since > 0 {
				q.Set("since", time.Now().Add(-since).UTC().Format(time.RFC3339))
			}
			got, err := raw(cl, func(x *api.Client) (api.GetHistoryAnswer, error) {
				return x.GetHistory(cmd.Context(), api.WithQuery(q))
			})
			if err != nil {
				return err
			}
			return a.showHistory(got.body)
		},
	}
	a.meshFlag(c)
	a.outputFlag(c)
	c.Flags().DurationVar(&since, "since", 0, "only changes of the last so long, such as 24h")
	c.Flags().StringVar(&author, "author", "", "only changes by this user")
	c.Flags().IntVar(&size, "size", 50, "how many changes to show")
	return c
}

func (a *app) showHistory(b []byte) error {
	switch a.output {
	case "table":
	case "json", "yaml":
		return a.printJSON(b)
	default:
		return a.printPath(b)
	}
	var list struct{ Items []changed }
	if err := json.Unmarshal(b, &list); err != nil {
		return err
	}
	var rows [][]string
	for i := range list.Items {
		c := &list.Items[i]
		rows = append(rows, []string{strconv.FormatUint(c.Revision, 10), age(c.Time), orDash(c.Author), c.Operation, c.String()})
	}
	return a.printTable([]string{"REVISION", "AGE", "AUTHOR", "OPERATION", "RESOURCE"}, rows)
}

func (a *app) revertCmd() *cobra.Command {
	var dryRun string
	c := &cobra.Command{
		Use:   "revert REVISION",
		Short: "Undo what a revision changed",
		Long: `Undo what a revision changed, all of it or nothing: what it created is deleted,
what it changed or deleted is as it was before. It is refused when something of it
was changed again since. 'atollctl history' lists revisions.`,
		Example: `  atollctl revert 412 --dry-run=server
  atollctl revert 412`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, given []string) error {
			if _, err := strconv.ParseUint(given[0], 10, 64); err != nil {
				return failWith(exitUsage, "%q is no revision; it is a number of 'atollctl history'", given[0])
			}
			var options []api.Option
			note := ""
			switch dryRun {
			case dryRunNone:
			case dryRunServer:
				options = append(options, api.WithDryRun(true))
				note = " (server dry run)"
			default:
				return failWith(exitUsage, "unknown --dry-run %q; choose %s or %s", dryRun, dryRunNone, dryRunServer)
			}
			cl, err := a.connect()
			if err != nil {
				return err
			}
			var done struct {
				Reverted []changed
				Skipped  []struct {
					changed
					Reason string
				}
			}
			if err := read(cl, &done, func(x *api.Client) (api.PostHistoryRevisionRevertAnswer, error) {
				return x.PostHistoryRevisionRevert(cmd.Context(), given[0], options...)
			}); err != nil {
				return err
			}
			for i := range done.Reverted {
				c := &done.Reverted[i]
				fmt.Fprintf(a.out, "%s: %s%s\n", c, c.Operation, note)
			}
			for i := range done.Skipped {
				s := &done.Skipped[i]
				fmt.Fprintf(a.err, "Warning: %s: left as it is: %s\n", s.String(), s.Reason)
			}
			return nil
		},
	}
	c.Flags().StringVar(&dryRun, "dry-run", dryRunNone, "none or server")
	c.Flags().Lookup("dry-run").NoOptDefVal = dryRunServer
	return c
}
