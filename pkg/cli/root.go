// Package cli is atollctl. It knows the REST API and, but for what it looks at in
// files, nothing of the control plane's code; which kinds exist it learns from the
// server.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"

	"github.com/spf13/cobra"
)

// Exit codes of atollctl.
const (
	exitOK          = 0
	exitFailed      = 1 // anything that has no code of its own
	exitUsage       = 2 // wrong flags or arguments
	exitNotFound    = 3 // the server has no such resource
	exitRejected    = 4 // the input is wrong: syntax, structure or meaning
	exitDenied      = 5 // not authenticated, or not allowed
	exitUnreachable = 6 // no answer from the server
)

const exitCodeHelp = `
Exit codes:
  0 done  1 failed, or found a difference or a fault  2 wrong usage  3 not found
  4 input rejected  5 not allowed  6 server unreachable
`

// exitError carries the exit code of a failure.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

func failWith(code int, format string, args ...any) error {
	return &exitError{code, fmt.Errorf(format, args...)}
}

// app is one invocation: its streams, flags and, once needed, its client.
type app struct {
	in       io.Reader
	out, err io.Writer

	server     string
	token      string
	tokenFile  string
	caFile     string
	skipVerify bool
	clientCert string
	clientKey  string
	noConfig   bool
	logLevel   string
	configFile string
	context    string
	timeout    time.Duration
	mesh       string
	output     string
}

// Main runs atollctl and returns its exit code.
func Main(args []string, in io.Reader, out, errOut io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	context.AfterFunc(ctx, stop) // a second control-C ends what does not end by itself
	a := &app{in: in, out: out, err: errOut}
	root := a.root()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errOut)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	fmt.Fprintln(errOut, "Error:", err)
	var e *exitError
	if errors.As(err, &e) {
		return e.code
	}
	return exitFailed
}

func (a *app) root() *cobra.Command {
	c := &cobra.Command{
		Use:   "atollctl",
		Short: "Apply, show and inspect the resources of an Atoll control plane",
		Long: `Apply, show and inspect the resources of an Atoll control plane.

The server is the one of --server, else of $ATOLL_SERVER, else of the current
context ("atollctl config"), else http://localhost:5681.

Colours are used on terminals only, and not when $NO_COLOR is set.`,
		Example: `  atollctl apply -f timeout.yaml
  atollctl get meshtimeouts -m default
  atollctl inspect zones`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	f := c.PersistentFlags()
	f.StringVar(&a.server, "server", "", "URL of the control plane's API (default $ATOLL_SERVER)")
	f.StringVar(&a.token, "token", "", "user token to authenticate with (default $ATOLL_TOKEN)")
	f.StringVar(&a.tokenFile, "token-file", "", "file that holds the user token")
	f.StringVar(&a.caFile, "ca-cert-file", "", "PEM file of the authority that signed the server's certificate")
	f.BoolVar(&a.skipVerify, "skip-verify", false, "accept any server certificate; for trying things out only")
	f.StringVar(&a.clientCert, "client-cert-file", "", "PEM file of the certificate to authenticate with")
	f.StringVar(&a.clientKey, "client-key-file", "", "PEM file of its private key")
	f.StringVar(&a.logLevel, "log-level", "off", "what to tell on stderr about calls: off, info (each call) or debug (headers too)")
	f.BoolVar(&a.noConfig, "no-config", false, "ignore the file of contexts")
	f.StringVar(&a.configFile, "config-file", "", "file of contexts (default $XDG_CONFIG_HOME/atoll/config)")
	f.StringVar(&a.context, "context", "", "context to use instead of the current one")
	f.DurationVar(&a.timeout, "api-timeout", time.Minute, "how long one call may take")
	c.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return failWith(exitUsage, "%w\nSee '%s --help'", err, cmd.CommandPath())
	})
	c.SetUsageTemplate(c.UsageTemplate() + exitCodeHelp)
	c.AddCommand(
		a.getCmd(), a.applyCmd(), a.diffCmd(), a.deleteCmd(), a.explainCmd(),
		a.inspectCmd(), a.checkCmd(), a.failoverCmd(), a.historyCmd(), a.revertCmd(), a.exportCmd(),
		a.generateCmd(), a.installCmd(), a.uninstallCmd(), a.zoneCmd(), a.configCmd(), a.versionCmd(),
	)
	return c
}

// args wraps a check of arguments so that a violation exits with exitUsage.
func args(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, given []string) error {
		if err := check(cmd, given); err != nil {
			return failWith(exitUsage, "%w\nUsage: %s", err, cmd.UseLine())
		}
		return nil
	}
}

// group is a command that only holds others.
func group(use, short, example string, sub ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{
		Use: use, Short: short, Example: example,
		RunE: func(cmd *cobra.Command, given []string) error {
			if len(given) > 0 {
				return failWith(exitUsage, "unknown command %q for %q\nSee '%s --help'", given[0], cmd.CommandPath(), cmd.CommandPath())
			}
			return cmd.Help()
		},
	}
	c.AddCommand(sub...)
	return c
}

func (a *app) meshFlag(c *cobra.Command) {
	c.Flags().StringVarP(&a.mesh, "mesh", "m", "", "mesh of the resource (default: that of the context, else default)")
}

func (a *app) outputFlag(c *cobra.Command) {
	c.Flags().StringVarP(&a.output, "output", "o", "table", "table, wide, json, yaml, name or jsonpath=TEMPLATE")
}
