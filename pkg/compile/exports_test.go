package compile

import (
	"testing"

	meshproto "github.com/atoll-mesh/atoll/api/kuma/mesh/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/policy"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// Whoever serves a proxy is told which collectors its agent sends to, when that
// changes, and which of them get nothing for what reason.
func TestExports(t *testing.T) {
	w := newWorld(t)
	w.apply(`
type: Dataplane
mesh: default
name: web-1
labels: {app: web}
networking: {address: 192.0.2.1, inbound: [{port: 8080, name: http, protocol: http}]}
---
type: MeshOpenTelemetryBackend
mesh: default
name: main
labels: {team: obs}
spec: {endpoint: {address: 192.0.2.9}}
---
type: MeshOpenTelemetryBackend
mesh: default
name: strict
labels: {team: sec}
spec: {endpoint: {address: 192.0.2.9}, env: {mode: Required, allowSignalOverrides: false}}`)
	p := w.e.Attach(ProxyInfo{
		ID: dataplane("web-1").ID, Workdir: "/run/web", Features: []string{FeatureOTLP},
		OTLPEnv: policy.OTLPEnv{Logs: policy.OTLPEnvPart{Present: true, Kinds: []string{"headers"}}},
	})
	var told []*meshproto.DataplaneInsight_OpenTelemetry
	p.Exports(func(x *meshproto.DataplaneInsight_OpenTelemetry) { told = append(told, x) })
	w.e.step()
	if len(told) != 0 {
		t.Errorf("without policies: %v", told)
	}
	const log = `
type: MeshAccessLog
mesh: default
name: all
spec: {rules: [{default: {backends: [{type: OpenTelemetry, openTelemetry: {backendRef: {kind: MeshOpenTelemetryBackend, labels: {team: `
	w.apply(log + `obs}}}}]}}]}`)
	w.e.step()
	if len(told) != 1 || told[0].Backends[0].Name != "main" || told[0].Backends[0].Logs.State != "ready" || !told[0].Backends[0].Logs.EnvInputPresent || told[0].Backends[0].Traces != nil {
		t.Errorf("with a log: %v", told)
	}
	w.apply(log + `sec}}}}]}}]}`)
	w.e.step()
	if len(told) != 2 || told[1].Backends[0].Name != "strict" || told[1].Backends[0].Logs.State != "blocked" || len(told[1].Backends[0].Logs.BlockedReasons) != 2 {
		t.Errorf("with one that requires what it does not allow: %v", told)
	}
	w.remove(resource.ID{Type: "MeshAccessLog", Mesh: "default", Name: "all"})
	w.e.step()
	if len(told) != 3 || told[2] != nil {
		t.Errorf("without policies again: %v", told)
	}
	p.Detach()
	w.e.step()
}
