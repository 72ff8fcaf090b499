// Package metrics offers what can be measured in a proxy and its workload: it
// asks Envoy and the applications, keeps what is wanted, and answers Prometheus
// or sends to collectors.
package metrics

import (
	"encoding/json"
	"fmt"
	"time"
)

// Told is what the control plane says about metrics.
type Told struct {
	Applications []Application
	Collectors   []Collector
	Filter       *Filter
	Unused       bool // also what was never counted
	Labels       map[string]string
}

// Application is where the workload offers metrics of its own.
type Application struct {
	Name    string `json:"name"`
	Path    string `json:"path"`
	Address string `json:"address"`
	Port    uint32 `json:"port"`
}

// Collector takes metrics by OTLP on a unix socket.
type Collector struct {
	Name     string
	Socket   string
	Interval time.Duration
	HTTP     bool
	Path     string
}

// document is the form in which it travels.
type document struct {
	Observability struct {
		Metrics struct {
			Applications []Application `json:"applications"`
			Backends     []struct {
				Type          string `json:"type"`
				Name          string `json:"name"`
				OpenTelemetry *struct {
					Endpoint        string `json:"endpoint"`
					RefreshInterval string `json:"refreshInterval"`
					HTTP            bool   `json:"useHTTP"`
					Path            string `json:"path"`
				} `json:"openTelemetry"`
			} `json:"backends"`
			Sidecar *struct {
				Profiles      *Profiles `json:"profiles"`
				IncludeUnused *bool     `json:"includeUnused"`
			} `json:"sidecar"`
			ExtraLabels map[string]string `json:"extraLabels"`
		} `json:"metrics"`
	} `json:"observability"`
}

// Parse reads a document; nil is one that says nothing.
func Parse(b []byte) (*Told, error) {
	var d document
	if b != nil {
		if err := json.Unmarshal(b, &d); err != nil {
			return nil, fmt.Errorf("metrics: %w", err)
		}
	}
	m := d.Observability.Metrics
	t := &Told{Applications: m.Applications, Labels: m.ExtraLabels}
	var profiles *Profiles
	if m.Sidecar != nil {
		profiles = m.Sidecar.Profiles
		t.Unused = m.Sidecar.IncludeUnused != nil && *m.Sidecar.IncludeUnused
	}
	var err error
	if t.Filter, err = NewFilter(profiles); err != nil {
		return nil, err
	}
	for _, b := range m.Backends {
		if b.OpenTelemetry == nil {
			continue
		}
		interval, err := time.ParseDuration(b.OpenTelemetry.RefreshInterval)
		if err != nil || interval <= 0 {
			interval = time.Minute
		}
		t.Collectors = append(t.Collectors, Collector{
			Name: b.Name, Socket: b.OpenTelemetry.Endpoint, Interval: interval,
			HTTP: b.OpenTelemetry.HTTP, Path: b.OpenTelemetry.Path,
		})
	}
	return t, nil
}
