package cli

import (
	"fmt"
	"slices"

	"github.com/spf13/cobra"
)

func (a *app) deleteCmd() *cobra.Command {
	var files []string
	var vars map[string]string
	var missingOK bool
	c := &cobra.Command{
		Use:   "delete (TYPE NAME | -f FILE)",
		Short: "Delete resources",
		Long: `Delete a resource, or all that files hold, in reverse order of the files.

What depends on a resource goes with it: a Mesh takes along what is in it.`,
		Example: `  atollctl delete meshtimeout slow-reports -m shop
  atollctl delete -f policies/ --ignore-not-found`,
		ValidArgsFunction: a.completeResource,
		RunE: func(cmd *cobra.Command, given []string) error {
			if (len(given) != 2) == (len(files) == 0) {
				return failWith(exitUsage, "give either TYPE and NAME or -f FILE\nUsage: %s", cmd.UseLine())
			}
			var docs []*document
			if len(files) > 0 {
				var err error
				if docs, err = a.documents(cmd.Context(), files, vars); err != nil {
					return err
				}
			}
			cl, err := a.connect()
			if err != nil {
				return err
			}
			remove := func(t target) error {
				err := t.remove(cmd.Context(), cl)
				switch {
				case isNotFound(err) && missingOK:
					return nil
				case isNotFound(err):
					return a.noSuch(t.kind, t.name)
				case err != nil:
					return err
				}
				fmt.Fprintf(a.out, "%s deleted\n", t)
				return nil
			}
			if docs == nil {
				k, err := cl.kindByName(cmd.Context(), given[0])
				if err != nil {
					return err
				}
				return remove(target{k, a.mesh, given[1]})
			}
			slices.Reverse(docs)
			return a.each(docs, "deleted", func(d *document) error {
				t, err := a.targetOf(cmd.Context(), cl, d)
				if err != nil {
					return err
				}
				return remove(t)
			})
		},
	}
	fileFlags(c, &files, &vars, "delete")
	c.Flags().BoolVar(&missingOK, "ignore-not-found", false, "what is not there is no failure")
	a.meshFlag(c)
	return c
}
