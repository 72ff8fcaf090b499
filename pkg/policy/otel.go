package policy

import (
	"cmp"
	"net"
	"strconv"
	"strings"

	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// CollectorRef refers to a MeshOpenTelemetryBackend of the mesh by labels.
type CollectorRef struct {
	Kind   resource.Type     `json:"kind" schema:"enum=MeshOpenTelemetryBackend"`
	Labels map[string]string `json:"labels,omitempty"`
}

// ValidateCollectorRef adds every violation of a reference at path p.
func ValidateCollectorRef(errs *resource.FieldErrors, p string, ref *CollectorRef) {
	switch {
	case ref == nil:
		errs.Add(p, "must be defined")
	case ref.Kind != kind.MeshOpenTelemetryBackend:
		errs.Add(p+".kind", "value '%s' is not supported", ref.Kind)
	case len(ref.Labels) == 0:
		errs.Add(p+".labels", "must be set when kind is %s", ref.Kind)
	}
}

// Collector is a MeshOpenTelemetryBackend that was found.
type Collector struct {
	Name string // display name
	// Address is empty for a collector beside each proxy.
	Address string
	Port    uint32
	HTTP    bool // OTLP over HTTP
	Path    string
	// What of an agent's OTEL_* variables counts.
	EnvMode, EnvPrecedence string
	EnvSignals             bool // those of one signal
}

// HTTPS tells whether the collector is called with TLS, which is what its port
// says.
func (c *Collector) HTTPS() bool { return c.HTTP && c.Port == 443 }

// URI is where Envoy posts a signal by HTTP. A collector beside the proxy is
// whoever its cluster leads to.
func (c *Collector) URI(signal string) string {
	scheme := "http"
	if c.HTTPS() {
		scheme = "https"
	}
	return scheme + "://" + net.JoinHostPort(cmp.Or(c.Address, "localhost"), strconv.FormatUint(uint64(c.Port), 10)) + c.Path + signal
}

// FindCollector returns the backend that a reference means: of several the
// oldest, then the first by name. Nil: there is none.
func FindCollector(ref *CollectorRef, all []*resource.Object) *Collector {
	if ref == nil {
		return nil
	}
	o := kind.OTelBackendFor(ref.Labels, all)
	if o == nil {
		return nil
	}
	spec := resource.SpecOf[kind.MeshOpenTelemetryBackendSpec](o)
	c := &Collector{
		Name: o.DisplayName(), Port: 4317, HTTP: spec.Protocol == kind.OTLPHTTP,
		EnvMode: kind.EnvOptional, EnvPrecedence: kind.EnvFirst, EnvSignals: true,
	}
	if e := spec.Env; e != nil {
		c.EnvMode, c.EnvPrecedence = cmp.Or(e.Mode, c.EnvMode), cmp.Or(e.Precedence, c.EnvPrecedence)
		c.EnvSignals = e.AllowSignalOverrides == nil || *e.AllowSignalOverrides
	}
	if e := spec.Endpoint; e != nil {
		if e.Address != nil {
			c.Address = *e.Address
		}
		if e.Port != nil {
			c.Port = uint32(*e.Port)
		}
		if e.Path != nil {
			c.Path = strings.TrimSuffix(*e.Path, "/")
		}
	}
	return c
}

// CleanName makes part of the name of a cluster of a name or URL: what is not a
// lower-case letter, digit, _ or - becomes a -.
func CleanName(s string) string {
	return strings.Map(func(r rune) rune {
		if 'a' <= r && r <= 'z' || '0' <= r && r <= '9' || r == '_' || r == '-' {
			return r
		}
		return '-'
	}, s)
}
