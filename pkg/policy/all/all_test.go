package all_test

import (
	"testing"

	"github.com/atoll-mesh/atoll/pkg/policy"
	"github.com/atoll-mesh/atoll/pkg/policy/all"
	"github.com/atoll-mesh/atoll/pkg/policy/meshhttproute"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

func TestKinds(t *testing.T) {
	for _, d := range all.Policies() {
		k := d.Kind()
		if k.Plural == "" || k.Single == "" || k.Short == "" || k.Display == "" || k.Displays == "" {
			t.Errorf("%s lacks a name: %+v", k.Type, k.Names)
		}
		if k.Scope != resource.ScopeMesh || !k.Flows.Has(resource.GlobalToZone|resource.ZoneToGlobal|resource.AcrossZones) || k.Policy == nil {
			t.Errorf("%s: %+v", k.Type, k)
		}
	}
}

func TestDefaults(t *testing.T) {
	want := []struct{ typ, name, spec string }{
		{"MeshTimeout", "mesh-timeout-all-m-1", `{"targetRef":{"kind":"Mesh"},"rules":[{"default":{"connectionTimeout":"10s","idleTimeout":"2h0m0s","http":{"requestTimeout":"0s","streamIdleTimeout":"1h0m0s","maxStreamDuration":"0s"}}}]}`},
		{"MeshTimeout", "mesh-timeout-to-all-m-1", `{"targetRef":{"kind":"Mesh"},"to":[{"targetRef":{"kind":"Mesh"},"default":{"idleTimeout":"1h0m0s","http":{"requestTimeout":"15s","streamIdleTimeout":"30m0s"}}}]}`},
		{"MeshCircuitBreaker", "mesh-circuit-breaker-all-m-1", `{"targetRef":{"kind":"Mesh"},"to":[{"targetRef":{"kind":"Mesh"},"default":{"connectionLimits":{"maxConnections":1024,"maxPendingRequests":1024,"maxRequests":1024},"outlierDetection":{"interval":"1s","baseEjectionTime":"10s","maxEjectionPercent":100,"splitExternalAndLocalErrors":true,"detectors":{"localOriginFailures":{"consecutive":5}},"healthyPanicThreshold":10}}}]}`},
		{"MeshRetry", "mesh-retry-all-m-1", `{"targetRef":{"kind":"Mesh"},"to":[{"targetRef":{"kind":"Mesh"},"default":{"tcp":{"maxConnectAttempt":5},"http":{"numRetries":3,"backOff":{"baseInterval":"25ms","maxInterval":"250ms"},"hostSelection":[{"predicate":"OmitPreviousHosts","updateFrequency":2},{"predicate":"OmitPreviousPriorities","updateFrequency":2}],"hostSelectionMaxAttempts":5},"grpc":{"numRetries":3,"backOff":{"baseInterval":"25ms","maxInterval":"250ms"}}}}]}`},
	}
	got := all.Defaults("m-1")
	if len(got) != len(want) {
		t.Fatalf("%d policies: %v", len(got), got)
	}
	for i, w := range want {
		if id := (resource.ID{Type: resource.Type(w.typ), Mesh: "m-1", Name: w.name}); got[i].ID != id {
			t.Errorf("%v, want %v", got[i].ID, id)
		}
		if string(got[i].SpecWire()) != w.spec {
			t.Errorf("%s is %s", got[i].Name, got[i].SpecWire())
		}
		if errs := got[i].Kind.Validate(got[i]); errs != nil {
			t.Errorf("%s: %v", got[i].Name, errs)
		}
	}
}

// The route that no policy makes is named as the API names its matches.
func TestDefaultRoute(t *testing.T) {
	m := []meshhttproute.Match{{Path: &meshhttproute.PathMatch{Type: meshhttproute.PathPrefix, Value: "/"}}}
	if got := meshhttproute.Hash(m); got != policy.DefaultRoute {
		t.Errorf("got %s", got)
	}
}
