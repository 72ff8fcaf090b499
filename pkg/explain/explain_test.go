package explain

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"sigs.k8s.io/yaml"

	meshv1 "github.com/atoll-mesh/atoll/api/kuma/mesh/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/compile"
	"github.com/atoll-mesh/atoll/pkg/identity"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/policy/all"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/view"
)

var site = resource.Site{Zone: "east", Env: resource.EnvUniversal}

// world is resources by a word for each, which a case replaces or removes.
type world map[string]string

func whole() world {
	w := world{
		"mesh":    "type: Mesh\nname: default",
		"web":     "type: Dataplane\nname: web-1\nlabels: {app: web, kuma.io/workload: web}\nnetworking: {address: 192.0.2.1, inbound: [{port: 8080, name: main, protocol: http}], transparentProxying: {redirectPortInbound: 15006, redirectPortOutbound: 15001}}",
		"backend": "type: Dataplane\nname: backend-1\nlabels: {app: backend, kuma.io/workload: backend}\nnetworking: {address: 192.0.2.2, inbound: [{port: 8080, name: main, protocol: http}]}",
		"service": "type: MeshService\nname: backend\nspec:\n  selector: {dataplaneLabels: {matchLabels: {app: backend}}}\n  ports: [{port: 80, name: main, targetPort: main, appProtocol: http}]\n  identities: [{type: SpiffeID, value: spiffe://default.east.mesh.local/workload/backend}]\nstatus: {vips: [{ip: 241.0.0.1}], addresses: [{hostname: backend.mesh.local}], tls: {status: Ready}}",
		"timeout": "type: MeshTimeout\nname: all\nspec: {to: [{targetRef: {kind: Mesh}, default: {connectionTimeout: 3s, http: {requestTimeout: 4s}}}]}",
		"other":   "type: MeshTimeout\nname: of-backend\nspec: {to: [{targetRef: {kind: MeshService, labels: {kuma.io/display-name: backend}}, default: {http: {requestTimeout: 9s}}}]}",
		"web in":  "", "backend in": "",
		"id":    "type: MeshIdentity\nname: id\nspec:\n  selector: {dataplane: {matchLabels: {}}}\n  provider: {type: Bundled, bundled: {insecureAllowSelfSigned: true, autogenerate: {enabled: true}}}\nstatus: {conditions: [{type: Ready, status: \"True\", reason: x, message: x}]}",
		"trust": "type: MeshTrust\nname: id\nspec: {trustDomain: default.east.mesh.local, caBundles: [{type: Pem, pem: {value: CA}}]}",
		"allow": "type: MeshTrafficPermission\nname: allow\nspec: {rules: [{default: {allow: [{spiffeID: {type: Prefix, value: \"spiffe://default.east.mesh.local/\"}}]}}]}",
	}
	return w
}

func (w world) snapshot(t *testing.T, rejections ...kind.Rejection) *view.Snapshot {
	t.Helper()
	list := kind.All()
	for _, d := range all.Policies() {
		list = append(list, d.Kind())
	}
	kinds := resource.NewKinds(list...)
	var objects []*resource.Object
	ca, err := identity.NewCA("default.east.mesh.local", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range slices.Sorted(maps.Keys(w)) {
		if dp, is := strings.CutSuffix(name, " in"); is {
			o, err := kinds.ByType(kind.DataplaneInsight).New(
				resource.Meta{ID: resource.ID{Mesh: "default", Name: dp + "-1"}},
				&meshv1.DataplaneInsight{
					Subscriptions: []*meshv1.DiscoverySubscription{{Id: "1", ConnectTime: timestamppb.New(time.Unix(1, 0))}},
					Metadata:      kind.WithRejections(&structpb.Struct{}, rejections),
				}, nil)
			if err != nil {
				t.Fatal(err)
			}
			objects = append(objects, o)
			continue
		}
		js, err := yaml.YAMLToJSON([]byte(strings.ReplaceAll(w[name], "value: CA", fmt.Sprintf("value: %q", ca.Certificate))))
		if err != nil {
			t.Fatal(err)
		}
		var head struct {
			Type   resource.Type
			Status json.RawMessage
		}
		if err := json.Unmarshal(js, &head); err != nil {
			t.Fatal(err)
		}
		k := kinds.ByType(head.Type)
		o, err := k.DecodeJSON(js)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var status any
		if head.Status != nil {
			status = k.NewStatus()
			if err := json.Unmarshal(head.Status, status); err != nil {
				t.Fatal(err)
			}
		}
		m := o.Meta
		if k.Scope == resource.ScopeMesh {
			m.Mesh = "default"
		}
		m.Labels = site.ComputeLabels(k, m.Name, m.Mesh, m.Labels)
		if o, err = k.New(m, o.Spec, status); err != nil {
			t.Fatal(err)
		}
		objects = append(objects, o)
	}
	return view.Of(kinds, site, slices.Values(objects))
}

func inputs() Inputs {
	return Inputs{
		Compile: compile.Inputs{Policies: all.Policies(), Site: site},
		Info:    func(id resource.ID, _ *meshv1.DataplaneInsight) compile.ProxyInfo { return compile.ProxyInfo{ID: id} },
	}
}

func text(r *Report) string {
	b, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// TestWhole walks a way on which nothing is wrong.
func TestWhole(t *testing.T) {
	s := whole().snapshot(t)
	for _, to := range []string{"backend.mesh.local:80", "http://backend.mesh.local/x", "backend", "backend:main", "241.0.0.1:80", "kri_msvc_default_east__backend_main"} {
		for _, from := range []string{"web-1", "web.web-1"} {
			r := Explain(inputs(), s, Query{Mesh: "default", From: from, To: to})
			if !r.OK || r.From != "web-1" || r.To != "kri_msvc_default_east__backend_main" {
				t.Fatalf("%s to %s: %s", from, to, text(r))
			}
			var names []string
			for _, st := range r.Steps {
				names = append(names, st.Name)
				if st.State != OK {
					t.Errorf("%s to %s: %+v", from, to, st)
				}
			}
			if got := strings.Join(names, " "); got != "caller name address listener route endpoints identity permission rejection" {
				t.Errorf("steps %s", got)
			}
		}
	}
	r := Explain(inputs(), s, Query{Mesh: "default", From: "web-1", To: "backend"})
	var from []string
	for _, p := range r.Steps[4].Policies {
		from = append(from, fmt.Sprintf("%s=%v %s", p.Field, p.Value, p.Policy))
	}
	const want = "connectionTimeout=3s kri_mt_default_east__all_, http.requestTimeout=9s kri_mt_default_east__of-backend_"
	if got := strings.Join(from, ", "); got != want {
		t.Errorf("fields %s\nwant %s", got, want)
	}
	in := inputs()
	in.Sees = func(o *resource.Object) bool {
		return o.Name != "of-backend" && o.Name != "allow" && o.Name != "backend-1"
	}
	if got := text(Explain(in, s, Query{Mesh: "default", From: "web-1", To: "backend"})); strings.Contains(got, "of-backend") || strings.Contains(got, "__allow_") || strings.Contains(got, "backend-1") {
		t.Errorf("what may not be read is named: %s", got)
	}
	in.Sees = func(o *resource.Object) bool { return o.Name != "backend" }
	if r := Explain(in, s, Query{Mesh: "default", From: "web-1", To: "backend"}); r.Broken != "name" {
		t.Errorf("a service that may not be read: %s", text(r))
	}
}

// TestBreaks breaks the way at every step.
func TestBreaks(t *testing.T) {
	replace := func(name, old, with string) func(world) {
		return func(w world) {
			if !strings.Contains(w[name], old) {
				t.Errorf("%s has no %q", name, old)
			}
			w[name] = strings.Replace(w[name], old, with, 1)
		}
	}
	without := func(names ...string) func(world) {
		return func(w world) {
			for _, n := range names {
				delete(w, n)
			}
		}
	}
	passes := func(conf string) func(world) {
		return func(w world) { w["passthrough"] = "type: MeshPassthrough\nname: p\nspec: {default: {" + conf + "}}" }
	}
	for name, c := range map[string]struct {
		change     func(world)
		from, to   string
		rejections []kind.Rejection
		broken     string // "": none
		state      State  // of the step named
		step       string
		remedy     string
	}{
		"no caller":            {from: "none", broken: "caller", remedy: "get dataplanes"},
		"caller not connected": {change: without("web in"), step: "caller", state: Warning, remedy: "atoll-dp"},
		"no such host":         {to: "frontend.mesh.local:80", broken: "name", remedy: "HostnameGenerators"},
		"no such port":         {to: "backend:81", broken: "name", remedy: "add the port"},
		"no virtual address":   {change: replace("service", "vips: [{ip: 241.0.0.1}], ", ""), to: "backend", broken: "address", remedy: "leader"},
		"no hostname":          {change: replace("service", "hostname: backend.mesh.local", "hostname: \"\""), to: "backend", step: "address", state: OK},
		"not reachable":        {change: replace("web", "redirectPortOutbound: 15001}", "redirectPortOutbound: 15001, reachableBackends: {refs: [{kind: MeshService, name: x}]}}"), broken: "listener", remedy: "reachableBackends"},
		"not listed":           {change: replace("web", ", transparentProxying: {redirectPortInbound: 15006, redirectPortOutbound: 15001}", ""), to: "backend", broken: "listener", remedy: "networking.outbound"},
		"listed":               {change: replace("web", ", transparentProxying: {redirectPortInbound: 15006, redirectPortOutbound: 15001}", ", outbound: [{port: 10080, backendRef: {kind: MeshService, name: backend, port: 80}}]"), to: "localhost:10080", step: "name", state: OK},
		"route to nothing": {change: func(w world) {
			w["route"] = "type: MeshTCPRoute\nname: r\nspec: {to: [{targetRef: {kind: MeshService, labels: {kuma.io/display-name: backend}}, rules: [{default: {backendRefs: [{kind: MeshService, labels: {kuma.io/display-name: none}, port: 80}]}}]}]}"
			w["service"] = strings.Replace(w["service"], "appProtocol: http", "appProtocol: tcp", 1)
		}, broken: "route", remedy: "backendRefs"},
		"no members":              {change: without("backend", "backend in"), broken: "endpoints", remedy: "selector matches no Dataplane"},
		"not ready":               {change: replace("backend", "protocol: http", "protocol: http, state: NotReady"), broken: "endpoints", remedy: "serves this port"},
		"about to stop":           {change: replace("backend", "app: backend,", "app: backend, atoll.mesh/draining: \"true\","), step: "endpoints", state: Warning},
		"in the clear":            {change: without("id", "trust"), step: "identity", state: OK},
		"caller without identity": {change: replace("id", "matchLabels: {}", "matchLabels: {app: backend}"), broken: "identity", remedy: "MeshIdentity"},
		"server without identity": {change: replace("id", "matchLabels: {}", "matchLabels: {app: web}"), broken: "identity", remedy: "give the server an identity"},
		"unexpected server":       {change: replace("service", "workload/backend", "workload/else"), broken: "identity", remedy: "spec.identities"},
		"not trusted":             {change: replace("trust", "trustDomain: default.east", "trustDomain: other"), broken: "identity", remedy: "MeshTrust"},
		"not allowed":             {change: without("allow"), broken: "permission", remedy: "MeshTrafficPermission"},
		"denied":                  {change: replace("allow", "allow: [", "deny: [{spiffeID: {type: Exact, value: \"spiffe://default.east.mesh.local/workload/web\"}}], allow: ["), broken: "permission", remedy: "MeshTrafficPermission"},
		"refused":                 {rejections: []kind.Rejection{{Type: "rds", Resource: "kri_msvc_default_east__backend_main", Error: "no", Policies: []string{"kri_mt_default_east__all_"}}}, broken: "rejection", remedy: "policies"},
		"refused by the server":   {rejections: []kind.Rejection{{Type: "lds", Resource: "self_inbound_dp_main", Error: "no", Policies: []string{"kri_mt_default_east__all_"}}}, broken: "rejection", remedy: "named here"},
		"outside":                 {to: "example.com:443", step: "passthrough", state: OK},
		"outside, nothing passes": {change: passes("passthroughMode: None"), to: "example.com:443", broken: "passthrough", remedy: "appendMatch"},
		"outside, not listed":     {change: passes("appendMatch: [{type: Domain, value: \"*.example.com\", port: 443, protocol: tls}]"), to: "example.org:443", broken: "passthrough", remedy: "add example.org:443"},
		"outside, other port":     {change: passes("appendMatch: [{type: Domain, value: \"*.example.com\", port: 443, protocol: tls}]"), to: "www.example.com:80", broken: "passthrough", remedy: "appendMatch"},
		"outside, listed":         {change: passes("appendMatch: [{type: Domain, value: \"*.example.com\", port: 443, protocol: tls}]"), to: "www.example.com:443", step: "passthrough", state: OK},
		"outside, range listed":   {change: passes("appendMatch: [{type: CIDR, value: 198.51.100.0/24}]"), to: "198.51.100.7:53", step: "passthrough", state: OK},
		"outside, other address":  {change: passes("appendMatch: [{type: IP, value: 198.51.100.6}]"), to: "198.51.100.7:53", broken: "passthrough", remedy: "appendMatch"},
		"outside, perhaps":        {change: passes("appendMatch: [{type: IP, value: 198.51.100.6}]"), to: "example.com", step: "passthrough", state: Unknown},
		"outside, not redirected": {change: replace("web", ", transparentProxying: {redirectPortInbound: 15006, redirectPortOutbound: 15001}", ""), to: "example.com", step: "passthrough", state: Unknown},
		"no such virtual address": {to: "241.0.0.9:80", broken: "name", remedy: "HostnameGenerators"},
		"something else refused":  {rejections: []kind.Rejection{{Type: "rds", Resource: "else"}}, step: "rejection", state: OK},
		"other zone": {change: func(w world) {
			w["service"] = strings.Replace(w["service"], "name: backend\n", "name: backend\nlabels: {kuma.io/origin: global, kuma.io/zone: west}\n", 1)
		}, broken: "endpoints", remedy: "zone \"west\""},
	} {
		t.Run(name, func(t *testing.T) {
			w := whole()
			if c.change != nil {
				c.change(w)
			}
			from, to := c.from, c.to
			if from == "" {
				from = "web-1"
			}
			if to == "" {
				to = "backend.mesh.local:80"
			}
			r := Explain(inputs(), w.snapshot(t, c.rejections...), Query{Mesh: "default", From: from, To: to})
			if r.Broken != c.broken || r.OK != (c.broken == "") {
				t.Fatalf("broken at %q, want %q: %s", r.Broken, c.broken, text(r))
			}
			step, state := c.step, c.state
			if step == "" {
				step, state = c.broken, Broken
			}
			for _, st := range r.Steps {
				if st.Name != step {
					continue
				}
				if st.State != state || !strings.Contains(st.Remedy, c.remedy) {
					t.Errorf("%+v, want %s with a remedy about %q", st, state, c.remedy)
				}
				return
			}
			t.Errorf("there is no step %s: %s", step, text(r))
		})
	}
}
