package compile

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/atoll-mesh/atoll/pkg/resource"
)

// TestModel plays random histories of writes, of proxies that come and go and of
// moments at which the engine looks, and compares what each proxy is served with
// what is compiled for it from scratch.
func TestModel(t *testing.T) {
	seeds, steps := 40, 150
	if testing.Short() {
		seeds, steps = 10, 50
	}
	play := []uint64{153} // found a cluster that one audience gave up while another was to take it over
	for seed := range uint64(seeds) {
		play = append(play, seed)
	}
	for _, seed := range play {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			t.Parallel()
			playModel(t, &generator{rng: rand.New(rand.NewPCG(seed, 7))}, steps)
		})
	}
}

func playModel(t *testing.T, g *generator, steps int) Stats {
	w := newWorld(t)
	if g.secure {
		w.identify("1h", w.ca("default.east.mesh.local"))
	}
	rng := g.rng
	attached := map[string]*Proxy{}
	for range steps {
		var objects []*resource.Object
		var gone []resource.ID
		for range rng.IntN(4) {
			o := w.decode(g.something())
			switch {
			case rng.IntN(4) == 0:
				gone = append(gone, o.ID)
			default:
				objects = append(objects, o)
			}
		}
		if len(objects) > 0 {
			w.put(objects...)
		}
		if len(gone) > 0 {
			w.remove(gone...)
		}
		if name := g.proxy(); rng.IntN(3) == 0 {
			if p := attached[name]; p != nil {
				p.Detach()
				delete(attached, name)
			} else {
				attached[name] = w.e.Attach(g.info(name))
			}
		}
		if rng.IntN(3) > 0 { // else changes pile up
			w.e.step()
			w.check()
		}
	}
	for _, p := range attached {
		p.Detach()
	}
	s := w.e.Stats()
	w.e.step()
	w.empty()
	return s
}

// something is what TestModel always had, so that its histories stay as they are.
func (g *generator) something() string {
	if g.roomy {
		return g.anything()
	}
	return g.resource()
}

// empty checks that nothing is left of proxies that are gone.
func (w *world) empty() {
	w.t.Helper()
	e := w.e
	if len(e.proxies)+len(e.audiences)+len(e.rows)+len(e.outbounds)+len(e.clusters)+len(e.meshes)+len(e.deps)+len(e.pending)+len(e.owned)+len(e.rosters) > 0 {
		w.t.Fatalf("left behind: %d rosters, %d proxies, %d audiences, %d rows, %d outbounds, %d clusters, %d meshes, %d dependencies, %d pending, %d own resources",
			len(e.rosters), len(e.proxies), len(e.audiences), len(e.rows), len(e.outbounds), len(e.clusters), len(e.meshes), len(e.deps), len(e.pending), len(e.owned))
	}
}

// generator makes resources of a small world, in which most things concern each
// other and some are broken.
type generator struct {
	rng    *rand.Rand
	zones  bool // also what concerns other zones and the outside
	many   int  // how many proxies more than five
	secure bool // proxies have identities
	roomy  bool // services have addresses of their own and mostly reach each other
}

func (g *generator) pick(options ...string) string { return options[g.rng.IntN(len(options))] }

func (g *generator) proxy() string { return "dp-" + strconv.Itoa(g.rng.IntN(5+g.many)) }
func (g *generator) mesh() string  { return g.pick("default", "default", "default", "other") }

func (g *generator) service() string {
	if g.roomy {
		return string(rune('a' + g.rng.IntN(8)))
	}
	return g.pick("a", "b", "c")
}

func (g *generator) info(name string) ProxyInfo {
	i := dataplane(name)
	i.ID.Mesh = g.mesh()
	i.IPv6 = g.rng.IntN(2) == 0
	i.ReadinessPort, i.AdminPort = 9902, uint32(g.rng.IntN(2)*9901)
	kind := g.rng.IntN(4)
	if g.roomy {
		kind = 0
	}
	switch kind {
	case 0:
		i.TransparentProxy = &TransparentProxy{InboundPort: 15006, OutboundPort: 15001, IPv4Only: g.rng.IntN(2) == 0}
	case 1:
		i.Features = []string{FeatureReusePort, FeatureBindOutbounds}
	}
	return i
}

func (g *generator) resource() string {
	if g.zones && g.rng.IntN(2) == 0 {
		return g.ofZones()
	}
	switch g.rng.IntN(6) {
	case 0, 1:
		return g.dataplane()
	case 2, 3:
		return g.meshService()
	case 4:
		return g.timeout()
	}
	return g.route()
}

func (g *generator) dataplane() string {
	name := g.proxy()
	var b strings.Builder
	fmt.Fprintf(&b, "type: Dataplane\nmesh: %s\nname: %s\nlabels: {app: %s, version: %s%s}\nnetworking:\n  address: 192.0.2.%s\n",
		g.mesh(), name, g.service(), g.pick("v1", "v2"), g.workload(), name[3:])
	if g.rng.IntN(8) == 0 {
		b.WriteString("  gateway: {type: DELEGATED}\n")
	} else {
		fmt.Fprintf(&b, "  inbound:\n  - {port: 8080, name: main, protocol: %s, state: %s}\n", g.pick("http", "tcp", "grpc", "http2"), g.pick("Ready", "Ready", "NotReady", "Ignored"))
		if g.rng.IntN(3) == 0 {
			fmt.Fprintf(&b, "  - {port: %s, protocol: tcp}\n", g.pick("8080", "9090", "49151"))
		}
	}
	if g.rng.IntN(2) == 0 {
		b.WriteString("  outbound:\n")
		for range 1 + g.rng.IntN(3) {
			if g.zones && g.rng.IntN(2) == 0 {
				fmt.Fprintf(&b, "  - {port: %d, backendRef: {kind: %s, name: %s}}\n", 10004+g.rng.IntN(4), g.pick("MeshMultiZoneService", "MeshExternalService"), g.service())
				continue
			}
			fmt.Fprintf(&b, "  - {port: %d, backendRef: {kind: MeshService, %s%s}}\n", 10000+g.rng.IntN(4),
				g.pick("name: a", "name: b", "name: missing", "labels: {tier: gold}"), g.pick("", ", port: 80", ", port: 81"))
		}
	}
	if g.zones && g.rng.IntN(2) == 0 {
		g.listeners(&b, name[3:])
	}
	switch g.rng.IntN(5) {
	case 0:
		b.WriteString("  transparentProxying: {redirectPortInbound: 15006, redirectPortOutbound: 15001}\n")
	case 1:
		fmt.Fprintf(&b, "  transparentProxying: {redirectPortInbound: 15006, redirectPortOutbound: 15001, reachableBackends: {refs: [{kind: MeshService, name: %s}, {kind: MeshService, labels: {tier: %s}, port: 80}]}}\n",
			g.service(), g.pick("gold", "iron"))
	}
	return b.String()
}

// workload is the label that gives a proxy a certificate.
func (g *generator) workload() string {
	if g.many == 0 {
		return ""
	}
	return ", kuma.io/workload: " + g.service()
}

func (g *generator) meshService() string {
	name := g.service()
	var b strings.Builder
	fmt.Fprintf(&b, "type: MeshService\nmesh: %s\nname: %s\nlabels: {tier: %s%s}\nspec:\n  selector: {dataplaneLabels: {matchLabels: {app: %s}}}\n  ports:\n  - {port: 80, name: %s, targetPort: %s, appProtocol: %s}\n",
		g.mesh(), name, g.pick("gold", "iron"), g.pick("", ", k8s.kuma.io/namespace: ns"), g.service(), g.pick("main", "web"), g.pick("8080", "main"), g.pick("http", "tcp", "grpc"))
	if g.rng.IntN(2) == 0 {
		b.WriteString("  - {port: 81, targetPort: 8080, appProtocol: http}\n")
	}
	if g.rng.IntN(4) > 0 {
		vip := int(name[0]-'a') + g.rng.IntN(2)
		if g.roomy && g.rng.IntN(10) > 0 {
			vip = 10*int(name[0]-'a') + g.rng.IntN(5)
		}
		fmt.Fprintf(&b, "status: {vips: [{ip: 241.0.0.%d}]}\n", vip)
	}
	return b.String()
}

func (g *generator) target() string {
	return g.pick("{kind: Mesh}", "{kind: Dataplane}", "{kind: Dataplane, labels: {app: a}}", "{kind: Dataplane, labels: {version: v1}}")
}

func (g *generator) timeout() string {
	var b strings.Builder
	fmt.Fprintf(&b, "type: MeshTimeout\nmesh: %s\nname: t-%d\nspec:\n  targetRef: %s\n", g.mesh(), g.rng.IntN(4), g.target())
	conf := fmt.Sprintf("{connectionTimeout: %ds, http: {requestTimeout: %ds}}", 1+g.rng.IntN(3), 1+g.rng.IntN(3))
	if g.rng.IntN(3) == 0 {
		fmt.Fprintf(&b, "  rules:\n  - default: %s\n", conf)
		return b.String()
	}
	fmt.Fprintf(&b, "  to:\n  - targetRef: %s\n    default: %s\n", g.pick(
		"{kind: Mesh}", "{kind: MeshService, labels: {kuma.io/display-name: a}}", "{kind: MeshService, labels: {tier: gold}}",
		"{kind: MeshService, labels: {tier: iron}, sectionName: main}", "{kind: MeshHTTPRoute, labels: {kuma.io/display-name: r-0}}"), conf)
	return b.String()
}

func (g *generator) route() string {
	backend := func() string {
		return fmt.Sprintf("{kind: MeshService, labels: {%s}, port: %s, weight: %d}",
			g.pick("kuma.io/display-name: a", "kuma.io/display-name: b", "kuma.io/display-name: missing", "tier: gold"), g.pick("80", "81"), g.rng.IntN(3))
	}
	return fmt.Sprintf(`type: MeshHTTPRoute
mesh: %s
name: r-%d
spec:
  targetRef: %s
  to:
  - targetRef: {kind: MeshService, labels: {kuma.io/display-name: %s}}
    rules:
    - matches: [{path: {type: PathPrefix, value: %s}}]
      default: {backendRefs: [%s, %s]}
`, g.mesh(), g.rng.IntN(3), g.target(), g.service(), g.pick("/", "/v1", "/v2"), backend(), backend())
}
