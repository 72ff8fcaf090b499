package all_test

import (
	"bytes"
	"encoding/json"
	"iter"
	"testing"

	"github.com/atoll-mesh/atoll/pkg/ir"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/policy"
	"github.com/atoll-mesh/atoll/pkg/policy/all"
	"github.com/atoll-mesh/atoll/pkg/policy/policytest"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// seeds are specs to start from, of every kind that has one of its own.
var seeds = map[resource.Type][]string{
	"MeshTimeout": {
		`{"to":[{"targetRef":{"kind":"MeshService","labels":{"app":"backend"}},"default":{"http":{"requestTimeout":"1s"}}}]}`,
		`{"targetRef":{"kind":"Dataplane","sectionName":"web"},"rules":[{"matches":[{"spiffeID":{"type":"Prefix","value":"spiffe://td"},"sni":{"type":"Exact","value":"a.b"}}],"default":{"http":{"requestTimeout":"1s"}}},{"default":{"idleTimeout":"0s"}}]}`,
	},
	"MeshHTTPRoute": {
		`{"to":[{"targetRef":{"kind":"MeshService","labels":{"app":"backend"}},"rules":[{"matches":[{"path":{"type":"PathPrefix","value":"/v1"},"headers":[{"name":"a"}],"queryParams":[{"type":"Exact","name":"q","value":"v"}]},{"method":"GET"}],
		"default":{"backendRefs":[{"kind":"MeshService","labels":{"app":"backend-next"},"weight":4294967295},{"kind":"MeshMultiZoneService","labels":{"app":"backend"},"port":80,"weight":4294967295},{"kind":"MeshService","labels":{"app":"nowhere"},"weight":3}]}}]}]}`,
		`{"to":[{"targetRef":{"kind":"MeshMultiZoneService","labels":{"app":"backend"}},"rules":[{"matches":[{"path":{"type":"PathPrefix","value":"/"}}],"default":{"filters":[
		{"type":"RequestHeaderModifier","requestHeaderModifier":{"set":[{"name":"a","value":"b"}]}},{"type":"RequestMirror","requestMirror":{"percentage":"0.5","backendRef":{"kind":"MeshService","labels":{"app":"backend-next"}}}},
		{"type":"URLRewrite","urlRewrite":{"path":{"type":"ReplacePrefixMatch","replacePrefixMatch":""}}},{"type":"RequestRedirect","requestRedirect":{"path":{"type":"ReplaceFullPath","replaceFullPath":""}}}]}}]}]}`,
	},
	"MeshTCPRoute":              {`{"to":[{"targetRef":{"kind":"MeshService","labels":{"app":"backend"}},"rules":[{"default":{"backendRefs":[{"kind":"MeshService","labels":{"app":"backend-next"},"weight":0}]}}]}]}`},
	"MeshTLS":                   {`{"rules":[{"default":{"mode":"Permissive","tlsVersion":{"min":"TLS12"},"tlsCiphers":["ECDHE-RSA-AES128-GCM-SHA256"]}}]}`},
	"MeshLoadBalancingStrategy": {`{"to":[{"targetRef":{"kind":"Mesh"},"default":{"loadBalancer":{"type":"LeastRequest","leastRequest":{"activeRequestBias":"1.3"}},"localityAwareness":{"localZone":{"affinityTags":[{"key":"a"}]},"crossZone":{"failover":[{"to":{"type":"Any"}}],"failoverThreshold":{"percentage":"70"}}},"hashPolicies":[{"type":"Cookie","cookie":{"name":"c","ttl":"1s"}}]}}]}`},
	"MeshPassthrough":           {`{"default":{"passthroughMode":"Matched","appendMatch":[{"type":"Domain","value":"*.a.b","port":443,"protocol":"tls"},{"type":"CIDR","value":"::/0","protocol":"tcp"}]}}`},
	"MeshAccessLog":             {`{"rules":[{"default":{"backends":[{"type":"File","file":{"path":"/dev/stdout","format":{"type":"Json","json":[{"key":"a","value":"%KUMA_MESH%"}]}}}]}}]}`},
	"MeshTrace":                 {`{"default":{"backends":[{"type":"Zipkin","zipkin":{"url":"http://a:1/b"}}],"sampling":{"overall":"0.5"},"tags":[{"name":"a","header":{"name":"h"}}]}}`},
	"MeshFaultInjection":        {`{"rules":[{"default":{"http":[{"abort":{"httpStatus":500,"percentage":"2.5"},"delay":{"value":"1s","percentage":1},"responseBandwidth":{"limit":"5 Mbps","percentage":100}}]}}]}`},
	"MeshRateLimit":             {`{"targetRef":{"kind":"Dataplane"},"rules":[{"default":{"local":{"http":{"requestRate":{"num":1,"interval":"1s"},"onRateLimit":{"status":429,"headers":{"add":[{"name":"a","value":"b"}]}}},"tcp":{"connectionRate":{"num":1,"interval":"51ms"}}}}}]}`},
	"MeshTrafficPermission":     {`{"rules":[{"default":{"deny":[{"spiffeID":{"type":"Exact","value":"spiffe://a/b"}}],"allow":[{"sni":{"type":"Exact","value":"a.b"}}]}}]}`},
	"MeshHealthCheck":           {`{"to":[{"targetRef":{"kind":"Mesh"},"default":{"interval":"1s","http":{"path":"/","expectedStatuses":[200],"requestHeadersToAdd":{"set":[{"name":"a","value":"b"}]}},"tcp":{"send":"a","receive":["b"]}}}]}`},
	"MeshCircuitBreaker":        {`{"to":[{"targetRef":{"kind":"Mesh"},"default":{"connectionLimits":{"maxRetries":1},"outlierDetection":{"interval":"1s","healthyPanicThreshold":"0.5","detectors":{"successRate":{"standardDeviationFactor":"1.9"}}}}}]}`},
	"MeshRetry":                 {`{"to":[{"targetRef":{"kind":"Mesh"},"default":{"http":{"retryOn":["5xx","HttpMethodGet","503"],"hostSelection":[{"predicate":"OmitPreviousPriorities"}],"rateLimitedBackOff":{"resetHeaders":[{"name":"a","format":"Seconds"}]},"backOff":{"maxInterval":"1s"}},"grpc":{"retryOn":["Canceled"]},"tcp":{"maxConnectAttempt":1}}}]}`},
	"MeshMetric":                {`{"default":{"sidecar":{"profiles":{"appendProfiles":[{"name":"All"}],"include":[{"type":"Regex","match":"a.*"}]}},"applications":[{"port":80}],"backends":[{"type":"Prometheus","prometheus":{}}]}}`},
	"MeshProxyPatch":            {`{"default":{"appendModifications":[{"cluster":{"operation":"Patch","match":{"name":"a"},"jsonPatches":[{"op":"replace","path":"/a","value":{"b":null}}]}},{"httpFilter":{"operation":"AddFirst","value":"name: a\n"}}]}}`},
	kind.MeshService:            {`{"selector":{"dataplaneLabels":{"matchLabels":{"a":"b"}}},"ports":[{"port":80,"targetPort":"http","appProtocol":"HTTP"}]}`},
	kind.MeshMultiZoneService:   {`{"selector":{"meshService":{"matchLabels":{"a":"b"}}},"ports":[{"name":"a","port":80}]}`},
	kind.MeshExternalService:    {`{"match":{"port":80},"endpoints":[{"address":"a.b","port":1,"priority":3}],"tls":{"enabled":true,"version":{"min":"TLS12"},"verification":{"caCert":{"type":"Secret","secretRef":{"kind":"Secret","name":"a"}}}}}`},
	kind.HostnameGenerator:      {`{"selector":{"meshService":{"matchLabels":{}}},"template":"{{ .DisplayName }}.{{ label \"a\" }}.mesh"}`},
	kind.MeshIdentity:           {`{"selector":{"dataplane":{}},"spiffeID":{"path":"/{{ label \"a\" }}"},"provider":{"type":"Bundled","bundled":{"autogenerate":{"enabled":true},"certificateParameters":{"expiry":"1h"}}}}`},
	kind.MeshTrust:              {`{"trustDomain":"a","caBundles":[{"type":"Pem","pem":{"value":"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"}}]}`},
}

// FuzzSpec feeds anything to the decoders of all kinds. What is accepted must
// survive being stored, and proxies must be configurable with every policy.
func FuzzSpec(f *testing.F) {
	policies := map[resource.Type]bool{}
	kinds := kind.All()
	for _, d := range all.Policies() {
		kinds = append(kinds, d.Kind())
		policies[d.Kind().Type] = true
	}
	for i, k := range kinds {
		if policies[k.Type] && len(seeds[k.Type]) == 0 {
			f.Errorf("no seed for %s", k.Type)
		}
		for _, s := range seeds[k.Type] {
			if _, err := k.DecodeJSON([]byte(`{"type":"` + string(k.Type) + `","name":"x","spec":` + s + `}`)); err != nil {
				f.Errorf("%s: %s: %v", k.Type, s, err)
			}
			f.Add(byte(i), s)
		}
		if k.Proto {
			f.Add(byte(i), `null,"networking":{"address":"1.1.1.1","inbound":[{"port":"80","serviceProbe":{"interval":"1s"}}]},"data":"YQ==","enabled":null`)
		}
	}
	f.Fuzz(func(t *testing.T, which byte, spec string) {
		k := kinds[int(which)%len(kinds)]
		o, err := k.DecodeJSON([]byte(`{"type":"` + string(k.Type) + `","name":"x","mesh":"default","spec":` + spec + `}`))
		if err != nil || o.Type != k.Type || o.Name != "x" {
			return
		}
		if k.Validate != nil && k.Validate(o) != nil {
			return
		}
		again, err := k.FromWire(o.Meta, o.SpecWire(), nil)
		if err != nil {
			t.Fatalf("what was stored cannot be read: %v", err)
		}
		b := again.SpecWire()
		if !k.Proto {
			b, err = json.Marshal(again.Spec)
		}
		if err != nil || !bytes.Equal(b, o.SpecWire()) {
			t.Fatalf("stored\n%s\nread and stored again\n%s", o.SpecWire(), b)
		}
		if policies[k.Type] {
			configure(t, o)
		}
	})
}

func configure(t *testing.T, o *resource.Object) {
	ix := policy.NewIndex(all.Policies(), func(typ resource.Type) iter.Seq[*resource.Object] {
		return func(yield func(*resource.Object) bool) {
			if typ == o.Type {
				yield(o)
			}
		}
	})
	p := &policy.Proxy{
		Meta:     &resource.Meta{ID: resource.ID{Type: policy.Dataplane, Mesh: "default", Name: "client"}},
		Sections: []policy.Section{{Name: "web", Address: "127.0.0.1", Port: 80}},
	}
	m := ix.Match(p, policy.Options{Shadow: true})
	rules := policy.BuildOutbound(m, policytest.World)
	for _, d := range policytest.World {
		for _, port := range d.Ports {
			dest := policy.Dest{Destination: d, Port: port}
			rules.Digest(dest)
			out := &policy.Outbound{Dest: dest, Listener: &ir.Listener{}}
			rules.Outbound(out)
			clusters := map[string]bool{}
			for _, b := range out.Backends {
				rules.Cluster(b, &ir.Cluster{Name: b.Name()})
				clusters[b.Name()] = true
			}
			if out.Routes != nil {
				checkRoutes(t, out.Routes, clusters)
			}
		}
	}
	rc := &ir.RouteConfig{Name: "r", Routes: []*ir.Route{{Match: ir.RouteMatch{Prefix: "/"}, Forward: &ir.Forward{Clusters: []ir.WeightedRef{{Cluster: "c"}}}}}}
	m.Inbound(&policy.Inbound{
		Address: "127.0.0.1", Port: 80, Protocol: ir.HTTP1, Routes: []*ir.RouteConfig{rc}, Clusters: []*ir.Cluster{{Name: "c"}},
		Listener: &ir.Listener{Chains: []*ir.Chain{{HTTP: &ir.HTTP{RouteConfig: "r"}}}},
	})
}

// checkRoutes holds what Envoy asks of routes.
func checkRoutes(t *testing.T, rc *ir.RouteConfig, clusters map[string]bool) {
	for _, r := range rc.Routes {
		actions := 0
		for _, set := range []bool{r.Forward != nil, r.Redirect != nil, r.Direct != nil} {
			if set {
				actions++
			}
		}
		if actions != 1 {
			t.Errorf("route with %d actions: %+v", actions, r)
		}
		if f := r.Match.Fraction; f != nil && (f.Numerator == 0 || f.Numerator > f.Denominator) {
			t.Errorf("fraction %+v", f)
		}
		if r.Forward == nil {
			continue
		}
		sum := uint64(0)
		for _, w := range r.Forward.Clusters {
			sum += uint64(w.Weight)
			if !clusters[w.Cluster] {
				t.Errorf("cluster %s is not among the backends", w.Cluster)
			}
		}
		if sum == 0 || sum > 1<<32-1 {
			t.Errorf("weights add up to %d", sum)
		}
	}
}
