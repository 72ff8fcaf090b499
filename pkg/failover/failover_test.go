package failover_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/atoll-mesh/atoll/pkg/failover"
	"github.com/atoll-mesh/atoll/pkg/identity"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

var now = time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)

// docs is a scenario by name, so that a test takes away or replaces parts.
type docs map[string]string

func (d docs) with(name, doc string) docs {
	c := docs{}
	for k, v := range d {
		c[k] = v
	}
	c[name] = doc
	return c
}

func (d docs) without(prefixes ...string) docs {
	c := docs{}
	for k, v := range d {
		if !slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(k, p) }) {
			c[k] = v
		}
	}
	return c
}

// inputs are the resources of a scenario as a global has them.
func (d docs) inputs(t testing.TB) failover.Inputs {
	t.Helper()
	var list [][]byte
	var names []string
	for name := range d {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		js, err := yaml.YAMLToJSON([]byte(d[name]))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		list = append(list, js)
	}
	in, err := failover.FromDocuments(list)
	if err != nil {
		t.Fatal(err)
	}
	in.Now = now
	return in
}

// live is the same when the resources are in a global: each says where it was
// made, and nothing is taken for granted.
func (d docs) live(t testing.TB) failover.Inputs {
	in := d.inputs(t)
	in.Files = false
	for _, list := range in.Source.(failover.Objects) {
		for _, o := range list {
			if z := o.Zone(); z != "" {
				o.Labels[resource.LabelOrigin] = resource.OriginZone
			} else {
				o.Labels[resource.LabelOrigin] = resource.OriginGlobal
			}
		}
	}
	return in
}

func proxy(zone, name string, inbounds string) string {
	return fmt.Sprintf("type: Dataplane\nmesh: m\nname: %s\nlabels: {kuma.io/zone: %s, kuma.io/workload: %s, app: %s}\nnetworking: {address: %s, %s}\n",
		name, zone, strings.TrimRight(name, "-123456789"), strings.TrimRight(name, "-123456789"), address(zone, name), inbounds)
}

var addresses = map[string]string{}

func address(zone, name string) string {
	k := zone + "/" + name
	if addresses[k] == "" {
		n := len(addresses) + 1
		addresses[k] = fmt.Sprintf("10.0.%d.%d", n>>8, n&0xff)
	}
	return addresses[k]
}

func backend(zone string, n int, port string) string {
	return proxy(zone, fmt.Sprintf("backend-%d", n), "inbound: [{port: 8080, name: "+port+"}]")
}

func service(zone, port string) string {
	return fmt.Sprintf(`
type: MeshService
mesh: m
name: backend
labels: {kuma.io/zone: %s}
spec:
  state: Available
  selector: {dataplaneLabels: {matchLabels: {app: backend}}}
  ports: [{port: 80, name: %s, targetPort: 8080, appProtocol: http}]
  identities: [{type: SpiffeID, value: "spiffe://m.%s.mesh.local/workload/backend"}]
`, zone, port, zone)
}

func entrance(zone string) string {
	return fmt.Sprintf("type: MeshZoneAddress\nmesh: m\nname: entrance\nlabels: {kuma.io/zone: %s}\nspec: {address: 192.0.2.%d, port: 10001}\n", zone, len(zone))
}

func ingress(zone string, n int) string {
	return proxy(zone, fmt.Sprintf("ingress-%d", n), "listeners: [{type: ZoneIngress, address: 10.9.9.9, port: 10001, name: in}]")
}

// trust is that of the CA of a zone, which ends after some time.
func trust(t testing.TB, zone string, left time.Duration) string {
	t.Helper()
	made := now.Add(left).AddDate(-10, 0, 0)
	pair, err := identity.NewCA("m."+zone+".mesh.local", made)
	if err != nil {
		t.Fatal(err)
	}
	spec, _ := json.Marshal(kind.MeshTrustSpec{
		TrustDomain: "m." + zone + ".mesh.local",
		CABundles:   []kind.CABundle{{Type: kind.BundlePem, Pem: &kind.PemBundle{Value: string(pair.Certificate)}}},
	})
	return fmt.Sprintf("type: MeshTrust\nmesh: m\nname: identity\nlabels: {kuma.io/zone: %s}\nspec: %s\n", zone, spec)
}

const allowAll = `
type: MeshTrafficPermission
mesh: m
name: all
spec: {rules: [{default: {allow: [{spiffeID: {type: Prefix, value: "spiffe://m."}}]}}]}
`

const breaker = `
type: MeshCircuitBreaker
mesh: m
name: all
spec: {to: [{targetRef: {kind: Mesh}, default: {outlierDetection: {maxEjectionPercent: 100, detectors: {localOriginFailures: {consecutive: 5}}}}}]}
`

const retry = `
type: MeshRetry
mesh: m
name: all
spec: {to: [{targetRef: {kind: Mesh}, default: {http: {numRetries: 5, retryOn: [5xx]}}}]}
`

const timeout = `
type: MeshTimeout
mesh: m
name: all
spec: {to: [{targetRef: {kind: Mesh}, default: {connectionTimeout: 1s, http: {requestTimeout: 10s}}}]}
`

const routed = `
type: MeshHTTPRoute
mesh: m
name: all
spec:
  to:
  - targetRef: {kind: MeshMultiZoneService, labels: {kuma.io/display-name: backend}}
    rules: [{matches: [{path: {type: PathPrefix, value: /}}], default: {backendRefs: [{kind: MeshService, labels: {kuma.io/display-name: backend, kuma.io/zone: east}, port: 80}]}}]
`

const link = `
type: ZoneLink
name: east-to-western
labels: {kuma.io/zone: east}
spec: {observer: east, observed: western, state: Down, withdrawn: true, since: 2026-05-31T00:00:00Z}
`

const drained = `
type: ZoneTraffic
name: western
spec: {share: 0}
`

// certificate is what is known of a proxy whose certificate lasts a day and ends
// after some time.
func certificate(left time.Duration) string {
	ends := now.Add(left)
	return fmt.Sprintf(`
type: DataplaneInsight
mesh: m
name: client-1
labels: {kuma.io/zone: east}
subscriptions: [{id: a, connectTime: "2026-05-01T00:00:00Z"}]
mTLS: {certificateExpirationTime: %q, lastCertificateRegeneration: %q}
`, ends.Format(time.RFC3339), ends.Add(-24*time.Hour).Format(time.RFC3339))
}

// sound has no gap: two backends, two zone proxies and a client in each of two
// zones, and all that is needed between them.
func sound(t testing.TB) docs {
	d := docs{
		"mesh":     "type: Mesh\nname: m\n",
		"identity": "type: MeshIdentity\nmesh: m\nname: identity\nspec: {selector: {dataplane: {matchLabels: {}}}, provider: {type: Bundled, bundled: {meshTrustCreation: Enabled, insecureAllowSelfSigned: true, autogenerate: {enabled: true}}}}\n",
		"allow":    allowAll,
		"join":     "type: MeshMultiZoneService\nmesh: m\nname: backend\nspec: {selector: {meshService: {matchLabels: {kuma.io/display-name: backend}}}, ports: [{name: web, port: 80, appProtocol: http}]}\n",
	}
	d["breaker"], d["retry"] = breaker, retry
	for _, z := range []string{"east", "western"} {
		d["zone "+z] = "type: Zone\nname: " + z + "\n"
		d["service "+z] = service(z, "web")
		d["entrance "+z] = entrance(z)
		d["client "+z] = proxy(z, "client-1", "inbound: [{port: 8080}]")
		d["trust "+z] = trust(t, z, 8*365*24*time.Hour)
		for n := 1; n <= 2; n++ {
			d[fmt.Sprintf("backend %s %d", z, n)] = backend(z, n, "web")
			d[fmt.Sprintf("ingress %s %d", z, n)] = ingress(z, n)
		}
	}
	return d
}

func check(t testing.TB, in failover.Inputs, q failover.Query) *failover.Report {
	t.Helper()
	r, err := failover.Check(in, q)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// text is gaps in short.
func text(r *failover.Report) string {
	var b strings.Builder
	for _, g := range r.Gaps {
		fmt.Fprintf(&b, "%s %s %s lost=%s clients=%v %s: %s\n", g.Code, g.Severity, g.Service, g.Zone, g.Clients, g.Resource, g.Message)
	}
	return b.String()
}

// Where everything is as it should be no code fires, online and in files; that
// is the scenario in which each of them does not.
func TestSound(t *testing.T) {
	d := sound(t)
	for name, in := range map[string]failover.Inputs{"files": d.inputs(t), "files without trust": d.without("trust").inputs(t)} {
		r := check(t, in, failover.Query{})
		if len(r.Gaps) > 0 {
			t.Errorf("%s:\n%s", name, text(r))
		}
		if len(r.Losses) != 2 || len(r.Losses[0].Serves) != 1 || r.Losses[0].Serves[0].Zone != "western" || r.Losses[0].Serves[0].Endpoints != 2 {
			t.Errorf("%s: losses %+v", name, r.Losses)
		}
	}
	// Nobody tells of a connected zone here; nothing else may fire.
	up := strings.Replace(strings.Replace(link, "Down", "Up", 1), "true", "false", 1)
	whole := strings.Replace(drained, "share: 0", "share: 100", 1)
	r := check(t, d.with("link", up).with("drained", whole).with("timeout", timeout).with("insight", certificate(16*time.Hour)).live(t), failover.Query{})
	for _, g := range r.Gaps {
		if g.Code != failover.Stale {
			t.Errorf("live:\n%s", text(r))
			break
		}
	}
}

// Each code fires for its own reason.
func TestCodes(t *testing.T) {
	d := sound(t)
	strategy := "type: MeshLoadBalancingStrategy\nmesh: m\nname: home\nspec: {to: [{targetRef: {kind: Mesh}, default: {localityAwareness: {crossZone: {failover: [{to: {type: None}}]}}}}]}\n"
	eastOnly := "type: MeshTrafficPermission\nmesh: m\nname: all\nspec: {rules: [{default: {allow: [{spiffeID: {type: Prefix, value: \"spiffe://m.western\"}}]}}]}\n"
	for name, c := range map[string]struct {
		docs     docs
		live     bool
		lose     string
		code     string
		severity string
		clients  string // of the gap
	}{
		"one zone":           {d.without("service western"), false, "east", failover.OneZone, failover.Error, "[]"},
		"not joined":         {d.without("join"), false, "east", failover.NotJoined, failover.Error, "[]"},
		"strategy":           {d.with("strategy", strategy), false, "east", failover.NoCrossing, failover.Error, "[east]"},
		"no address":         {d.without("entrance western"), false, "east", failover.NoEntrance, failover.Error, "[east]"},
		"no zone proxy":      {d.without("ingress western"), false, "east", failover.NoEntrance, failover.Error, "[east]"},
		"address is a name":  {d.with("entrance western", strings.Replace(entrance("western"), "192.0.2.7", "western.example", 1)), false, "east", failover.NoEntrance, failover.Error, "[east]"},
		"one zone proxy":     {d.without("ingress western 2"), false, "east", failover.OneZoneProxy, failover.Warning, "[east]"},
		"no identity":        {d.without("identity"), false, "east", failover.NoTrust, failover.Error, "[east]"},
		"no trust":           {d.without("trust western"), true, "east", failover.NoTrust, failover.Error, "[east]"},
		"trust not shared":   {d.without("trust").with("mesh", "type: Mesh\nname: m\nlabels: {atoll.mesh/share-trust: \"false\"}\n"), false, "east", failover.NoTrust, failover.Error, "[east]"},
		"no permission":      {d.with("allow", strings.Replace(eastOnly, "spec:", "labels: {kuma.io/zone: western}\nspec:", 1)).with("allow east", strings.Replace(allowAll, "spec:", "labels: {kuma.io/zone: east}\nspec:", 1)), false, "east", failover.NotPermitted, failover.Error, "[east]"},
		"too few":            {d.with("backend east 3", backend("east", 3, "web")).without("backend western 2"), false, "east", failover.TooFew, failover.Warning, "[]"},
		"not connected":      {d, true, "east", failover.Stale, failover.Warning, "[]"},
		"CA ends in 20 days": {d.with("trust western", trust(t, "western", 20*24*time.Hour)), false, "east", failover.Expiring, failover.Warning, "[]"},
		"CA ends tomorrow":   {d.with("trust western", trust(t, "western", 24*time.Hour)), false, "east", failover.Expiring, failover.Error, "[]"},
		"none ready":         {d.without("backend western"), false, "east", failover.NotReady, failover.Error, "[]"},
		"port":               {d.with("service western", service("western", "other")), false, "east", failover.PortMissing, failover.Error, "[]"},
		"out of reach":       {d.with("link", link), true, "east", failover.Unreachable, failover.Error, "[east]"},
		"no ejection":        {d.with("breaker", strings.Replace(breaker, "maxEjectionPercent: 100", "disabled: true", 1)), false, "east", failover.NotEjected, failover.Warning, "[east]"},
		"little ejection":    {d.with("breaker", strings.Replace(breaker, "100", "30", 1)), false, "east", failover.NotEjected, failover.Warning, "[east]"},
		"no retries":         {d.with("retry", strings.Replace(retry, "numRetries: 5", "numRetries: 0", 1)), false, "east", failover.NoRetry, failover.Warning, "[east]"},
		"retries not for it": {d.with("retry", strings.Replace(retry, "5xx", "Retriable4xx", 1)), false, "east", failover.NoRetry, failover.Warning, "[east]"},
		"one long try":       {d.with("retry", strings.Replace(retry, "numRetries: 5", "numRetries: 5, perTryTimeout: 15s", 1)), false, "east", failover.NoRetry, failover.Warning, "[east]"},
		"slow to connect":    {d.with("timeout", strings.Replace(timeout, "1s", "10s", 1)), false, "east", failover.NoRetry, failover.Warning, "[east]"},
		"certificate ends":   {d.with("insight", certificate(time.Hour)), true, "east", failover.NotRenewed, failover.Warning, "[]"},
		"certificate ended":  {d.with("insight", certificate(-time.Hour)), true, "east", failover.NotRenewed, failover.Error, "[]"},
		"routed":             {d.with("route", routed), false, "east", failover.RoutedAway, failover.Error, "[east western]"},
		"drained":            {d.with("drained", drained), true, "east", failover.IsDraining, failover.Warning, "[]"},
		"disabled":           {d.with("zone western", "type: Zone\nname: western\nenabled: false\n"), false, "east", failover.ZoneIsDisabled, failover.Error, "[]"},
	} {
		t.Run(name, func(t *testing.T) {
			in := c.docs.inputs(t)
			if c.live {
				in = c.docs.live(t)
			}
			r := check(t, in, failover.Query{Mesh: "m", Zone: c.lose})
			i := slices.IndexFunc(r.Gaps, func(g failover.Gap) bool { return g.Code == c.code })
			if i < 0 {
				t.Fatalf("%s did not fire:\n%s", c.code, text(r))
			}
			g := r.Gaps[i]
			if g.Severity != c.severity || fmt.Sprint(g.Clients) != c.clients {
				t.Errorf("got %s", text(r))
			}
			if g.Remedy == "" || g.Message == "" || !strings.HasPrefix(g.Resource, "kri_") || g.Docs != "docs/failover.md#"+strings.ToLower(c.code) {
				t.Errorf("incomplete: %+v", g)
			}
			for _, other := range r.Gaps {
				if other.Code != c.code && other.Code != failover.Stale {
					t.Errorf("and also:\n%s", text(r))
				}
			}
		})
	}
}
