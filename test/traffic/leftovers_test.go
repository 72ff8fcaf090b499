package traffic_test

import (
	"fmt"
	"testing"

	"github.com/atoll-mesh/atoll/test/traffic"
)

// TestGatewayRules: what the API accepts for the whole mesh, of limits and faults,
// was for gateways that no longer exist, and does nothing.
func TestGatewayRules(t *testing.T) {
	t.Parallel()
	p := startPair(t)
	p.Apply(t, `
type: MeshRateLimit
name: gone
spec:
  targetRef: {kind: Mesh}
  to:
  - targetRef: {kind: Mesh}
    default:
      local:
        http: {disabled: false, requestRate: {num: 1, interval: 1h}, onRateLimit: {status: 503, headers: {set: [{name: a, value: b}], add: [{name: c, value: d}]}}}
        tcp: {disabled: false, connectionRate: {num: 1, interval: 1h}}
---
type: MeshFaultInjection
name: gone
spec:
  targetRef: {kind: Mesh}
  to:
  - targetRef: {kind: Mesh}
    default:
      http:
      - {abort: {httpStatus: 503, percentage: 100}}
      - {delay: {value: 5s, percentage: 100}}
      - {responseBandwidth: {limit: 1kbps, percentage: 100}}`)
	for range 5 {
		if got := traffic.Get(t, p.url("/")); got.Status != 200 {
			t.Errorf("a request: %d", got.Status)
		}
		if got := traffic.Connect(t, p.tcp); got != "hello" {
			t.Errorf("a connection: %q", got)
		}
	}
	// Rules for all inbounds of all proxies have no labels.
	p.Apply(t, "type: MeshFaultInjection\nname: gone\nspec: {targetRef: {kind: Mesh}, rules: [{default: {http: [{abort: {httpStatus: 418, percentage: 100}}]}}]}")
	traffic.Until(t, "faults for the mesh do not happen", func() bool { return traffic.Get(t, p.url("/")).Status == 418 })
	p.Apply(t, "type: MeshRateLimit\nname: gone\nspec: {targetRef: {kind: Dataplane, sectionName: tcp}, rules: [{default: {local: {tcp: {disabled: true, connectionRate: {num: 1, interval: 1h}}}}}]}")
	for range 5 {
		if got := traffic.Connect(t, fmt.Sprintf("127.0.0.1:%d", p.inTCP)); got != "hello" {
			t.Errorf("a limit that is disabled: %q", got)
		}
	}
}
