package compile

import (
	"fmt"
	"testing"
)

// TestTelemetryShares tells which proxies share an audience where requests are
// traced and logged: all whose agents say who they are in Envoy's environment,
// else those of one workload, and with a pipe of its own each alone.
func TestTelemetryShares(t *testing.T) {
	const policies = `type: MeshTrace
mesh: default
name: all
spec: {default: {backends: [%s]}}
---
type: MeshAccessLog
mesh: default
name: all
spec: {to: [{targetRef: {kind: Mesh}, default: {backends: [%s]}}]}`
	const (
		zipkin  = `{type: Zipkin, zipkin: {url: "http://z:9411/api/v2/spans"}}`
		datadog = `{type: Datadog, datadog: {url: "http://d:8126"}}`
		file    = `{type: File, file: {path: /dev/stdout}}`
		tcp     = `{type: Tcp, tcp: {address: "logs:5000"}}`
	)
	ours := []string{FeatureNames, FeatureLogPipe, FeatureLogDescriptor, FeatureOTLP}
	theirs := []string{FeatureLogPipe, FeatureOTLP}
	for _, c := range []struct {
		name, trace, log string
		features         []string
		want             int64 // audiences of three proxies, two of which have the same workload
	}{
		{"our agents", zipkin, tcp, ours, 1},
		{"Datadog, which has no names from the environment", datadog, file, ours, 2},
		{"other agents", zipkin, file, theirs, 2},
		{"other agents that write to pipes", zipkin, tcp, theirs, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			docs := meshService("a", 1)
			for i, workload := range []string{"one", "one", "two"} {
				docs += fmt.Sprintf("\n---\ntype: Dataplane\nmesh: default\nname: p-%d\nlabels: {kuma.io/workload: %s}\nnetworking:\n  address: 192.0.2.%d\n  inbound: [{port: 80}]\n%s", i, workload, i+1, everything)
			}
			w.apply(docs + "\n---\n" + fmt.Sprintf(policies, c.trace, c.log))
			for i := range 3 {
				info := dataplane(fmt.Sprintf("p-%d", i))
				info.Workdir, info.Features = fmt.Sprintf("/run/p-%d", i), c.features
				w.attach(info)
			}
			w.check()
			if n := w.e.Stats().Audiences; n != c.want {
				t.Errorf("%d audiences, want %d", n, c.want)
			}
		})
	}
}
