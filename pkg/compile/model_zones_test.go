package compile

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
)

// TestModelOfZones is TestModel in a world with zone proxies, services of other
// zones, of several zones and outside the mesh.
func TestModelOfZones(t *testing.T) {
	seeds, steps := 8, 80
	if testing.Short() {
		seeds, steps = 3, 50
	}
	for seed := range uint64(seeds) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			t.Parallel()
			playModel(t, &generator{rng: rand.New(rand.NewPCG(seed, 11)), zones: true}, steps)
		})
	}
}

func (g *generator) listeners(b *strings.Builder, host string) {
	b.WriteString("  listeners:\n")
	for i := range 1 + g.rng.IntN(2) {
		fmt.Fprintf(b, "  - {type: %s, address: 192.0.2.%s, port: %d, name: %s, state: %s}\n",
			g.pick("ZoneIngress", "ZoneEgress"), host, 20000+i, g.pick("in", "out"), g.pick("Ready", "Ready", "NotReady"))
	}
}

func (g *generator) ofZones() string {
	zone := g.pick("west", "north")
	vip := func(name string) int {
		if g.roomy && g.rng.IntN(10) > 0 {
			return 10*int(name[0]-'a') + g.rng.IntN(3)
		}
		return g.rng.IntN(3)
	}
	switch g.rng.IntN(6) {
	case 0:
		return fmt.Sprintf("type: MeshZoneAddress\nmesh: %s\nname: at-%d\nlabels: {kuma.io/origin: global, kuma.io/zone: %s}\nspec: {address: %s, port: 10001}\n",
			g.mesh(), g.rng.IntN(3), zone, g.pick("203.0.113.1", "203.0.113.2", "ingress.example"))
	case 1:
		return fmt.Sprintf("type: MeshService\nmesh: %s\nname: %s-%s\nlabels: {kuma.io/origin: global, kuma.io/zone: %[3]s, kuma.io/display-name: %[2]s, tier: %[4]s}\nspec:\n  state: %[5]s\n  ports: [{port: 80, name: main, targetPort: 8080, appProtocol: http}]\n  identities: [{type: SpiffeID, value: spiffe://%[3]s/%[6]s}]\n",
			g.mesh(), g.service(), zone, g.pick("gold", "iron"), g.pick("Available", "Unavailable"), g.service())
	case 2, 3:
		mesh, name := g.mesh(), g.service()
		return fmt.Sprintf("type: MeshMultiZoneService\nmesh: %s\nname: %s\nspec:\n  selector: {meshService: {matchLabels: {%s}}}\n  ports: [{port: 80, name: main, appProtocol: %s}]\nstatus: {vips: [{ip: 243.0.0.%d}]}\n",
			mesh, name, g.pick("kuma.io/display-name: a", "kuma.io/display-name: b", "tier: gold"), g.pick("http", "tcp"), vip(name))
	case 4:
		return fmt.Sprintf("type: MeshIdentity\nmesh: %s\nname: spire\nspec:\n  selector: {dataplane: {matchLabels: {%s}}}\n  spiffeID: {path: /%s}\n  provider: {type: Spire, spire: {}}\nstatus: {conditions: [{type: Ready, status: %q, reason: x, message: x}]}\n",
			g.mesh(), g.pick("", "app: a", "version: v1"), g.pick("one", "two"), g.pick("True", "True", "False"))
	}
	mesh, name := g.mesh(), g.service()
	return fmt.Sprintf("type: MeshExternalService\nmesh: %s\nname: %s\nspec:\n  match: {port: 443, protocol: %s}\n  endpoints: [{address: %s, port: 443, priority: %d}, {address: 198.51.100.1, port: 8443}]\n  tls: {enabled: %t, verification: {mode: %s, serverName: x.example}}\nstatus: {vip: {ip: 242.0.0.%d}}\n",
		mesh, name, g.pick("http", "tcp", "grpc"), g.pick("198.51.100.2", "api.example"), g.rng.IntN(3), g.rng.IntN(2) == 0, g.pick("SkipCA", "Secured"), vip(name))
}
