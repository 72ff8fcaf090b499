package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/atoll-mesh/atoll/pkg/observe"
)

func (a *app) versionCmd() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version of atollctl and of the server", Example: `  atollctl version`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			fmt.Fprintf(a.out, "Client: %s\n", observe.ReadBuild())
			cl, err := a.connect()
			if err != nil {
				return err
			}
			var s index
			if err := cl.whoAnswers(cmd.Context(), &s); err != nil {
				fmt.Fprintf(a.err, "Warning: %v\n", err) // the client's version was asked for too
				return nil
			}
			fmt.Fprintf(a.out, "Server: %s %s (API %s)\n", s.Product, orDash(s.AtollVersion), s.Version)
			return nil
		},
	}
}
