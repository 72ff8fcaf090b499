package telemetry

import (
	"os"
	"slices"
	"testing"

	"sigs.k8s.io/yaml"
)

// applied notes nothing yet about documents that are no YAML, which would be a
// mistake of the test.
func applied(t *testing.T, doc string) {
	t.Helper()
	var v any
	if err := yaml.Unmarshal([]byte(doc), &v); err != nil {
		t.Fatalf("%v in:\n%s", err, doc)
	}
}

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
			break // others would show the same
		}
	}
}
