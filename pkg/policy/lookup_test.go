package policy_test

import (
	"slices"
	"testing"
	"time"

	"github.com/atoll-mesh/atoll/pkg/ir"
	"github.com/atoll-mesh/atoll/pkg/policy"
	"github.com/atoll-mesh/atoll/pkg/policy/policytest"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

func rulesOf(ix *policy.Index) *policy.OutboundRules {
	m := ix.Match(client(labels{origin: "zone", zone: "east"}, web), policy.Options{})
	return policy.BuildOutbound(m, policytest.World)
}

func apply(t testing.TB, ix *policy.Index, d policy.Dest) *policy.Outbound {
	t.Helper()
	o := &policy.Outbound{Dest: d, Listener: &ir.Listener{}}
	rulesOf(ix).Outbound(o)
	return o
}

func TestLookup(t *testing.T) {
	all := []policy.To[sampleConf]{
		to(policy.Mesh, nil, "", "mesh"),
		to(policy.MeshService, labels{"app": "backend"}, "", "service"),
		to(policy.MeshService, labels{"app": "backend"}, "http", "port"),
		to(policy.MeshService, labels{resource.LabelDisplayName: "backend"}, "80", "a number is no name"),
		to(policy.MeshService, labels{"app": "backend"}, "5432", "unnamed port"),
		to(policy.MeshService, labels{"app": "nowhere"}, "", "nothing"),
		to(policy.MeshService, nil, "", "legacy without labels"),
		to("MeshServiceSubset", labels{"app": "backend"}, "", "legacy kind"),
		to(policy.MeshExternalService, labels{"app": "pay"}, "", "external"),
		to(policy.MeshMultiZoneService, labels{"app": "backend"}, "http", "multi-zone port"),
	}
	ix, s := index(t, pol{name: "p", spec: tos(all...)})
	for _, c := range []struct{ dest, section, want string }{
		{"backend", "http", "port"},
		{"backend", "5432", "unnamed port"},
		{"backend", "grpc", "service"},
		{"backend@west", "http", "port"},
		{"db", "5432", "mesh"},
		{"MeshExternalService/pay", "443", "external"},
		{"MeshMultiZoneService/backend", "http", "multi-zone port"},
	} {
		*s = seen{}
		d := find(t, c.dest, c.section)
		apply(t, ix, d)
		rulesOf(ix).Cluster(d, &ir.Cluster{})
		equal(t, c.dest+" "+c.section, s.outbound, []string{c.want})
		equal(t, c.dest+" "+c.section+" cluster", s.cluster, []string{c.want})
	}
	none, s := index(t)
	apply(t, none, find(t, "db", "5432"))
	if s.outbound != nil {
		t.Errorf("without a policy the hook ran with %v", s.outbound)
	}
}

func TestRouteLookup(t *testing.T) {
	db := policy.BackendRef{TargetRef: ref(policy.MeshService, labels{"app": "backend-next"}, "")}
	route := pol{name: "r", spec: &routeSpec{To: []policy.To[routeConf]{{
		TargetRef: policy.ToRef{TargetRef: ref(policy.MeshService, labels{"app": "backend"}, "")}, Default: routeConf{Backend: &db},
	}}}}
	named := to(policy.MeshHTTPRoute, labels{resource.LabelDisplayName: "r"}, "", "route")
	ix, s := index(t, route, pol{name: "p", spec: tos(to(policy.MeshService, labels{"app": "backend"}, "", "service"), named)})
	o := apply(t, ix, find(t, "backend", "http"))
	equal(t, "outbound", s.outbound, []string{"service"})
	equal(t, "route", s.route, []string{"route"})
	if len(o.Backends) != 1 || o.Backends[0].KRI.Name != "backend-next" {
		t.Errorf("backends: %+v", o.Backends)
	}
	m := ix.Match(client(labels{}, web), policy.Options{})
	kri := resource.KRI{Short: "mhttpr", Mesh: "default", Name: "r", Section: "rule_0"}
	if got := m.RoutePolicies(find(t, "backend", "http"), kri); len(got) != 1 || *got[0].Conf.(*sampleConf).Text != "route" {
		t.Errorf("inspected route: %+v", got)
	}
	kri.Name = "other"
	if got := m.RoutePolicies(find(t, "backend", "http"), kri); len(got) != 1 || *got[0].Conf.(*sampleConf).Text != "service" {
		t.Errorf("inspected other route: %+v", got)
	}
	bare, s := index(t, route, pol{name: "p", spec: tos(to(policy.Mesh, nil, "", "mesh"))})
	apply(t, bare, find(t, "backend", "http"))
	if s.route != nil {
		t.Errorf("a route that nobody names got %v", s.route)
	}
}

func TestToRules(t *testing.T) {
	ix, _ := index(t, pol{name: "p", spec: tos(
		to(policy.MeshService, labels{"app": "backend"}, "", "service"),
		to(policy.MeshService, labels{"app": "backend"}, "grpc", "port"),
		to(policy.MeshService, labels{"app": "backend"}, "nowhere", "no port"),
		to(policy.Mesh, nil, "", "mesh"),
	)})
	m := ix.Match(client(labels{}, web), policy.Options{})
	var got []string
	for _, r := range m.ToRules(resource.KRI{Short: "m", Name: "default"}, slices.Values(policytest.World)) {
		got = append(got, r.Resource.String()+" "+*r.Conf.(*sampleConf).Text)
	}
	equal(t, "rules", got, []string{
		"kri_msvc_default_east__backend_ service",
		"kri_msvc_default_east__backend_grpc port",
		"kri_msvc_default_west__backend_ service",
		"kri_m____default_ mesh",
	})
}

// TestDigests changes one thing at a time and looks at whose digest changes.
func TestDigests(t *testing.T) {
	backend, db := find(t, "backend", "http"), find(t, "db", "5432")
	route := func(backend string) pol {
		return pol{name: "r", spec: &routeSpec{To: []policy.To[routeConf]{{
			TargetRef: policy.ToRef{TargetRef: ref(policy.MeshService, labels{"app": "backend"}, "")},
			Default:   routeConf{Backend: &policy.BackendRef{TargetRef: ref(policy.MeshService, labels{"app": backend}, "")}},
		}}}}
	}
	service := func(text string) pol {
		return pol{name: "service", spec: tos(to(policy.MeshService, labels{"app": "backend"}, "", text))}
	}
	onRoute := func(name, text string) pol {
		return pol{name: "onroute", spec: tos(to(policy.MeshHTTPRoute, labels{resource.LabelDisplayName: name}, "", text))}
	}
	rule := pol{name: "rule", spec: &sampleSpec{Rules: []policy.Rule[sampleConf]{{Default: sampleConf{Text: ptr("x")}}}}}
	elsewhere := pol{name: "elsewhere", spec: tos(to(policy.Mesh, nil, "", "x")).on(policy.Dataplane, labels{"app": "nobody"}, "")}
	base := []pol{route("backend-next"), service("a"), onRoute("r", "a")}
	for _, c := range []struct {
		name                              string
		pols                              []pol
		all, inbound, backend, cluster, d bool // changed
	}{
		{name: "nothing", pols: base},
		{name: "order of the list", pols: []pol{base[2], base[1], base[0]}},
		{name: "a rule for inbounds", pols: append(slices.Clone(base), rule), inbound: true},
		{name: "a policy of others", pols: append(slices.Clone(base), elsewhere)},
		{name: "the policy of the service", pols: []pol{base[0], service("b"), base[2]}, all: true, backend: true, cluster: true},
		{name: "the policy of the route", pols: []pol{base[0], base[1], onRoute("r", "b")}, all: true, backend: true},
		{name: "a policy of another route", pols: []pol{base[0], base[1], onRoute("s", "a")}, all: true, backend: true},
		{name: "the backend of the route", pols: []pol{route("db"), base[1], base[2]}, all: true, backend: true},
		{name: "a policy of the mesh", pols: append(slices.Clone(base), pol{name: "m", spec: tos(to(policy.Mesh, nil, "", "x"))}), all: true, backend: true, cluster: true, d: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			changed := func(what string, want bool, digest func(*policy.Index) policy.Digest) {
				t.Helper()
				before, _ := index(t, base...)
				after, _ := index(t, c.pols...)
				if got := digest(before) != digest(after); got != want {
					t.Errorf("digest of %s changed: %v", what, got)
				}
			}
			match := func(ix *policy.Index) *policy.Matched { return ix.Match(client(labels{}, web), policy.Options{}) }
			changed("outbounds", c.all, func(ix *policy.Index) policy.Digest { return match(ix).OutboundDigest() })
			changed("inbounds", c.inbound, func(ix *policy.Index) policy.Digest { return match(ix).InboundDigest() })
			changed("backend", c.backend, func(ix *policy.Index) policy.Digest { return rulesOf(ix).Digest(backend) })
			changed("backend's cluster", c.cluster, func(ix *policy.Index) policy.Digest { return rulesOf(ix).ClusterDigest(backend) })
			changed("db", c.d, func(ix *policy.Index) policy.Digest { return rulesOf(ix).Digest(db) })

			before, _ := index(t, base...)
			after, _ := index(t, c.pols...)
			change := match(after).OutboundChange(match(before))
			if got := concerns(before, change, backend); got != c.backend {
				t.Errorf("what is said to be different concerns backend: %v, in %+v", got, change)
			}
			if got := concerns(before, change, db); got != c.d {
				t.Errorf("what is said to be different concerns db: %v, in %+v", got, change)
			}
		})
	}
}

// concerns tells whether who has the digest of d must look at it again.
func concerns(before *policy.Index, c policy.OutboundChange, d policy.Dest) bool {
	_, looked := rulesOf(before).Inputs(d)
	return c.All ||
		slices.ContainsFunc(c.Refs, func(r policy.TargetRef) bool { return r.Kind == d.Kind && d.Matches(r.Labels) }) ||
		slices.ContainsFunc(looked, func(l policy.Lookup) bool { return l.Kind == "" && slices.Contains(c.Routes, l.Route) })
}

// Only what the policies that differ name is named.
func TestOutboundChange(t *testing.T) {
	say := func(name, value string) pol {
		return pol{name: name, spec: tos(to(policy.MeshService, labels{"app": "backend"}, "", value))}
	}
	ix, _ := index(t, say("a", "x"), say("b", "y"))
	m := ix.Match(client(labels{}, web), policy.Options{})
	if c := m.OutboundChange(m); !c.Empty() {
		t.Errorf("the same policies: %+v", c)
	}
	for _, c := range []struct {
		what string
		pols []pol
		want int // refs
	}{
		{"the same again", []pol{say("a", "x"), say("b", "y")}, 0},
		{"one is gone", []pol{say("b", "y")}, 1},
		{"one comes between", []pol{say("a", "x"), say("aa", "z"), say("b", "y")}, 1},
		{"one says something else", []pol{say("a", "z"), say("b", "y")}, 2},
		{"all are others", []pol{say("c", "x"), say("d", "y")}, 4},
	} {
		ix, _ := index(t, c.pols...)
		if got := ix.Match(client(labels{}, web), policy.Options{}).OutboundChange(m); got.All || len(got.Refs) != c.want || len(got.Routes) != 0 {
			t.Errorf("%s: %+v, want %d refs", c.what, got, c.want)
		}
	}
}

func TestDigestCoversWhatABackendIs(t *testing.T) {
	ix, _ := index(t, pol{name: "r", spec: &routeSpec{To: []policy.To[routeConf]{{
		TargetRef: policy.ToRef{TargetRef: ref(policy.MeshService, labels{"app": "backend"}, "")},
		Default:   routeConf{Backend: &policy.BackendRef{TargetRef: ref(policy.MeshService, labels{"app": "backend-next"}, "")}},
	}}}})
	m := ix.Match(client(labels{}, web), policy.Options{})
	d := find(t, "backend", "http")
	before := policy.BuildOutbound(m, policytest.World).Digest(d)
	next := *find(t, "backend-next", "80").Destination
	next.Ports = []resource.Port{{Section: "80", Number: 80, Protocol: ir.TCP}}
	if policy.BuildOutbound(m, policytest.Destinations{&next}).Digest(d) == before {
		t.Error("another protocol gave the same digest")
	}
	if policy.BuildOutbound(m, policytest.Destinations{}).Digest(d) == before {
		t.Error("a backend that is gone gave the same digest")
	}
}

func TestProducerSpeaksForItsOwnServices(t *testing.T) {
	ix, s := index(t, pol{
		name: "p", labels: labels{role: "producer", namespace: "shop", zone: "west", origin: "global"},
		spec: tos(to(policy.MeshService, labels{resource.LabelDisplayName: "backend"}, "", "producer")),
	})
	mine, foreign := *find(t, "backend@west", "http").Destination, *find(t, "backend", "http").Destination
	mine.Labels = labels{namespace: "shop", zone: "west"}
	foreign.Labels = labels{namespace: "shop", zone: "east"}
	apply(t, ix, policy.Dest{Destination: &foreign, Port: foreign.Ports[0]})
	if s.outbound != nil {
		t.Errorf("a service of another zone got %v", s.outbound)
	}
	apply(t, ix, policy.Dest{Destination: &mine, Port: mine.Ports[0]})
	equal(t, "own service", s.outbound, []string{"producer"})
}

func TestResolveBackend(t *testing.T) {
	dest := func(name string, l labels, local bool, age time.Duration, ports ...resource.Port) *policy.Destination {
		l[resource.LabelDisplayName] = name
		return &policy.Destination{
			Kind: policy.MeshService, Labels: l, Local: local, Created: epoch.Add(-age), Ports: ports,
			KRI: resource.KRI{Short: "msvc", Mesh: "default", Zone: l[zone], Namespace: l[namespace], Name: name},
		}
	}
	http, admin := resource.Port{Section: "http", Number: 80}, resource.Port{Section: "9901", Number: 9901}
	swapped := resource.Port{Section: "81", Number: 80}
	external := dest("pay", labels{}, false, 0, resource.Port{Section: "443", Number: 443})
	external.Kind = policy.MeshExternalService
	world := policytest.Destinations{
		dest("a", labels{zone: "old"}, false, 3*time.Hour, http, admin),
		dest("a", labels{zone: "own"}, true, time.Hour, http, admin),
		dest("remote", labels{zone: "young"}, false, time.Hour, http),
		dest("remote", labels{zone: "old"}, false, 2*time.Hour, http),
		dest("twin", labels{zone: "b"}, false, time.Hour, http),
		dest("twin", labels{zone: "a"}, false, time.Hour, http),
		dest("spaced", labels{namespace: "x"}, true, 2*time.Hour, http),
		dest("spaced", labels{namespace: "y"}, true, time.Hour, http),
		dest("numbers", labels{}, true, 0, swapped, resource.Port{Section: "80", Number: 8080}),
		external,
	}
	owner := func(l labels) *resource.Object { return &resource.Object{Meta: resource.Meta{Labels: l}} }
	name := func(n string) labels { return labels{resource.LabelDisplayName: n} }
	for _, c := range []struct {
		why   string
		ref   policy.BackendRef
		owner *resource.Object
		want  string
	}{
		{why: "local before older", ref: policy.BackendRef{TargetRef: ref(policy.MeshService, name("a"), "http")}, want: "kri_msvc_default_own__a_http"},
		{why: "oldest of others", ref: policy.BackendRef{TargetRef: ref(policy.MeshService, name("remote"), "")}, want: "kri_msvc_default_old__remote_http"},
		{why: "KRI decides among equals", ref: policy.BackendRef{TargetRef: ref(policy.MeshService, name("twin"), "")}, want: "kri_msvc_default_a__twin_http"},
		{why: "a number leads to the same port", ref: policy.BackendRef{TargetRef: ref(policy.MeshService, name("a"), ""), Port: ptr(uint32(80))}, want: "kri_msvc_default_own__a_http"},
		{why: "a number as section", ref: policy.BackendRef{TargetRef: ref(policy.MeshService, name("a"), "9901")}, want: "kri_msvc_default_own__a_9901"},
		{why: "section before port", ref: policy.BackendRef{TargetRef: ref(policy.MeshService, name("a"), "http"), Port: ptr(uint32(9901))}, want: "kri_msvc_default_own__a_http"},
		{why: "names before numbers", ref: policy.BackendRef{TargetRef: ref(policy.MeshService, name("numbers"), "80")}, want: "kri_msvc_default___numbers_80"},
		{why: "no port of two", ref: policy.BackendRef{TargetRef: ref(policy.MeshService, name("a"), "")}},
		{why: "no such port", ref: policy.BackendRef{TargetRef: ref(policy.MeshService, name("a"), "x")}},
		{why: "port 0 is no port", ref: policy.BackendRef{TargetRef: ref(policy.MeshService, name("remote"), ""), Port: ptr(uint32(0))}, want: "kri_msvc_default_old__remote_http"},
		{why: "an external service has one port", ref: policy.BackendRef{TargetRef: ref(policy.MeshExternalService, name("pay"), ""), Port: ptr(uint32(80))}, want: "kri_msvc_default___pay_443"},
		{why: "nothing there", ref: policy.BackendRef{TargetRef: ref(policy.MeshService, name("x"), "")}},
		{why: "other kind", ref: policy.BackendRef{TargetRef: ref(policy.MeshMultiZoneService, name("a"), "http")}},
		{why: "no backend", ref: policy.BackendRef{TargetRef: ref(policy.Dataplane, name("a"), "")}},
		{why: "no labels", ref: policy.BackendRef{TargetRef: ref(policy.MeshExternalService, nil, "")}},
		{why: "namespace of the policy", ref: policy.BackendRef{TargetRef: ref(policy.MeshService, name("spaced"), "")}, owner: owner(labels{namespace: "y", role: "consumer"}), want: "kri_msvc_default__y_spaced_http"},
		{why: "namespace given", ref: policy.BackendRef{TargetRef: ref(policy.MeshService, labels{resource.LabelDisplayName: "spaced", namespace: "x"}, "")}, owner: owner(labels{namespace: "y"}), want: "kri_msvc_default__x_spaced_http"},
		{why: "not in the namespace", ref: policy.BackendRef{TargetRef: ref(policy.MeshService, name("spaced"), "")}, owner: owner(labels{namespace: "z", role: "consumer"})},
		{why: "system namespace means all", ref: policy.BackendRef{TargetRef: ref(policy.MeshService, name("spaced"), "")}, owner: owner(labels{namespace: "system"}), want: "kri_msvc_default__x_spaced_http"},
	} {
		got := ""
		if d, ok := policy.ResolveBackend(world, c.ref, c.owner); ok {
			got = d.Name()
		}
		if got != c.want {
			t.Errorf("%s: got %q, want %q", c.why, got, c.want)
		}
	}
}
