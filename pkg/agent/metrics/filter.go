package metrics

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	dto "github.com/prometheus/client_model/go"
)

// Profiles choose metrics of the proxy by name: Include before Exclude before
// the broadest of AppendProfiles.
type Profiles struct {
	AppendProfiles []struct {
		Name string `json:"name"`
	} `json:"appendProfiles"`
	Exclude []Selector `json:"exclude"`
	Include []Selector `json:"include"`
}

// Selector compares the name of a metric.
type Selector struct {
	Type  string `json:"type"`
	Match string `json:"match"`
}

// profile is a set of metrics; of several the broadest counts.
type profile int

const (
	none profile = iota
	basic
	all
)

// Filter is Profiles, ready to use. It may be used concurrently.
type Filter struct {
	include, exclude []func(name string) bool
	profile          profile
}

// NewFilter reads Profiles; nil is the profile Basic.
func NewFilter(p *Profiles) (*Filter, error) {
	f := &Filter{profile: basic}
	if p == nil {
		return f, nil
	}
	for i, x := range p.AppendProfiles {
		if i == 0 {
			f.profile = none
		}
		switch x.Name {
		case "All":
			f.profile = all
		case "Basic":
			f.profile = max(f.profile, basic)
		}
	}
	var err error
	if f.include, err = selectors(p.Include); err != nil {
		return nil, err
	}
	f.exclude, err = selectors(p.Exclude)
	return f, err
}

func selectors(list []Selector) ([]func(string) bool, error) {
	var out []func(string) bool
	for _, s := range list {
		switch s.Type {
		case "Prefix":
			out = append(out, func(name string) bool { return strings.HasPrefix(name, s.Match) })
		case "Exact":
			out = append(out, func(name string) bool { return name == s.Match })
		case "Contains":
			out = append(out, func(name string) bool { return strings.Contains(name, s.Match) })
		case "Regex":
			re, err := regexp.Compile(s.Match)
			if err != nil {
				return nil, fmt.Errorf("metrics: regular expression %q: %w", s.Match, err)
			}
			out = append(out, re.MatchString)
		}
	}
	return out, nil
}

func any(list []func(string) bool, name string) bool {
	return slices.ContainsFunc(list, func(f func(string) bool) bool { return f(name) })
}

// Apply returns what is kept of a family, nil for nothing. It may change the
// family.
func (f *Filter) Apply(m *dto.MetricFamily) *dto.MetricFamily {
	name := m.GetName()
	switch {
	case any(f.include, name):
		return m
	case any(f.exclude, name):
		return nil
	case f.profile == all:
		return m
	case f.profile == none || !inBasic(name):
		return nil
	}
	m.Metric = slices.DeleteFunc(m.Metric, internal)
	if len(m.Metric) == 0 {
		return nil
	}
	return m
}

// What the profile Basic has, by name.
var (
	basicParts = []string{
		"rq_time", "cx_length_ms", "cx_count", "_rq", "bytes", "timeout", "health_check", "lb_healthy_panic", "cx_destroy",
		"error", "fail", "reset", "eject", "overflow", "cancelled", "max_duration_reached", "no_cluster", "no_route",
		"no_filter_chain", "reject", "denied", "days_until_first_cert_expiring", "rbac", "cx_active", "cx_connect",
		"circuit_breakers", "cx_total", "ssl_handshake", "ssl_context_update_by_sds",
	}
	basicNames = map[string]bool{
		"envoy_cluster_membership_degraded": true, "envoy_cluster_membership_healthy": true,
		"envoy_cluster_membership_total": true, "envoy_cluster_ssl_handshake": true,
	}
	basicPrefixes = []string{"envoy_server", "envoy_control_plane", "envoy_dns_filter", "envoy_dns_cares", "kuma_dp_dns"}
)

func inBasic(name string) bool {
	return basicNames[name] ||
		slices.ContainsFunc(basicParts, func(s string) bool { return strings.Contains(name, s) }) ||
		slices.ContainsFunc(basicPrefixes, func(s string) bool { return strings.HasPrefix(name, s) })
}

// internal tells whether a metric is about what the mesh itself is made of.
func internal(m *dto.Metric) bool {
	return slices.ContainsFunc(m.Label, func(l *dto.LabelPair) bool {
		switch l.GetName() {
		case "envoy_cluster_name", "envoy_http_conn_manager_prefix", "envoy_listener_address":
			v := l.GetValue()
			return strings.HasPrefix(v, "system_") || strings.HasPrefix(v, "_") || v == "admin"
		}
		return false
	})
}
