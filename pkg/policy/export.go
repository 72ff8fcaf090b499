package policy

import (
	"cmp"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/atoll-mesh/atoll/pkg/ir"
	"github.com/atoll-mesh/atoll/pkg/kind"
)

// Signal is a sort of data that collectors take.
type Signal string

// Signals.
const (
	Traces  Signal = "traces"
	Logs    Signal = "logs"
	Metrics Signal = "metrics"
)

// OTLPEnv is which OTEL_* variables an agent has, without their values.
type OTLPEnv struct {
	Shared  OTLPEnvPart `json:"shared,omitzero"` // for every signal
	Traces  OTLPEnvPart `json:"traces,omitzero"`
	Logs    OTLPEnvPart `json:"logs,omitzero"`
	Metrics OTLPEnvPart `json:"metrics,omitzero"`
}

// OTLPEnvPart is the variables of one signal, or those for all.
type OTLPEnvPart struct {
	Present  bool     `json:"present,omitempty"`
	Endpoint bool     `json:"endpoint,omitempty"` // names a collector
	Kinds    []string `json:"kinds,omitempty"`    // of what is set
}

func (e *OTLPEnv) of(s Signal) *OTLPEnvPart {
	switch s {
	case Traces:
		return &e.Traces
	case Logs:
		return &e.Logs
	}
	return &e.Metrics
}

// export is what an agent is told about one collector.
type export struct {
	Name     string     `json:"name"`
	Socket   string     `json:"socketPath"`
	Endpoint string     `json:"endpoint"`
	HTTP     bool       `json:"useHTTP,omitempty"`
	HTTPS    bool       `json:"useHTTPS,omitempty"`
	Path     string     `json:"path,omitempty"`
	Env      exportEnv  `json:"envPolicy"`
	Traces   *exportOne `json:"traces,omitempty"`
	Logs     *exportOne `json:"logs,omitempty"`
	Metrics  *exportOne `json:"metrics,omitempty"`
}

type exportEnv struct {
	Mode                 string `json:"mode"`
	Precedence           string `json:"precedence"`
	AllowSignalOverrides bool   `json:"allowSignalOverrides"`
}

// exportOne is one signal for a collector.
type exportOne struct {
	Enabled         bool     `json:"enabled"`
	EnvInputPresent bool     `json:"envInputPresent,omitempty"`
	OverrideKinds   []string `json:"overrideKinds,omitempty"`
	MissingFields   []string `json:"missingFields,omitempty"`
	BlockedReasons  []string `json:"blockedReasons,omitempty"`
	RefreshInterval string   `json:"refreshInterval,omitempty"`
}

// Reasons for which variables do not count or a signal is not exported.
const (
	envDisabled       = "EnvDisabledByPolicy"
	envNoOverrides    = "SignalOverridesDisallowed"
	envRequired       = "RequiredEnvMissing"        // not exported
	envManyCollectors = "MultipleBackendsForSignal" // not exported
)

// Exported is what is decided about one collector; a signal that no policy sends
// there is nil.
type Exported struct {
	Name                  string // of the MeshOpenTelemetryBackend
	EnvAllowed            bool   // OTEL_* variables of the agent count
	Traces, Logs, Metrics *ExportedSignal
}

// ExportedSignal is what is decided about one signal for one collector.
type ExportedSignal struct {
	EnvInputPresent                              bool
	State                                        string // one of those below
	OverrideKinds, MissingFields, BlockedReasons []string
}

// States of an ExportedSignal.
const (
	ExportReady     = "ready"     // it is sent
	ExportBlocked   = "blocked"   // variables are required, and those that are there do not count
	ExportMissing   = "missing"   // variables are required
	ExportAmbiguous = "ambiguous" // variables are there, and several collectors
)

// ExportPlan is what is decided about all collectors that the agent sends to.
func (o *Own) ExportPlan() []Exported {
	var out []Exported
	for _, e := range o.exports {
		out = append(out, Exported{
			Name: e.Name, EnvAllowed: e.Env.Mode != kind.EnvDisabled,
			Traces: e.Traces.told(), Logs: e.Logs.told(), Metrics: e.Metrics.told(),
		})
	}
	return out
}

func (x *exportOne) told() *ExportedSignal {
	if x == nil {
		return nil
	}
	out := &ExportedSignal{
		EnvInputPresent: x.EnvInputPresent, State: ExportReady,
		OverrideKinds: x.OverrideKinds, MissingFields: x.MissingFields, BlockedReasons: x.BlockedReasons,
	}
	switch {
	case x.Enabled:
	case slices.Contains(x.BlockedReasons, envManyCollectors):
		out.State = ExportAmbiguous
	case x.EnvInputPresent && slices.Contains(x.BlockedReasons, envNoOverrides):
		out.State = ExportBlocked
	default:
		out.State = ExportMissing
	}
	return out
}

func (e *export) of(s Signal) **exportOne {
	switch s {
	case Traces:
		return &e.Traces
	case Logs:
		return &e.Logs
	}
	return &e.Metrics
}

// Exports tells whether the agent sends on what is for collectors.
func (f *Facts) Exports() bool { return f != nil && f.OTLPFolder != "" && f.ConfigSocket != "" }

// Endpoint is the host and port of a collector, as the proxy reaches it.
func (f *Facts) Endpoint(c *Collector) string {
	return net.JoinHostPort(cmp.Or(c.Address, f.NodeAddress, "127.0.0.1"), strconv.FormatUint(uint64(c.Port), 10))
}

// Export has the agent send a signal to a collector, and returns the unix socket
// where the agent takes it by OTLP over gRPC. ok is false for agents that do not
// do that. The interval is that of metrics.
func (o *Own) Export(c *Collector, s Signal, interval time.Duration) (socket string, ok bool) {
	if !o.Exports() {
		return "", false
	}
	socket = SocketPath(o.OTLPFolder, "kuma-otel-"+CleanName(c.Name))
	at := slices.IndexFunc(o.exports, func(e *export) bool { return e.Name == c.Name })
	if at < 0 {
		at = len(o.exports)
		o.exports = append(o.exports, &export{
			Name: c.Name, Socket: socket, Endpoint: o.Endpoint(c),
			HTTP: c.HTTP, HTTPS: c.HTTPS(), Path: c.Path,
			Env: exportEnv{Mode: c.EnvMode, Precedence: c.EnvPrecedence, AllowSignalOverrides: c.EnvSignals},
		})
	}
	one := o.exports[at].of(s)
	*one = &exportOne{}
	if s == Metrics {
		(*one).RefreshInterval = interval.String()
	}
	o.planExports(s)
	o.Configure("otel", map[string]any{"backends": o.exports})
	return socket, true
}

// planExports decides about a signal, for all collectors that get it.
func (o *Own) planExports(s Signal) {
	var of []*export
	for _, e := range o.exports {
		if *e.of(s) != nil {
			of = append(of, e)
		}
	}
	own := o.OTLPEnv.of(s)
	for _, e := range of {
		x := *e.of(s)
		interval := x.RefreshInterval
		*x = exportOne{Enabled: true, RefreshInterval: interval, EnvInputPresent: o.OTLPEnv.Shared.Present || own.Present, OverrideKinds: own.Kinds}
		block := func(reason string) { x.BlockedReasons = append(x.BlockedReasons, reason) }
		used, endpoint := o.OTLPEnv.Shared.Present, o.OTLPEnv.Shared.Endpoint
		if e.Env.AllowSignalOverrides {
			used, endpoint = used || own.Present, endpoint || own.Endpoint
		} else if own.Present && e.Env.Mode != kind.EnvDisabled {
			block(envNoOverrides)
		}
		switch {
		case e.Env.Mode == kind.EnvDisabled:
			if x.EnvInputPresent {
				block(envDisabled)
			}
			continue
		case e.Env.Mode == kind.EnvRequired && !endpoint:
			block(envRequired)
			x.Enabled, x.MissingFields = false, []string{"endpoint"}
		}
		if used && len(of) > 1 {
			block(envManyCollectors)
			x.Enabled = false
		}
	}
}

// CollectorCluster is the cluster of a collector that Envoy calls itself.
func (f *Facts) CollectorCluster(name string, c *Collector) *ir.Cluster {
	host := cmp.Or(c.Address, f.NodeAddress, "127.0.0.1")
	x := &ir.Cluster{
		Name: name, Type: ir.StrictDNS, Protocol: ir.HTTP2, ConnectTimeout: new(collectorTimeout),
		Endpoints: []ir.Endpoint{{Address: host, Port: c.Port}},
	}
	_, err := netip.ParseAddr(host)
	if err == nil {
		x.Type = ir.Static
	}
	if c.HTTP {
		x.Protocol = ir.HTTP1
	}
	if c.HTTPS() {
		x.External = &ir.ExternalTLS{}
		if err != nil {
			x.External.ServerName = host
		}
	}
	return x
}

// AgentCluster is the cluster of an agent that takes what is for a collector.
func AgentCluster(name, socket string) *ir.Cluster {
	return &ir.Cluster{Name: name, Type: ir.Static, Protocol: ir.HTTP2, ConnectTimeout: new(collectorTimeout), Socket: socket}
}

// collectorTimeout is that of connecting.
const collectorTimeout = 5 * time.Second
