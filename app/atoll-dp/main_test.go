package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/atoll-mesh/atoll/pkg/agent"
)

// parse reads a command line and an environment.
func parse(t *testing.T, env map[string]string, args ...string) (agent.Config, error) {
	t.Helper()
	c := agent.Defaults()
	list := settings(&c)
	cmd := &cobra.Command{Use: "run", RunE: func(cmd *cobra.Command, _ []string) error {
		return fromEnvironment(cmd, list, func(k string) string { return env[k] })
	}, SilenceErrors: true, SilenceUsage: true}
	register(cmd.Flags(), list)
	cmd.SetArgs(args)
	return c, cmd.Execute()
}

func TestSettings(t *testing.T) {
	env := map[string]string{
		"ATOLL_CONTROL_PLANE_URL":                     "https://env:5678",
		"ATOLL_DATAPLANE_DRAIN_TIME":                  "7s",
		"ATOLL_READINESS_PORT":                        "19902",
		"ATOLL_DATAPLANE_RUNTIME_CONCURRENCY":         "3",
		"ATOLL_DATAPLANE_RUNTIME_REUSE_PORT_ENABLED":  "false",
		"ATOLL_DATAPLANE_RESOURCES_MAX_MEMORY_BYTES":  "1024",
		"ATOLL_DATAPLANE_RUNTIME_ENVOY_LOG_LEVEL":     "",
		"ATOLL_CONTROL_PLANE_TLS_SKIP_VERIFY":         "true",
		"ATOLL_DATAPLANE_RUNTIME_RESOURCE_PATH":       "env.yaml",
		"KUMA_DATAPLANE_RUNTIME_TOKEN_PATH":           "ignored",
		"ATOLL_DATAPLANE_RUNTIME_METRICS_CERT_PATH":   "m.crt",
		"ATOLL_CONTROL_PLANE_RETRY_MAX_DURATION":      "1m",
		"ATOLL_DATAPLANE_RESILIENT_COMPONENT_UNKNOWN": "ignored",
	}
	c, err := parse(t, env, "--cp-address", "https://flag:5678", "-d", "flag.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if c.ControlPlane.Address != "https://flag:5678" || c.DataplaneFile != "flag.yaml" {
		t.Errorf("a flag must win: %q %q", c.ControlPlane.Address, c.DataplaneFile)
	}
	if c.DrainTime != 7*time.Second || c.ReadinessPort != 19902 || c.Envoy.Concurrency != 3 || c.ReusePort ||
		c.MaxMemoryBytes != 1024 || !c.ControlPlane.SkipVerify || c.MetricsCert != "m.crt" || c.ControlPlane.RetryMax != time.Minute {
		t.Errorf("environment: %+v", c)
	}
	if c.TokenFile != "" || c.Envoy.LogLevel != "info" {
		t.Errorf("defaults: %q %q", c.TokenFile, c.Envoy.LogLevel)
	}
}

func TestBadEnvironmentIsReportedWhole(t *testing.T) {
	_, err := parse(t, map[string]string{
		"ATOLL_READINESS_PORT": "x", "ATOLL_DATAPLANE_DRAIN_TIME": "7", "ATOLL_DATAPLANE_RUNTIME_IPV6_ENABLED": "maybe",
	})
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{"ATOLL_READINESS_PORT", "ATOLL_DATAPLANE_DRAIN_TIME", "such as 30s", "ATOLL_DATAPLANE_RUNTIME_IPV6_ENABLED"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v: does not mention %s", err, want)
		}
	}
}

func TestVariables(t *testing.T) {
	got, err := variables([]string{"a=1", "b.c=x=y"})
	if err != nil || got["a"] != "1" || got["b.c"] != "x=y" {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := variables([]string{"a"}); err == nil {
		t.Error("accepted a variable without value")
	}
}

func TestCommands(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"run"}, "give --dataplane-file"},
		{[]string{"run", "--name", "a", "--mesh", "b", "--dataplane", "type: Dataplane"}, "exists already"},
		{[]string{"run", "--dataplane-var", "x"}, "key=value"},
		{[]string{"run", "extra"}, "extra"},
		{[]string{"wait", "--timeout", "0s"}, "must be positive"},
		{[]string{"wait", "--url", "http://192.0.2.1/ready"}, "on this machine"},
		{[]string{"--log-level", "loud", "run"}, "log level"},
	} {
		cmd := root(func(string) string { return "" })
		cmd.SetArgs(c.args)
		if err := cmd.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: error %v, want %q", c.args, err, c.want)
		}
	}
	var out bytes.Buffer
	cmd := root(func(string) string { return "" })
	cmd.SetArgs([]string{"version"})
	cmd.SetOut(&out)
	if err := cmd.ExecuteContext(t.Context()); err != nil || !strings.HasPrefix(out.String(), "Atoll ") {
		t.Errorf("%q, %v", out.String(), err)
	}
}
