package traffic_test

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/atoll-mesh/atoll/test/traffic"
)

// TestZones shows which zones get the traffic of a service that four zones have,
// while all of their endpoints serve and when some do not.
func TestZones(t *testing.T) {
	t.Parallel()
	m := traffic.Start(t)
	m.Identify(t)
	m.Client(t)
	z := &zones{Mesh: m, apps: map[string]*traffic.Server{}}
	for _, zone := range []string{"here", "here2", "west", "north", "south"} {
		e := m.Entrance(t, "cart", "", named(zone))
		z.apps[zone] = &e.Server
		if strings.HasPrefix(zone, "here") {
			m.Apply(t, fmt.Sprintf(`
type: Dataplane
name: cart-%s
labels: {app: cart, kuma.io/workload: cart, rack: %[1]s}
networking: {address: 127.0.0.1, inbound: [{port: %d, name: main, protocol: http}]}`, zone, e.Port))
		} else {
			m.Zone(t, zone, "cart", "http", e.Port)
		}
	}
	m.Apply(t, `
type: MeshService
name: cart
labels: {everywhere: cart}
spec:
  selector: {dataplaneLabels: {matchLabels: {app: cart}}}
  ports: [{port: 80, name: main, targetPort: main, appProtocol: http}]
  identities: [{type: SpiffeID, value: "spiffe://`+traffic.TrustDomain+`/workload/cart"}]
status: {tls: {status: Ready}}
---
type: MeshMultiZoneService
name: cart
labels: {app: cart}
spec:
  selector: {meshService: {matchLabels: {everywhere: cart}}}
  ports: [{port: 80, name: main, appProtocol: http}]
---
type: MeshHealthCheck
name: health
spec: {to: [{targetRef: {kind: Mesh}, default: {interval: 20ms, noTrafficInterval: 20ms, timeout: 1s, unhealthyThreshold: 1, healthyThreshold: 1, http: {path: /probe}}}]}`)
	z.at = "http://" + m.Outbound(t, "{kind: MeshMultiZoneService, name: cart, port: 80}")
	t.Run("failover", z.failover)
	t.Run("threshold", z.threshold)
	t.Run("affinity", z.affinity)
	t.Run("retries", z.retries)
}

type zones struct {
	*traffic.Mesh
	apps map[string]*traffic.Server
	at   string
}

func (z *zones) apply(t *testing.T, conf string) {
	t.Helper()
	z.Apply(t, "type: MeshLoadBalancingStrategy\nname: zones\nspec: {to: [{targetRef: {kind: MeshMultiZoneService, labels: {app: cart}}, default: {localityAwareness: "+conf+"}}]}")
}

// down makes these answer checks and requests with 503, and all others serve.
func (z *zones) down(list ...string) {
	for zone, app := range z.apps {
		var h http.HandlerFunc = named(zone)
		if slices.Contains(list, zone) {
			h = traffic.Status(503)
		}
		app.Answer.Store(&h)
	}
}

// answers tells who answers twenty requests.
func (z *zones) answers(t *testing.T) string {
	t.Helper()
	seen := map[string]bool{}
	for range 20 {
		got := traffic.Get(t, z.at)
		if got.Status != 200 {
			got.Body = fmt.Sprint(got.Status)
		}
		seen[strings.TrimSuffix(got.Body, "2")] = true
	}
	return strings.Join(slices.Sorted(maps.Keys(seen)), " ")
}

func (z *zones) want(t *testing.T, what, want string) {
	t.Helper()
	last := ""
	traffic.Until(t, what+" is not answered by "+want, func() bool {
		got := z.answers(t)
		if got != want && got != last {
			t.Logf("%s: %s", what, got)
		}
		last = got
		return got == want
	})
}

func (z *zones) failover(t *testing.T) {
	for _, c := range []struct{ conf, whole, lost string }{
		{"{}", "here", "north south west"},
		{"{disabled: false}", "here", "north south west"},
		{"{disabled: true}", "here north south west", "north south west"},
		{"{disabled: true, crossZone: {failover: [{to: {type: Only, zones: [west]}}]}}", "here north south west", "north south west"},
		{"{crossZone: {failover: [{to: {type: Any}}]}}", "here", "north south west"},
		{"{crossZone: {failover: [{to: {type: Only, zones: [west]}}]}}", "here", "west"},
		{"{crossZone: {failover: [{to: {type: Only, zones: [west, north]}}]}}", "here", "north west"},
		{"{crossZone: {failover: [{to: {type: AnyExcept, zones: [west, north]}}]}}", "here", "south"},
		{"{crossZone: {failover: [{to: {type: None}}]}}", "here", "503"},
		{"{crossZone: {failover: [{to: {type: None}}, {to: {type: Only, zones: [south]}}]}}", "here", "south"},
		{"{crossZone: {failover: [{from: {zones: [east]}, to: {type: Only, zones: [north]}}, {to: {type: Any}}]}}", "here", "north"},
		{"{crossZone: {failover: [{from: {zones: [elsewhere]}, to: {type: Only, zones: [north]}}, {to: {type: Only, zones: [south]}}]}}", "here", "south"},
	} {
		z.down()
		z.apply(t, c.conf)
		z.want(t, c.conf, c.whole)
		z.down("here", "here2")
		z.want(t, c.conf+" without local endpoints", c.lost)
	}
	// The second step takes over when the first is lost, too.
	z.apply(t, "{crossZone: {failover: [{to: {type: Only, zones: [west]}}, {to: {type: Only, zones: [north]}}]}}")
	z.want(t, "two steps", "west")
	z.down("here", "here2", "west")
	z.want(t, "two steps, the first lost", "north")
	z.down()
}

// threshold: with half of the local endpoints healthy, traffic stays or goes.
func (z *zones) threshold(t *testing.T) {
	z.down("here2")
	for _, c := range []struct{ percentage, want string }{
		{"40", "here"}, {`"49.5"`, "here"}, {"100", "here west"}, {"70", "here west"},
	} {
		z.apply(t, "{crossZone: {failoverThreshold: {percentage: "+c.percentage+"}, failover: [{to: {type: Only, zones: [west]}}]}}")
		z.want(t, "below "+c.percentage+"%", c.want)
	}
	z.down()
}

// affinity: endpoints that share a label with the client get most of the traffic
// of the zone.
func (z *zones) affinity(t *testing.T) {
	count := func() (here, here2 int) {
		for range 200 {
			switch traffic.Get(t, z.at).Body {
			case "here":
				here++
			case "here2":
				here2++
			}
		}
		return here, here2
	}
	for _, c := range []struct {
		tags      string
		low, high int // of 200 for the endpoint in the rack
	}{
		{"[{key: place}]", 155, 200},                                       // 9 to 1
		{"[{key: place, weight: 3}]", 115, 185},                            // 3 to 1
		{"[{key: none}, {key: place}]", 155, 200},                          // what the client lacks does not count
		{"[{key: none, weight: 100}, {key: other, weight: 100}]", 60, 140}, // nothing is shared
	} {
		z.Apply(t, fmt.Sprintf(`
type: Dataplane
name: cart-here
labels: {app: cart, kuma.io/workload: cart, place: r1}
networking: {address: 127.0.0.1, inbound: [{port: %d, name: main, protocol: http}]}`, z.apps["here"].Port))
		z.Apply(t, "type: MeshLoadBalancingStrategy\nname: zones\nspec: {to: [{targetRef: {kind: MeshMultiZoneService, labels: {app: cart}}, default: {loadBalancer: {type: RoundRobin, roundRobin: {}}, localityAwareness: {localZone: {affinityTags: "+strings.ReplaceAll(c.tags, "place", "rack")+"}}}}]}")
		z.Apply(t, fmt.Sprintf(`
type: Dataplane
name: cart-here
labels: {app: cart, kuma.io/workload: cart, rack: r1}
networking: {address: 127.0.0.1, inbound: [{port: %d, name: main, protocol: http}]}`, z.apps["here"].Port))
		traffic.Until(t, c.tags, func() bool {
			here, here2 := count()
			return here >= c.low && here <= c.high && here+here2 == 200
		})
	}
}

// retries: another try leaves out the priorities that failed.
func (z *zones) retries(t *testing.T) {
	z.Remove(t, "MeshHealthCheck", "health")
	z.Remove(t, "MeshLoadBalancingStrategy", "zones")
	z.down("here", "here2")
	for _, c := range []struct {
		selection string
		all       bool
	}{
		{"[{predicate: OmitPreviousPriorities, updateFrequency: 1}]", true},
		{"[{predicate: OmitPreviousHosts}]", false},
	} {
		z.Apply(t, "type: MeshRetry\nname: zones\nspec: {to: [{targetRef: {kind: MeshMultiZoneService, labels: {app: cart}}, default: {http: {numRetries: 1, retryOn: [5xx], backOff: {baseInterval: 1ms}, hostSelection: "+c.selection+"}}}]}")
		traffic.Until(t, c.selection, func() bool {
			good := 0
			for range 20 {
				if traffic.Get(t, z.at).Status == 200 {
					good++
				}
			}
			return c.all && good == 20 || !c.all && good == 0
		})
	}
	z.down()
}

// TestHashing shows what of a request decides about its endpoint.
func TestHashing(t *testing.T) {
	t.Parallel()
	m := traffic.Start(t)
	m.Client(t)
	var ports []int
	for _, name := range []string{"a", "b", "c", "d"} {
		ports = append(ports, traffic.Serve(t, traffic.Named(name)).Port)
	}
	at := "http://" + m.Service(t, "hashed", "http", nil, ports...) + "/"
	apply := func(conf string) {
		m.Apply(t, "type: MeshLoadBalancingStrategy\nname: hashed\nspec: {to: [{targetRef: {kind: MeshService, labels: {app: hashed}}, default: {"+conf+"}}]}")
	}
	// where keys lead; a key that does not stick leads to "?".
	where := func(get func(key string) traffic.Reply) string {
		var out strings.Builder
		for i := range 24 {
			key := fmt.Sprint("key-", i)
			first := get(key).Body
			for range 3 {
				if get(key).Body != first {
					first = "?"
				}
			}
			out.WriteString(first)
		}
		return out.String()
	}
	byHeader := func(key string) traffic.Reply { return traffic.Get(t, at, "x-key", key) }
	different := func(s string) int {
		seen := map[rune]bool{}
		for _, r := range s {
			seen[r] = true
		}
		return len(seen)
	}
	rings := map[string]string{}
	for _, c := range []struct {
		lb        string
		low, high int // endpoints in use
	}{
		{"{type: RingHash, ringHash: {hashFunction: XXHash, minRingSize: 1024}}", 4, 4},
		{"{type: RingHash, ringHash: {hashFunction: MurmurHash2, minRingSize: 1024}}", 4, 4},
		{"{type: RingHash, ringHash: {minRingSize: 1, maxRingSize: 1}}", 1, 1},
		{"{type: RingHash}", 4, 4},
		{"{type: Maglev}", 4, 4},
		{"{type: Maglev, maglev: {tableSize: 2}}", 1, 2},
	} {
		apply("loadBalancer: " + c.lb + ", hashPolicies: [{type: Header, header: {name: x-key}}]")
		traffic.Until(t, c.lb, func() bool {
			rings[c.lb] = where(byHeader)
			n := different(rings[c.lb])
			return !strings.Contains(rings[c.lb], "?") && n >= c.low && n <= c.high
		})
	}
	if a, b := rings["{type: RingHash, ringHash: {hashFunction: XXHash, minRingSize: 1024}}"], rings["{type: RingHash, ringHash: {hashFunction: MurmurHash2, minRingSize: 1024}}"]; a == b {
		t.Errorf("both functions lead to %s", a)
	}
	const ring = "loadBalancer: {type: RingHash}, hashPolicies: "
	for _, c := range []struct {
		policies  string
		get       func(string) traffic.Reply
		low, high int
	}{
		{"[{type: QueryParameter, queryParameter: {name: q}}]", func(key string) traffic.Reply { return traffic.Get(t, at+"?q="+key) }, 3, 4},
		{"[{type: Cookie, cookie: {name: c}}]", func(key string) traffic.Reply { return traffic.Get(t, at, "cookie", "c="+key) }, 3, 4},
		{"[{type: Connection, connection: {sourceIP: true}}]", byHeader, 1, 1},
		{"[{type: Header, header: {name: x-key}, terminal: true}, {type: Connection, connection: {sourceIP: true}}]", byHeader, 3, 4},
		{"[{type: FilterState, filterState: {key: test.key}}]", byHeader, 3, 4},
	} {
		if strings.Contains(c.policies, "FilterState") {
			m.Apply(t, `
type: MeshProxyPatch
name: state
spec:
  default:
    appendModifications:
    - httpFilter:
        operation: AddFirst
        match: {origin: outbound}
        value: |
          name: envoy.filters.http.set_filter_state
          typedConfig:
            '@type': type.googleapis.com/envoy.extensions.filters.http.set_filter_state.v3.Config
            onRequestHeaders:
            - {objectKey: test.key, factoryKey: envoy.hashable_string, formatString: {textFormatSource: {inlineString: "%REQ(x-key)%"}}}`)
		}
		apply(ring + c.policies)
		last := ""
		traffic.Until(t, c.policies, func() bool {
			last = where(c.get)
			n := different(last)
			return !strings.Contains(last, "?") && n >= c.low && n <= c.high
		})
	}
	// A terminal policy keeps others from being looked at.
	apply(ring + "[{type: Header, header: {name: x-key}, terminal: true}, {type: QueryParameter, queryParameter: {name: q}}]")
	traffic.Until(t, "what follows a terminal policy counts", func() bool {
		first := byHeader("one").Body
		for i := range 20 {
			if traffic.Get(t, fmt.Sprint(at, "?q=", i), "x-key", "one").Body != first {
				return false
			}
		}
		return true
	})
	apply(ring + "[{type: Cookie, cookie: {name: c, ttl: 1m, path: /shop}}]")
	traffic.Until(t, "the cookie is not as it should be", func() bool {
		got := traffic.Get(t, at).Header.Get("set-cookie")
		return strings.HasPrefix(got, "c=") && strings.Contains(got, "Max-Age=60") && strings.Contains(got, "Path=/shop")
	})
	for _, lb := range []string{"{type: Random, random: {}}", "{type: RoundRobin, roundRobin: {}}", `{type: LeastRequest, leastRequest: {choiceCount: 2, activeRequestBias: "0.5"}}`} {
		apply("loadBalancer: " + lb)
		traffic.Until(t, lb+" sticks", func() bool { return strings.Contains(where(byHeader), "?") })
	}
}
