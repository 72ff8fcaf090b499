package telemetry

import (
	"os"
	"slices"
	"testing"
)

// TestTelemetry keeps one world for everything.
func TestTelemetry(t *testing.T) {
	w := start(t)
	only := os.Getenv("ATOLL_TELEMETRY")
	for _, c := range []struct {
		name string
		run  func(*testing.T, *world)
	}{
		{"Prometheus", serveMetrics},
		{"TCP", logsByTCP},
		{"files", logsToFiles},
		{"Zipkin", tracesToZipkin},
		{"Datadog", tracesToDatadog},
		{"collector", collect},
		{"variables", collectByVariables},
	} {
		if only != "" && !slices.Contains([]string{only}, c.name) {
			continue
		}
		if !t.Run(c.name, func(t *testing.T) { c.run(t, w) }) {
			return // others would show the same
		}
	}
	if only != "" {
		return
	}
	for _, m := range behaviour.missing(untested) {
		t.Errorf("%s is not tested with traffic", m)
	}
}

// untested are fields that no test with traffic sets, and why.
var untested = map[string]string{}
