// Package agent runs beside a workload: it asks the control plane for Envoy's
// bootstrap document, starts Envoy, keeps it running, says whether it is ready
// and drains it when the workload goes.
package agent

import (
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"regexp"
	"strings"
	"time"
)

// Config is what an agent is told. Its zero values are not usable; start from
// Defaults.
type Config struct {
	ControlPlane ControlPlane

	Name, Mesh    string // of a Dataplane that exists; empty when one is brought
	ProxyType     string
	Dataplane     string            // the resource, YAML or JSON, as a template
	DataplaneFile string            // or the file that has it; "-" is standard input
	Vars          map[string]string // values for the template

	Token     string // content
	TokenFile string // or the file that has it

	WorkDir string // empty: a temporary one, removed at the end

	DrainTime     time.Duration // from the first sign of stopping to Envoy's end
	ReadinessPort uint32
	// BaseBackoff and MaxBackoff bound the time between starts of an Envoy that
	// dies again and again. The first restart is immediate, and so is that of an
	// Envoy which ran for longer.
	BaseBackoff, MaxBackoff time.Duration

	Envoy Envoy

	MetricsCert, MetricsKey string
	SystemCA                string
	SpireSocket             string
	IPv6                    bool
	BindOutbounds           bool
	StrictInboundPorts      bool
	ReusePort               bool
	MaxMemoryBytes          uint64 // 0: the limit of the control group
	// OTLPPipe has Envoy hand what is for collectors to the agent, which sends it.
	OTLPPipe bool
	// ConfigInterval is the time between looks at what the control plane tells the
	// agent; 0 is dynamic.DefaultInterval.
	ConfigInterval time.Duration
	// Getenv reads the variables OTEL_*. Nil: those of the process.
	Getenv func(string) string
	// TransparentProxy is the redirection that is in place, nil for none.
	TransparentProxy map[string]any
	// Metadata is passed on to the control plane as it is.
	Metadata map[string]string
	// Pod is set in Kubernetes: the agent ends with its Envoy, since the kubelet
	// restarts both, and readiness is answered on all addresses.
	Pod bool

	Version Version
	Log     *slog.Logger
}

// ControlPlane says how to reach the control plane of the zone.
type ControlPlane struct {
	Address    string // https://host:5678
	CAFile     string
	CA         string // PEM, instead of a file
	SkipVerify bool
	// RetryBackoff is the pause between attempts and RetryMax the time after
	// which the agent gives up.
	RetryBackoff, RetryMax time.Duration
}

// Envoy says how to run the proxy.
type Envoy struct {
	Binary            string // name or path
	Concurrency       uint   // worker threads; 0: one per processor
	LogLevel          string
	ComponentLogLevel string
}

// Version is the agent's own.
type Version struct {
	Version   string `json:"version"`
	GitTag    string `json:"gitTag"`
	GitCommit string `json:"gitCommit"`
	BuildDate string `json:"buildDate"`
}

// Defaults are the settings of an agent that was told nothing.
func Defaults() Config {
	return Config{
		ControlPlane: ControlPlane{
			Address: "https://localhost:5678", RetryBackoff: 3 * time.Second, RetryMax: 5 * time.Minute,
		},
		ProxyType:          "dataplane",
		DrainTime:          30 * time.Second,
		ReadinessPort:      9902,
		BaseBackoff:        5 * time.Second,
		MaxBackoff:         time.Minute,
		Envoy:              Envoy{Binary: "envoy", LogLevel: "info"},
		IPv6:               true,
		StrictInboundPorts: true,
		ReusePort:          true,
		OTLPPipe:           true,
		Log:                slog.Default(),
	}
}

// check returns every setting that cannot work, in words that say what to do.
func (c *Config) check() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if u, err := url.Parse(c.ControlPlane.Address); err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http") {
		bad("--cp-address %q: must be a URL such as https://control-plane:5678", c.ControlPlane.Address)
	}
	if c.ControlPlane.CAFile != "" && c.ControlPlane.CA != "" {
		bad("--ca-cert-file and ATOLL_CONTROL_PLANE_CA_CERT: give one of them")
	}
	document := c.Dataplane != "" || c.DataplaneFile != ""
	switch {
	case c.Dataplane != "" && c.DataplaneFile != "":
		bad("--dataplane and --dataplane-file: give one of them")
	case document && (c.Name != "" || c.Mesh != ""):
		bad("--name and --mesh belong to a Dataplane that exists already; with --dataplane or --dataplane-file they come from the resource")
	case !document && (c.Name == "" || c.Mesh == ""):
		bad("no Dataplane: give --dataplane-file, or --name and --mesh of one that exists")
	}
	if c.ProxyType != "dataplane" {
		bad("--proxy-type %q: must be dataplane", c.ProxyType)
	}
	if c.Token != "" && c.TokenFile != "" {
		bad("--dataplane-token and --dataplane-token-file: give one of them")
	}
	if c.DrainTime < 0 {
		bad("--drain-time: must not be negative")
	}
	if c.ReadinessPort == 0 || c.ReadinessPort > 65535 {
		bad("ATOLL_READINESS_PORT %d: must be a port number", c.ReadinessPort)
	}
	return errors.Join(errs...)
}

// ca returns the certificates that the control plane's is checked with, nil when
// none were given.
func (c *ControlPlane) ca() ([]byte, error) {
	if c.CAFile == "" {
		return []byte(c.CA), nil
	}
	b, err := os.ReadFile(c.CAFile)
	if err != nil {
		return nil, fmt.Errorf("--ca-cert-file: %w", err)
	}
	return b, nil
}

var jwt = regexp.MustCompile(`^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$`)

// token returns the content of the token, empty when none was given.
func (c *Config) token() (string, error) {
	text, from := c.Token, "--dataplane-token"
	if c.TokenFile != "" {
		b, err := os.ReadFile(c.TokenFile)
		if err != nil {
			return "", fmt.Errorf("--dataplane-token-file: %w", err)
		}
		text, from = string(b), c.TokenFile
	}
	text = strings.TrimSpace(text)
	if (text != "" || c.TokenFile != "") && !jwt.MatchString(text) {
		return "", fmt.Errorf("%s: does not hold a token: three parts of letters and digits separated by dots, on one line; make one with `atollctl generate dataplane-token`", from)
	}
	return text, nil
}
