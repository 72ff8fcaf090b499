// Command atoll-cp is the control plane: a global or a zone, by its settings.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/atoll-mesh/atoll/pkg/config"
	"github.com/atoll-mesh/atoll/pkg/cp"
	"github.com/atoll-mesh/atoll/pkg/observe"
)

// gcPercent lets the heap grow by two fifths between collections instead of by all
// of it: a control plane holds much that lives long, and memory is what it is short
// of, not CPU. GOGC in the environment wins.
const gcPercent = 40

func main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := root().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "Error:", err)
		os.Exit(1)
	}
}

func root() *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:   "atoll-cp",
		Short: "The control plane of Atoll: a global, a zone of it, or a zone of its own",
		Long: `The control plane of Atoll: a global, a zone of it, or a zone of its own.

Settings come from a YAML file (--config-file) and from the environment, which
wins: the key store.postgres.host is ATOLL_STORE_POSTGRES_HOST. Without any, it is
a zone of its own that keeps its state in a local SQLite file.`,
		Example: `  atoll-cp run
  ATOLL_MODE=global ATOLL_STORE_POSTGRES_HOST=db atoll-cp run
  atoll-cp run --config-file zone-east.yaml`,
		SilenceUsage: true, SilenceErrors: true,
	}
	c.PersistentFlags().StringVarP(&file, "config-file", "c", "", "YAML file of settings")
	c.AddCommand(
		&cobra.Command{
			Use: "run", Short: "Run the control plane", Args: cobra.NoArgs,
			Example: `  atoll-cp run --config-file zone-east.yaml`,
			RunE: func(cmd *cobra.Command, _ []string) error {
				cfg, warnings, err := config.Load(file, os.Environ())
				if err != nil {
					return err
				}
				log, err := observe.NewLogger(os.Stderr, cfg.Log.Level, cfg.Log.Format)
				if err != nil {
					return err
				}
				for _, w := range warnings {
					log.Warn("settings: " + w)
				}
				if err := cfg.EnsureCertificate(); err != nil {
					return err
				}
				return cp.Run(cmd.Context(), cfg, log)
			},
		},
		migrateCommand(&file),
		&cobra.Command{
			Use: "version", Short: "Print the version", Args: cobra.NoArgs, Example: `  atoll-cp version`,
			Run: func(cmd *cobra.Command, _ []string) {
				fmt.Fprintln(cmd.OutOrStdout(), observe.ReadBuild())
			},
		},
	)
	return c
}

func migrateCommand(file *string) *cobra.Command {
	migrate := &cobra.Command{
		Use: "migrate", Short: "Change the schema of the database",
		Example: `  atoll-cp migrate up`,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	migrate.AddCommand(&cobra.Command{
		Use: "up", Short: "Bring the schema of PostgreSQL up to date, which 'run' does by itself too, unless store.postgres.requireMigrated is set", Args: cobra.NoArgs,
		Example: `  ATOLL_MODE=global ATOLL_STORE_POSTGRES_HOST=db atoll-cp migrate up`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, _, err := config.Load(*file, os.Environ())
			if err != nil {
				return err
			}
			if err := cp.Migrate(cmd.Context(), cfg); err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), "the schema is up to date")
			return nil
		},
	})
	return migrate
}
