package simulate

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

var zones = []string{"east", "west", "north"}

// home is where the client is.
const home = "east"

// topology is one mesh over three zones, of which one will be lost.
type topology struct {
	mesh     string
	backends map[string]int  // by zone
	ingress  map[string]bool // by zone
	strategy string          // localityAwareness in YAML; empty: no policy
	lose     string
}

func (x *topology) String() string {
	return fmt.Sprintf("%s: backends %v, ingress %v, strategy %q, losing %s", x.mesh, x.backends, x.ingress, x.strategy, x.lose)
}

// strategies are the ways of choosing among zones. The first is that of a mesh
// without any policy.
var strategies = []string{
	"",
	"{crossZone: {failover: [{to: {type: Any}}]}}",
	"{crossZone: {failover: [{to: {type: None}}]}}",
	"{crossZone: {failover: [{to: {type: Only, zones: [west]}}]}}",
	"{crossZone: {failover: [{to: {type: Only, zones: [north]}}, {to: {type: Any}}]}}",
	"{crossZone: {failover: [{from: {zones: [east]}, to: {type: Only, zones: [west]}}, {from: {zones: [east]}, to: {type: Only, zones: [north]}}]}}",
	"{crossZone: {failover: [{to: {type: AnyExcept, zones: [west]}}]}}",
	"{disabled: true}",
}

// generate makes the n-th topology; the same for the same number.
func generate(n int) *topology {
	r := rand.New(rand.NewPCG(uint64(n), 20))
	x := &topology{mesh: fmt.Sprintf("mesh-%d", n), backends: map[string]int{}, ingress: map[string]bool{}, strategy: strategies[n%len(strategies)]}
	for {
		x.lose = zones[r.IntN(len(zones))]
		total := 0
		for _, z := range zones {
			x.backends[z] = r.IntN(3)
			x.ingress[z] = z != home && r.IntN(6) > 0
			total += x.backends[z]
		}
		// Something is lost, and the processes are not too many.
		if x.backends[x.lose] > 0 && total <= 4 {
			return x
		}
	}
}

// resources are what the global is given.
func (x *topology) resources() string {
	var b strings.Builder
	fmt.Fprintf(&b, `type: MeshIdentity
mesh: %[1]s
name: identity
spec:
  selector: {dataplane: {matchLabels: {}}}
  provider: {type: Bundled, bundled: {meshTrustCreation: Enabled, insecureAllowSelfSigned: true, autogenerate: {enabled: true}}}
---
type: MeshTrafficPermission
mesh: %[1]s
name: everybody
spec: {rules: [{default: {allow: [{spiffeID: {type: Prefix, value: "spiffe://%[1]s."}}]}}]}
---
type: MeshMultiZoneService
mesh: %[1]s
name: backend
spec:
  selector: {meshService: {matchLabels: {kuma.io/display-name: backend}}}
  ports: [{name: main, port: 8080, appProtocol: http}]
`, x.mesh)
	if x.strategy != "" {
		fmt.Fprintf(&b, `---
type: MeshLoadBalancingStrategy
mesh: %s
name: choice
spec: {to: [{targetRef: {kind: MeshMultiZoneService, labels: {kuma.io/display-name: backend}}, default: {localityAwareness: %s}}]}
`, x.mesh, x.strategy)
	}
	return b.String()
}
