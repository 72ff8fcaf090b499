package main

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/atoll-mesh/atoll/pkg/agent"
)

// envPrefix is that of all environment variables.
const envPrefix = "ATOLL_"

// setting is a value that comes from a flag or an environment variable; a flag
// on the command line wins.
type setting struct {
	flag, short string // empty: environment only
	env         string // without prefix; empty: flag only
	into        any    // *string, *bool, *uint, *uint32, *uint64 or *time.Duration; holds the default
	usage       string
}

// settings lists everything that agents can be told by one value.
func settings(c *agent.Config) []setting {
	return []setting{
		{"cp-address", "", "CONTROL_PLANE_URL", &c.ControlPlane.Address, "URL of the control plane's server for proxies"},
		{"ca-cert-file", "", "CONTROL_PLANE_CA_CERT_FILE", &c.ControlPlane.CAFile, "CA that signed the control plane's certificate, or that certificate if it signed itself (PEM)"},
		{"", "", "CONTROL_PLANE_CA_CERT", &c.ControlPlane.CA, ""},
		{"skip-verify", "", "CONTROL_PLANE_TLS_SKIP_VERIFY", &c.ControlPlane.SkipVerify, "do not check the control plane's certificate when asking for the bootstrap document"},
		{"", "", "CONTROL_PLANE_RETRY_BACKOFF", &c.ControlPlane.RetryBackoff, ""},
		{"", "", "CONTROL_PLANE_RETRY_MAX_DURATION", &c.ControlPlane.RetryMax, ""},
		{"name", "", "DATAPLANE_NAME", &c.Name, "name of the Dataplane, if it exists already"},
		{"mesh", "", "DATAPLANE_MESH", &c.Mesh, "mesh of the Dataplane, if it exists already"},
		{"proxy-type", "", "DATAPLANE_PROXY_TYPE", &c.ProxyType, "type of proxy: dataplane"},
		{"drain-time", "", "DATAPLANE_DRAIN_TIME", &c.DrainTime, "time from the first sign of stopping to Envoy's end"},
		{"", "", "READINESS_PORT", &c.ReadinessPort, ""},
		{"", "", "DATAPLANE_RESILIENT_COMPONENT_BASE_BACKOFF", &c.BaseBackoff, ""},
		{"", "", "DATAPLANE_RESILIENT_COMPONENT_MAX_BACKOFF", &c.MaxBackoff, ""},
		{"binary-path", "", "DATAPLANE_RUNTIME_BINARY_PATH", &c.Envoy.Binary, "Envoy: name of an executable on PATH, or a path"},
		{"concurrency", "", "DATAPLANE_RUNTIME_CONCURRENCY", &c.Envoy.Concurrency, "worker threads of Envoy; 0: one per processor it may use"},
		{"work-dir", "", "DATAPLANE_RUNTIME_WORK_DIR", &c.WorkDir, "folder for sockets and Envoy's configuration (default a temporary one, removed at the end)"},
		{"dataplane-token-file", "", "DATAPLANE_RUNTIME_TOKEN_PATH", &c.TokenFile, "file with the token that says who this proxy is"},
		{"dataplane-token", "", "DATAPLANE_RUNTIME_TOKEN", &c.Token, "the token itself; other users of this machine may see it"},
		{"dataplane", "", "DATAPLANE_RUNTIME_RESOURCE", &c.Dataplane, "the Dataplane to register, YAML or JSON, as a template"},
		{"dataplane-file", "d", "DATAPLANE_RUNTIME_RESOURCE_PATH", &c.DataplaneFile, "file with the Dataplane to register, as a template; - is standard input"},
		{"envoy-log-level", "", "DATAPLANE_RUNTIME_ENVOY_LOG_LEVEL", &c.Envoy.LogLevel, "log level of Envoy (default: the agent's)"},
		{"envoy-component-log-level", "", "DATAPLANE_RUNTIME_ENVOY_COMPONENT_LOG_LEVEL", &c.Envoy.ComponentLogLevel, "log levels of parts of Envoy, such as upstream:debug"},
		{"metrics-cert-path", "", "DATAPLANE_RUNTIME_METRICS_CERT_PATH", &c.MetricsCert, "certificate of the metrics listener"},
		{"metrics-key-path", "", "DATAPLANE_RUNTIME_METRICS_KEY_PATH", &c.MetricsKey, "key of the metrics listener"},
		{"bind-outbounds", "", "DATAPLANE_RUNTIME_BIND_OUTBOUNDS", &c.BindOutbounds, "listen on the addresses of services"},
		{"", "", "DATAPLANE_RUNTIME_DYNAMIC_SYSTEM_CA_PATH", &c.SystemCA, ""},
		{"", "", "DATAPLANE_RUNTIME_IPV6_ENABLED", &c.IPv6, ""},
		{"", "", "DATAPLANE_RUNTIME_STRICT_INBOUND_PORTS_ENABLED", &c.StrictInboundPorts, ""},
		{"", "", "DATAPLANE_RUNTIME_REUSE_PORT_ENABLED", &c.ReusePort, ""},
		{"", "", "DATAPLANE_RUNTIME_OTEL_PIPE_ENABLED", &c.OTLPPipe, ""},
		{"", "", "DATAPLANE_RUNTIME_DYNAMIC_CONFIGURATION_REFRESH_INTERVAL", &c.ConfigInterval, ""},
		{"", "", "DATAPLANE_RESOURCES_MAX_MEMORY_BYTES", &c.MaxMemoryBytes, ""},
	}
}

// register makes flags of the settings that have one.
func register(flags *pflag.FlagSet, list []setting) {
	for _, s := range list {
		if s.flag == "" {
			continue
		}
		usage := s.usage
		if s.env != "" {
			usage += " [" + envPrefix + s.env + "]"
		}
		switch p := s.into.(type) {
		case *string:
			flags.StringVarP(p, s.flag, s.short, *p, usage)
		case *bool:
			flags.BoolVarP(p, s.flag, s.short, *p, usage)
		case *uint:
			flags.UintVarP(p, s.flag, s.short, *p, usage)
		case *time.Duration:
			flags.DurationVarP(p, s.flag, s.short, *p, usage)
		}
	}
}

// fromEnvironment sets what the command line did not, and reports every value
// that cannot be read.
func fromEnvironment(cmd *cobra.Command, list []setting, getenv func(string) string) error {
	var errs []error
	for _, s := range list {
		value := getenv(envPrefix + s.env)
		if s.env == "" || value == "" || s.flag != "" && cmd.Flags().Changed(s.flag) {
			continue
		}
		if err := set(s.into, value); err != nil {
			errs = append(errs, fmt.Errorf("%s%s: %w", envPrefix, s.env, err))
		}
	}
	return errors.Join(errs...)
}

func set(into any, value string) error {
	var err error
	switch p := into.(type) {
	case *string:
		*p = value
	case *bool:
		if *p, err = strconv.ParseBool(value); err != nil {
			return fmt.Errorf("must be true or false, got %q", value)
		}
	case *uint:
		n, e := strconv.ParseUint(value, 10, 32)
		*p, err = uint(n), e
	case *uint32:
		n, e := strconv.ParseUint(value, 10, 32)
		*p, err = uint32(n), e
	case *uint64:
		*p, err = strconv.ParseUint(value, 10, 64)
	case *time.Duration:
		if *p, err = time.ParseDuration(value); err != nil {
			return fmt.Errorf("must be a duration such as 30s, got %q", value)
		}
	}
	if err != nil {
		return fmt.Errorf("must be a number that is not negative, got %q", value)
	}
	return nil
}
