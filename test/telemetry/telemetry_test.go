package telemetry

import (
	"os"
	"testing"

	"github.com/atoll-mesh/atoll/test/fields"
)

// applied notes which fields the tests of this package set.
var applied = fields.Recorder{Kinds: fields.Observing()}

// TestMain keeps that record, which docs/policies tells, unless only some tests
// are asked for.
func TestMain(m *testing.M) {
	if os.Getenv("ATOLL_TELEMETRY") != "" {
		os.Exit(m.Run())
	}
	os.Exit(applied.Main(m, "testdata/fields.txt"))
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
		if only != "" && only != c.name {
			continue
		}
		if !t.Run(c.name, func(t *testing.T) { c.run(t, w) }) {
			return // others would show the same
		}
	}
}
