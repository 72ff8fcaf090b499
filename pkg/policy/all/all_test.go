package all_test

import (
	"bytes"
	"encoding/json"
	"iter"
	"testing"

	"github.com/atoll-mesh/atoll/pkg/ir"
	"github.com/atoll-mesh/atoll/pkg/policy"
	"github.com/atoll-mesh/atoll/pkg/policy/all"
	"github.com/atoll-mesh/atoll/pkg/policy/meshhttproute"
	"github.com/atoll-mesh/atoll/pkg/policy/meshtimeout"
	"github.com/atoll-mesh/atoll/pkg/policy/policytest"
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
		{"MeshTimeout", "mesh-timeout-to-all-m-1", `{"targetRef":{"kind":"Mesh"},"to":[{"targetRef":{"kind":"Mesh"},"default":{"connectionTimeout":"5s","idleTimeout":"1h0m0s","http":{"requestTimeout":"15s","streamIdleTimeout":"30m0s"}}}]}`},
		{"MeshCircuitBreaker", "mesh-circuit-breaker-all-m-1", `{"targetRef":{"kind":"Mesh"},"to":[{"targetRef":{"kind":"Mesh"},"default":{"connectionLimits":{"maxConnections":1024,"maxPendingRequests":1024,"maxRetries":3,"maxRequests":1024}}}]}`},
		{"MeshRetry", "mesh-retry-all-m-1", `{"targetRef":{"kind":"Mesh"},"to":[{"targetRef":{"kind":"Mesh"},"default":{"tcp":{"maxConnectAttempt":5},"http":{"numRetries":5,"perTryTimeout":"16s","backOff":{"baseInterval":"25ms","maxInterval":"250ms"}},"grpc":{"numRetries":5,"perTryTimeout":"16s","backOff":{"baseInterval":"25ms","maxInterval":"250ms"}}}}]}`},
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

// FuzzSpec feeds anything to the decoders. What is accepted must survive being
// stored, and every proxy must be configurable with it.
func FuzzSpec(f *testing.F) {
	f.Add(true, `{"to":[{"targetRef":{"kind":"MeshService","labels":{"app":"backend"}},"default":{"http":{"requestTimeout":"1s"}}}]}`)
	f.Add(true, `{"targetRef":{"kind":"Dataplane","sectionName":"web"},"rules":[{"matches":[{"spiffeID":{"type":"Prefix","value":"spiffe://td"},"sni":{"type":"Exact","value":"a.b"}}],"default":{"http":{"requestTimeout":"1s"}}},{"default":{"idleTimeout":"0s"}}]}`)
	f.Add(false, `{"to":[{"targetRef":{"kind":"MeshService","labels":{"app":"backend"}},"rules":[{"matches":[{"path":{"type":"PathPrefix","value":"/v1"},"headers":[{"name":"a"}],"queryParams":[{"type":"Exact","name":"q","value":"v"}]},{"method":"GET"}],
		"default":{"backendRefs":[{"kind":"MeshService","labels":{"app":"backend-next"},"weight":4294967295},{"kind":"MeshMultiZoneService","labels":{"app":"backend"},"port":80,"weight":4294967295},{"kind":"MeshService","labels":{"app":"nowhere"},"weight":3}]}}]}]}`)
	f.Add(false, `{"to":[{"targetRef":{"kind":"MeshMultiZoneService","labels":{"app":"backend"}},"rules":[{"matches":[{"path":{"type":"PathPrefix","value":"/"}}],"default":{"filters":[
		{"type":"RequestHeaderModifier","requestHeaderModifier":{"set":[{"name":"a","value":"b"}]}},{"type":"RequestMirror","requestMirror":{"percentage":"0.5","backendRef":{"kind":"MeshService","labels":{"app":"backend-next"}}}},
		{"type":"URLRewrite","urlRewrite":{"path":{"type":"ReplacePrefixMatch","replacePrefixMatch":""}}},{"type":"RequestRedirect","requestRedirect":{"path":{"type":"ReplaceFullPath","replaceFullPath":""}}}]}}]}]}`)
	f.Fuzz(func(t *testing.T, timeout bool, spec string) {
		def := meshhttproute.Def
		if timeout {
			def = meshtimeout.Def
		}
		kind := def.Kind()
		o, err := kind.DecodeJSON([]byte(`{"type":"` + string(kind.Type) + `","name":"x","mesh":"default","spec":` + spec + `}`))
		if err != nil || o.Type != kind.Type || o.Name != "x" {
			return
		}
		if kind.Validate(o) != nil {
			return
		}
		again, err := kind.FromWire(o.Meta, o.SpecWire(), nil)
		if err != nil {
			t.Fatalf("what was stored cannot be read: %v", err)
		}
		b, err := json.Marshal(again.Spec)
		if err != nil || !bytes.Equal(b, o.SpecWire()) {
			t.Fatalf("stored\n%s\nread and stored again\n%s", o.SpecWire(), b)
		}
		configure(t, o)
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
