package cli

import (
	"fmt"

	"github.com/spf13/cobra"
)

func (a *app) zoneCmd() *cobra.Command {
	var yes bool
	adopt := &cobra.Command{
		Use:   "adopt --yes",
		Short: "Let a zone follow the global that it is connected to now",
		Long: `Let a zone follow the global that it is connected to now.

A zone takes resources from the global that it met first and refuses those of any
other, because an empty or wrong one would make it delete everything. After a
global was replaced on purpose, this makes the zone accept the new one: what the
zone has from the old global and the new one does not have is then deleted.

It is asked of the zone's own control plane.`,
		Example: `  atollctl zone adopt --yes --server http://zone-east:5681`,
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !yes {
				return failWith(exitUsage, "the zone would delete what the new global does not have; confirm with --yes")
			}
			cl, err := a.connect()
			if err != nil {
				return err
			}
			if _, err := cl.api(nil).PostZoneItsAdopt(cmd.Context()); err != nil {
				return err
			}
			fmt.Fprintln(a.out, "the zone follows the next global that it hears from")
			return nil
		},
	}
	adopt.Flags().BoolVar(&yes, "yes", false, "confirm")
	return group("zone", "Take zones out of the traffic, and repair their relation to a global", `  atollctl zone drain east --watch
  atollctl zone adopt --yes`, a.zoneDrainCmd(), a.zoneUndrainCmd(), adopt)
}
