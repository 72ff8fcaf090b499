// Command atoll-dp runs Envoy beside a workload.
package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"github.com/atoll-mesh/atoll/pkg/observe"
)

func main() {
	cmd := root(os.Getenv)
	if err := cmd.ExecuteContext(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "atoll-dp:", err)
		os.Exit(1)
	}
}

// logging is where the agent's own messages go. Envoy writes to the same output.
type logging struct{ level, path string }

func (l *logging) open() (*slog.Logger, io.Writer, error) {
	var w io.Writer = os.Stderr
	if l.path != "" {
		f, err := os.OpenFile(l.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
		if err != nil {
			return nil, nil, fmt.Errorf("--log-output-path: %w", err)
		}
		w = f
	}
	log, err := observe.NewLogger(w, l.level, "text")
	return log, w, err
}

func root(getenv func(string) string) *cobra.Command {
	l := &logging{}
	cmd := &cobra.Command{
		Use:           "atoll-dp",
		Short:         "Run Envoy beside a workload and keep it in a mesh",
		Example:       "  atoll-dp run --cp-address https://zone:5678 --dataplane-file backend.yaml --dataplane-token-file backend.token",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	cmd.PersistentFlags().StringVar(&l.level, "log-level", "info", "debug, info, warn, error or off")
	cmd.PersistentFlags().StringVar(&l.path, "log-output-path", "", "file to append messages to instead of standard error")
	cmd.AddCommand(runCommand(l, getenv), waitCommand(), versionCommand())
	return cmd
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), observe.ReadBuild())
			return err
		},
	}
}
