package traffic_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/test/traffic"
)

// wide is a mesh with everything that a client can call: a service of its zone,
// shop; one of all zones, everywhere; one outside, behind an egress, pay; and the
// same with TCP. Everybody has an identity.
type wide struct {
	*traffic.Mesh
	apps map[string]*traffic.Server // shop, west, pay
	at   map[string]string          // where the client's Envoy listens, by what is called
	in   int                        // where the shop's Envoy listens
	tcp  int                        // and for its TCP
	shop func(string) int           // counters of the shop's Envoy
}

// A service of each kind, as targetRef and as backendRef.
var (
	destinations = map[string]string{
		"MeshService":          "kind: MeshService, labels: {app: shop}",
		"MeshMultiZoneService": "kind: MeshMultiZoneService, labels: {app: everywhere}",
		"MeshExternalService":  "kind: MeshExternalService, labels: {app: pay}",
	}
	ports = map[string]int{"MeshService": 80, "MeshMultiZoneService": 80, "MeshExternalService": 443}
	body  = map[string]string{"MeshService": "shop", "MeshMultiZoneService": "west", "MeshExternalService": "pay"}
	kinds = []string{"MeshService", "MeshMultiZoneService", "MeshExternalService"}
)

func startWide(t *testing.T) *wide {
	m := traffic.Start(t)
	m.Identify(t)
	m.Client(t)
	w := &wide{Mesh: m, apps: map[string]*traffic.Server{}, at: map[string]string{}, in: traffic.Dead(t)}
	for _, name := range []string{"shop", "pay"} {
		w.apps[name] = traffic.Serve(t, named(name))
	}
	west := m.Entrance(t, "everywhere", "", named("west"))
	w.apps["west"] = &west.Server
	tcp, tcpWest := traffic.Dead(t), m.Entrance(t, "bytes", "tcp west", nil)
	egress := traffic.Dead(t)
	w.tcp = tcp
	m.Apply(t, strings.NewReplacer(
		"$IN", fmt.Sprint(w.in), "$SHOP", fmt.Sprint(w.apps["shop"].Port), "$TCP", fmt.Sprint(tcp),
		"$HELLO", fmt.Sprint(traffic.ServeTCP(t, "tcp shop")), "$EGRESS", fmt.Sprint(egress),
		"$PAY", fmt.Sprint(w.apps["pay"].Port), "$BYE", fmt.Sprint(traffic.ServeTCP(t, "tcp pay")),
	).Replace(`
type: Dataplane
name: shop
labels: {app: server, kuma.io/workload: shop}
networking:
  address: 127.0.0.1
  inbound:
  - {port: $IN, name: main, servicePort: $SHOP, protocol: http}
  - {port: $TCP, name: bytes, servicePort: $HELLO, protocol: tcp}
---
type: Dataplane
name: egress
labels: {app: egress, kuma.io/workload: egress}
networking: {address: 127.0.0.1, listeners: [{type: ZoneEgress, address: 127.0.0.1, port: $EGRESS, name: out}]}
---
type: MeshService
name: shop
labels: {app: shop}
spec:
  selector: {dataplaneLabels: {matchLabels: {app: server}}}
  ports: [{port: 80, name: main, targetPort: main, appProtocol: http}, {port: 81, name: bytes, targetPort: bytes, appProtocol: tcp}]
  identities: [{type: SpiffeID, value: "spiffe://default.east.mesh.local/workload/shop"}]
status: {tls: {status: Ready}}
---
type: MeshMultiZoneService
name: everywhere
labels: {app: everywhere}
spec:
  selector: {meshService: {matchLabels: {everywhere: everywhere}}}
  ports: [{port: 80, name: main, appProtocol: http}]
---
type: MeshMultiZoneService
name: bytes
labels: {app: bytes}
spec:
  selector: {meshService: {matchLabels: {everywhere: bytes}}}
  ports: [{port: 81, name: main, appProtocol: tcp}]
---
type: MeshExternalService
name: pay
labels: {app: pay}
spec: {match: {port: 443, protocol: http}, endpoints: [{address: 127.0.0.1, port: $PAY}]}
---
type: MeshExternalService
name: pay-bytes
labels: {app: pay-bytes}
spec: {match: {port: 81, protocol: tcp}, endpoints: [{address: 127.0.0.1, port: $BYE}]}`))
	m.Zone(t, "west", "everywhere", "http", west.Port)
	m.Zone(t, "north", "bytes", "tcp", tcpWest.Port)
	w.shop = m.Envoy("shop")
	m.Envoy("egress")
	m.Listening(t, w.in)
	m.Listening(t, egress)
	for name, ref := range map[string]string{
		"MeshService": "kind: MeshService, name: shop, port: 80", "MeshMultiZoneService": "kind: MeshMultiZoneService, name: everywhere, port: 80",
		"MeshExternalService": "kind: MeshExternalService, name: pay, port: 443", "tcp MeshService": "kind: MeshService, name: shop, port: 81",
		"tcp MeshMultiZoneService": "kind: MeshMultiZoneService, name: bytes, port: 81", "tcp MeshExternalService": "kind: MeshExternalService, name: pay-bytes, port: 81",
	} {
		w.at[name] = m.Outbound(t, "{"+ref+"}")
	}
	for _, kind := range kinds {
		traffic.Until(t, kind+" does not answer", func() bool { return w.get(t, kind, "/").Body == body[kind] })
	}
	return w
}

func (w *wide) get(t *testing.T, kind, path string) traffic.Reply {
	t.Helper()
	return traffic.Get(t, "http://"+w.at[kind]+path)
}

// named answers with a name; /slow after a while.
func named(name string) http.HandlerFunc {
	return func(rw http.ResponseWriter, r *http.Request) {
		paced(rw, r)
		_, _ = rw.Write([]byte(name))
	}
}

// targets of clients that policies may name: the mesh, a service of each kind, a
// port of one, a route; and of proxies, those that are meant and others.
func clientTargets(kind string, route bool) []string {
	out := []string{"kind: Mesh", destinations[kind]}
	if kind == "MeshService" {
		out = append(out, destinations[kind]+", sectionName: main")
	}
	if route {
		out = append(out, "kind: MeshHTTPRoute, labels: {kuma.io/display-name: "+strings.ToLower(kind)+"}")
	}
	return out
}

var proxyTargets = []struct {
	ref   string
	meant bool
}{
	{"kind: Mesh", true},
	{"kind: Dataplane", true},
	{"kind: Dataplane, labels: {app: client}", true},
	{"kind: Dataplane, labels: {app: client, rack: r9}", false},
}

// TestTargets shows that every policy reaches every kind of destination that it
// may name, from the proxies that it selects and no others.
func TestTargets(t *testing.T) {
	t.Parallel()
	w := startWide(t)
	for _, kind := range kinds {
		w.Apply(t, fmt.Sprintf("type: MeshHTTPRoute\nname: %s\nspec: {to: [{targetRef: {%s}, rules: [{matches: [{path: {type: PathPrefix, value: /}}], default: {}}]}]}", strings.ToLower(kind), destinations[kind]))
	}
	w.Apply(t, "type: MeshLoadBalancingStrategy\nname: hashing\nspec: {to: [{targetRef: {kind: Mesh}, default: {loadBalancer: {type: RingHash}}}]}")
	for _, c := range []struct {
		policy, conf string
		route        bool
		shows        func(t *testing.T, kind string) bool
	}{
		{"MeshTimeout", "{http: {requestTimeout: 50ms}}", true, func(t *testing.T, kind string) bool { return w.get(t, kind, "/slow").Status == 504 }},
		{"MeshRetry", "{http: {numRetries: 2, retryOn: [5xx], backOff: {baseInterval: 1ms}}}", true, func(t *testing.T, kind string) bool { return w.tries(t, kind) == 3 }},
		{"MeshCircuitBreaker", "{connectionLimits: {maxRequests: 1}}", false, w.overloaded},
		{"MeshHealthCheck", "{interval: 20ms, noTrafficInterval: 20ms, http: {path: /probe}}", false, w.probed},
		{"MeshLoadBalancingStrategy", "{hashPolicies: [{type: Cookie, cookie: {name: stick, ttl: 1h}}]}", true, func(t *testing.T, kind string) bool {
			return strings.HasPrefix(w.get(t, kind, "/").Header.Get("set-cookie"), "stick=")
		}},
	} {
		t.Run(c.policy, func(t *testing.T) {
			apply := func(from, to string) {
				w.Apply(t, fmt.Sprintf("type: %s\nname: zz-target\nspec: {targetRef: {%s}, to: [{targetRef: {%s}, default: %s}]}", c.policy, from, to, c.conf))
			}
			for _, kind := range kinds {
				for _, to := range clientTargets(kind, c.route) {
					apply("kind: Mesh", to)
					traffic.Until(t, fmt.Sprintf("%s does not show at a %s", to, kind), func() bool { return c.shows(t, kind) })
				}
				w.Remove(t, resource.Type(c.policy), "zz-target")
				traffic.Until(t, fmt.Sprintf("%s still shows at a %s", c.policy, kind), func() bool { return !c.shows(t, kind) })
			}
			for _, from := range proxyTargets {
				apply(from.ref, destinations["MeshService"])
				traffic.Until(t, fmt.Sprintf("%s: not as it should be", from.ref), func() bool { return c.shows(t, "MeshService") == from.meant })
			}
			w.Remove(t, resource.Type(c.policy), "zz-target")
		})
	}
	t.Run("MeshHTTPRoute", w.routes)
	t.Run("MeshTCPRoute", w.tcpRoutes)
}

// tries counts how often a request that always fails arrives.
func (w *wide) tries(t *testing.T, kind string) int64 {
	app := w.apps[body[kind]]
	fail := traffic.Status(503)
	old := app.Answer.Swap(&fail)
	defer app.Answer.Store(old)
	before := app.Count.Load()
	w.get(t, kind, "/")
	return app.Count.Load() - before
}

// overloaded tells whether the second of two requests is refused.
func (w *wide) overloaded(t *testing.T, kind string) bool {
	app := w.apps[body[kind]]
	enter, leave := make(chan struct{}, 10), make(chan struct{})
	var hold http.HandlerFunc = func(http.ResponseWriter, *http.Request) { enter <- struct{}{}; <-leave }
	old := app.Answer.Swap(&hold)
	defer app.Answer.Store(old)
	var wg sync.WaitGroup
	wg.Go(func() { w.get(t, kind, "/") })
	<-enter
	second := make(chan bool, 1)
	wg.Go(func() { second <- w.get(t, kind, "/").Header.Get("x-envoy-overloaded") == "true" })
	refused := false
	select {
	case <-enter: // it arrived
	case refused = <-second:
	}
	close(leave)
	wg.Wait()
	return refused
}

// probed tells whether checks arrive.
func (w *wide) probed(t *testing.T, kind string) bool {
	app := w.apps[body[kind]]
	var probes sync.Map
	answer := named(body[kind])
	var count http.HandlerFunc = func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/probe" {
			probes.Store("seen", true)
		}
		answer(rw, r)
	}
	app.Answer.Store(&count)
	defer app.Answer.Store(&answer)
	seen := false
	for range 10 {
		w.get(t, kind, "/")
		if _, seen = probes.Load("seen"); seen {
			break
		}
		time.Sleep(10 * time.Millisecond) // half an interval of the checks
	}
	return seen
}

// routes to and from every kind.
func (w *wide) routes(t *testing.T) {
	apply := func(from, to, conf string) {
		w.Apply(t, fmt.Sprintf("type: MeshHTTPRoute\nname: aa-route\nspec: {targetRef: {%s}, to: [{targetRef: {%s}, rules: [{matches: [{path: {type: PathPrefix, value: /}}], default: %s}]}]}", from, to, conf))
	}
	for _, kind := range kinds {
		for _, to := range clientTargets(kind, false)[1:] {
			for _, backend := range kinds {
				refs := []string{fmt.Sprintf("%s, port: %d", destinations[backend], ports[backend])}
				if backend == "MeshService" {
					refs = append(refs, destinations[backend]+", sectionName: main")
				}
				for _, ref := range refs {
					apply("kind: Mesh", to, "{backendRefs: [{"+ref+"}]}")
					traffic.Until(t, fmt.Sprintf("%s does not lead to %s", to, ref), func() bool { return w.get(t, kind, "/").Body == body[backend] })
					apply("kind: Mesh", to, "{filters: [{type: RequestMirror, requestMirror: {backendRef: {"+ref+", weight: 1}}}]}")
					app := w.apps[body[backend]]
					copies := int64(1)
					if backend == kind {
						copies = 2
					}
					traffic.Until(t, fmt.Sprintf("%s is not copied to %s", to, ref), func() bool {
						before := app.Count.Load()
						if got := w.get(t, kind, "/").Body; got != body[kind] {
							return false
						}
						time.Sleep(5 * time.Millisecond) // a copy may come a moment later
						return app.Count.Load()-before == copies
					})
				}
			}
		}
	}
	for _, from := range proxyTargets {
		apply(from.ref, destinations["MeshService"], "{filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-routed, value: 'yes'}]}}]}")
		traffic.Until(t, from.ref, func() bool { return (w.get(t, "MeshService", "/").Header.Get("x-routed") == "yes") == from.meant })
	}
	w.Remove(t, "MeshHTTPRoute", "aa-route")
}

// tcpRoutes to and from every kind.
func (w *wide) tcpRoutes(t *testing.T) {
	at := map[string]string{
		"MeshService":          "kind: MeshService, labels: {app: shop}, sectionName: bytes",
		"MeshMultiZoneService": "kind: MeshMultiZoneService, labels: {app: bytes}",
		"MeshExternalService":  "kind: MeshExternalService, labels: {app: pay-bytes}",
	}
	greeting := map[string]string{"MeshService": "tcp shop", "MeshMultiZoneService": "tcp west", "MeshExternalService": "tcp pay"}
	apply := func(from, to, refs string) {
		w.Apply(t, fmt.Sprintf("type: MeshTCPRoute\nname: route\nspec: {targetRef: {%s}, to: [{targetRef: {%s}, rules: [{default: {backendRefs: [%s]}}]}]}", from, to, refs))
	}
	for _, kind := range kinds {
		for _, backend := range kinds {
			refs := []string{"{" + at[backend] + ", port: 81, weight: 1}"}
			if backend == "MeshService" {
				refs = []string{"{" + at[backend] + "}", "{kind: MeshService, labels: {app: shop}, port: 81}"}
			}
			for _, ref := range refs {
				apply("kind: Mesh", at[kind], ref)
				traffic.Until(t, fmt.Sprintf("%s does not lead to %s", kind, ref), func() bool { return traffic.Connect(t, w.at["tcp "+kind]) == greeting[backend] })
			}
		}
	}
	for _, from := range proxyTargets {
		apply(from.ref, at["MeshService"], "{"+at["MeshExternalService"]+"}")
		traffic.Until(t, from.ref, func() bool { return (traffic.Connect(t, w.at["tcp MeshService"]) == "tcp pay") == from.meant })
	}
	w.Remove(t, "MeshTCPRoute", "route")
}
