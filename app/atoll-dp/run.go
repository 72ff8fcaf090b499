package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/atoll-mesh/atoll/pkg/agent"
	"github.com/atoll-mesh/atoll/pkg/observe"
)

func runCommand(l *logging, getenv func(string) string) *cobra.Command {
	c := agent.Defaults()
	c.Envoy.LogLevel = ""
	list := settings(&c)
	var vars, redirect []string
	var transparent bool
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Start Envoy and keep it running until told to stop",
		Long: `Start Envoy and keep it running until told to stop.

SIGTERM and SIGINT let connections end for --drain-time and then stop Envoy; a
second signal stops it at once. SIGUSR2 drains inbound listeners only.`,
		Example: `  atoll-dp run --cp-address https://zone:5678 --ca-cert-file cp.crt \
    --dataplane-file backend.yaml --dataplane-var address=192.0.2.7 \
    --dataplane-token-file backend.token`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := fromEnvironment(cmd, list, getenv); err != nil {
				return err
			}
			log, out, err := l.open()
			if err != nil {
				return err
			}
			c.Log = log
			if c.Vars, err = variables(vars); err != nil {
				return err
			}
			if !cmd.Flags().Changed("transparent-proxy") && getenv(envPrefix+"DATAPLANE_RUNTIME_TRANSPARENT_PROXY") == "true" {
				transparent = true
			}
			if c.TransparentProxy, err = agent.TransparentProxyConfig(transparent, redirect, cmd.InOrStdin()); err != nil {
				return err
			}
			pod, namespace := getenv("POD_NAME"), getenv("POD_NAMESPACE")
			c.Pod = pod != ""
			if c.Name == "" && c.Dataplane == "" && c.DataplaneFile == "" && pod != "" {
				c.Name = pod + "." + namespace
			}
			c.IPv6 = c.IPv6 && agent.HasIPv6()
			if ip := getenv("HOST_IP"); ip != "" {
				c.Metadata = map[string]string{"HOST_IP": ip}
			}
			if getenv(envPrefix+"DATAPLANE_RUNTIME_SPIRE_SUPPORTED") == "true" {
				c.SpireSocket = getenv(envPrefix + "DATAPLANE_RUNTIME_SPIRE_SOCKET_PATH")
			}
			if c.Envoy.LogLevel == "" {
				c.Envoy.LogLevel = envoyLevel(l.level)
			}
			b := observe.ReadBuild()
			c.Version = agent.Version{Version: observe.APIVersion, GitTag: b.Version, GitCommit: b.Commit, BuildDate: b.Date}
			signals := make(chan os.Signal, 4)
			signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGUSR2)
			defer signal.Stop(signals)
			var envoyOut io.Writer = os.Stdout
			if l.path != "" {
				envoyOut = out
			}
			return agent.Run(cmd.Context(), c, signals, agent.Streams{In: cmd.InOrStdin(), Out: envoyOut, Err: out})
		},
	}
	register(cmd.Flags(), list)
	cmd.Flags().StringArrayVarP(&vars, "dataplane-var", "v", nil, "value for the Dataplane's template, as key=value; repeatable")
	cmd.Flags().BoolVar(&transparent, "transparent-proxy", false, "connections are redirected to the proxy on the usual ports")
	cmd.Flags().StringArrayVar(&redirect, "transparent-proxy-config", nil, "how connections are redirected: files (YAML or JSON), - is standard input; later ones win")
	return cmd
}

func variables(list []string) (map[string]string, error) {
	vars := make(map[string]string, len(list))
	for _, s := range list {
		key, value, ok := strings.Cut(s, "=")
		if !ok || key == "" {
			return nil, fmt.Errorf("--dataplane-var %q: must be key=value", s)
		}
		vars[key] = value
	}
	return vars, nil
}

// envoyLevel is Envoy's name of a level of the agent.
func envoyLevel(level string) string {
	if level == "warn" {
		return "warning"
	}
	return level
}

func waitCommand() *cobra.Command {
	c := agent.WaitConfig{}
	cmd := &cobra.Command{
		Use:   "wait",
		Short: "Wait until the proxy on this machine is ready",
		Example: `  atoll-dp wait --url http://localhost:9902/ready --timeout 1m
  atoll-dp wait --unix-socket <work dir>/kuma-envoy-admin.sock`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if c.Timeout <= 0 || c.CheckFrequency <= 0 || c.RequestTimeout <= 0 {
				return errors.New("--timeout, --check-frequency and --request-timeout: must be positive")
			}
			return agent.Wait(cmd.Context(), c)
		},
	}
	f := cmd.Flags()
	f.StringVar(&c.URL, "url", "http://localhost:9901/ready", "page that answers 200 when the proxy is ready")
	f.StringVar(&c.UnixSocket, "unix-socket", "", "unix socket to ask instead, such as that of Envoy's admin in the work folder")
	f.DurationVar(&c.Timeout, "timeout", 3*time.Minute, "time to wait")
	f.DurationVar(&c.CheckFrequency, "check-frequency", time.Second, "time between looks")
	f.DurationVar(&c.RequestTimeout, "request-timeout", 500*time.Millisecond, "time for one look")
	return cmd
}
