package policy_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"

	mesh_proto "github.com/atoll-mesh/atoll/api/kuma/mesh/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/policy"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

const (
	origin    = resource.LabelOrigin
	zone      = resource.LabelZone
	namespace = resource.LabelNamespace
	role      = resource.LabelPolicyRole
)

func TestMatch(t *testing.T) {
	east := labels{origin: "zone", zone: "east", namespace: "ns", "app": "web"}
	for _, c := range []struct {
		name   string
		labels labels
		target policy.TargetRef
		proxy  *policy.Proxy
		shadow bool
		want   bool
	}{
		{name: "the whole mesh", proxy: client(east, web), want: true},
		{name: "a proxy without inbounds", proxy: client(east), want: true},
		{name: "all dataplanes", target: ref(policy.Dataplane, nil, ""), proxy: client(east, web), want: true},
		{name: "labels", target: ref(policy.Dataplane, labels{"app": "web"}, ""), proxy: client(east, web), want: true},
		{name: "other labels", target: ref(policy.Dataplane, labels{"app": "api"}, ""), proxy: client(east, web)},
		{name: "one label too many", target: ref(policy.Dataplane, labels{"app": "web", "v": "1"}, ""), proxy: client(east, web)},
		{name: "display name of the name", target: ref(policy.Dataplane, labels{resource.LabelDisplayName: "client"}, ""), proxy: client(east, web), want: true},
		{name: "section", target: ref(policy.Dataplane, nil, "web"), proxy: client(east, web), want: true},
		{name: "other section", target: ref(policy.Dataplane, nil, "api"), proxy: client(east, web)},
		{name: "section of a gateway", target: ref(policy.Dataplane, nil, "api"), proxy: &policy.Proxy{Meta: client(east).Meta, Gateway: true}, want: true},
		{name: "kind of the past", target: ref("MeshSubset", nil, ""), proxy: client(east, web)},
		{name: "shadow", labels: labels{resource.LabelEffect: "shadow"}, proxy: client(east, web)},
		{name: "shadow wanted", labels: labels{resource.LabelEffect: "shadow"}, proxy: client(east, web), shadow: true, want: true},
		{name: "own zone", labels: labels{origin: "zone", zone: "east"}, proxy: client(east, web), want: true},
		{name: "other zone", labels: labels{origin: "zone", zone: "west"}, proxy: client(east, web)},
		{name: "other zone, from the global", labels: labels{origin: "global", zone: "west"}, proxy: client(east, web), want: true},
		{name: "zone not known", labels: labels{origin: "zone", zone: "west"}, proxy: client(labels{origin: "zone"}, web), want: true},
		{name: "producer of another zone", labels: labels{origin: "zone", zone: "west", role: "producer", namespace: "other"}, proxy: client(east, web), want: true},
		{name: "consumer", labels: labels{role: "consumer", namespace: "ns"}, proxy: client(east, web), want: true},
		{name: "consumer elsewhere", labels: labels{role: "consumer", namespace: "other"}, proxy: client(east, web)},
		{name: "consumer nowhere", labels: labels{role: "consumer"}, proxy: client(labels{}, web)},
		{name: "workload owner elsewhere", labels: labels{role: "workload-owner", namespace: "other"}, proxy: client(east, web)},
	} {
		t.Run(c.name, func(t *testing.T) {
			spec := tos(to(policy.Mesh, nil, "", "x"))
			if c.target.Kind != "" {
				spec.TargetRef = &policy.ProxyRef{TargetRef: c.target}
			}
			ix, _ := index(t, pol{name: "p", labels: c.labels, spec: spec})
			m := ix.Match(c.proxy, policy.Options{Shadow: c.shadow})
			if got := len(m.Policies("MeshSample")) == 1; got != c.want {
				t.Errorf("selected: %v", got)
			}
		})
	}
}

// selects says of one policy what Match finds for all at once.
func selects(p pol, proxy *policy.Proxy, opts policy.Options) bool {
	own, theirs := p.labels, proxy.Meta.Labels
	if own[resource.LabelEffect] == policy.EffectShadow && !opts.Shadow {
		return false
	}
	if own[role] != policy.RoleProducer {
		if own[origin] == "zone" && theirs[origin] == "zone" && own[zone] != theirs[zone] {
			return false
		}
		if own[role] != policy.RoleSystem && own[namespace] != theirs[namespace] {
			return false
		}
	}
	target := p.spec.(*sampleSpec).TargetRef
	return target == nil || proxy.Meta.Matches(target.Labels) && (target.SectionName == "" || target.SectionName == web.Name)
}

func TestMatchAmongMany(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	pick := func(options ...string) string { return options[rng.IntN(len(options))] }
	some := func() labels {
		l := labels{}
		for _, k := range []string{"app", "v", resource.LabelDisplayName} {
			if rng.IntN(3) == 0 {
				l[k] = pick("a", "b", "client", "")
			}
		}
		return l
	}
	where := func(l labels) labels {
		maps.Copy(l, labels{origin: pick("zone", "global"), zone: pick("east", "west"), namespace: pick("ns", "other")})
		return l
	}
	var pols []pol
	for i := range 60 {
		spec := tos(to(policy.Mesh, nil, "", "x"))
		if rng.IntN(4) > 0 {
			spec.TargetRef = &policy.ProxyRef{TargetRef: ref(policy.Dataplane, some(), pick("", "", "web", "api"))}
		}
		l := where(labels{role: pick("system", "producer", "consumer", "workload-owner")})
		if rng.IntN(5) == 0 {
			l[resource.LabelEffect] = "shadow"
		}
		pols = append(pols, pol{name: fmt.Sprintf("p-%02d", i), labels: l, spec: spec})
	}
	ix, _ := index(t, pols...)
	selected := 0
	for range 200 {
		proxy, opts := client(where(some()), web), policy.Options{Shadow: rng.IntN(2) == 0}
		got := map[string]bool{}
		for _, o := range ix.Match(proxy, opts).Policies("MeshSample") {
			got[o.Name] = true
		}
		for _, p := range pols {
			want := selects(p, proxy, opts)
			if got[p.name] != want {
				t.Fatalf("%s with %v and %+v selects %v: %v", p.name, p.labels, p.spec.(*sampleSpec).TargetRef, proxy.Meta.Labels, got[p.name])
			}
			if want {
				selected++
			}
		}
	}
	if selected < 500 {
		t.Errorf("only %d selections", selected)
	}
}

func TestOrder(t *testing.T) {
	mesh := func() *sampleSpec { return tos(to(policy.Mesh, nil, "", "x")) }
	backend := func() *sampleSpec { return tos(to(policy.MeshService, labels{"app": "backend"}, "", "x")) }
	port := func() *sampleSpec { return tos(to(policy.MeshService, labels{"app": "backend"}, "http", "x")) }
	l := labels{origin: "zone", zone: "east", namespace: "ns"}
	for _, c := range []struct {
		name string
		want []string // ascending; policies are given in reverse
		pols map[string]pol
	}{
		{"example of the reference", []string{"aaa", "bbb", "ccc", "ddd"}, map[string]pol{
			"aaa": {labels: labels{origin: "global"}, spec: mesh()},
			"bbb": {labels: labels{origin: "zone"}, spec: mesh()},
			"ccc": {labels: labels{origin: "zone", role: "producer"}, spec: backend()},
			"ddd": {labels: labels{role: "consumer", namespace: "ns"}, spec: mesh().on(policy.Dataplane, nil, "")},
		}},
		{"smallest name wins", []string{"c", "b", "a"}, map[string]pol{
			"a": {spec: mesh()}, "b": {spec: mesh()}, "c": {spec: mesh()},
		}},
		{"display name, not stored name", []string{"a-stored", "b-stored"}, map[string]pol{
			"a-stored": {labels: labels{resource.LabelDisplayName: "zz"}, spec: mesh()},
			"b-stored": {labels: labels{resource.LabelDisplayName: "yy"}, spec: mesh()},
		}},
		{"labels do not count", []string{"b", "a"}, map[string]pol{
			"a": {spec: mesh().on(policy.Dataplane, nil, "")},
			"b": {spec: mesh().on(policy.Dataplane, labels{namespace: "ns"}, "")},
		}},
		{"section before origin", []string{"a", "b"}, map[string]pol{
			"a": {labels: labels{origin: "zone"}, spec: mesh().on(policy.Dataplane, nil, "")},
			"b": {labels: labels{origin: "global"}, spec: mesh().on(policy.Dataplane, nil, "web")},
		}},
		{"origin: global, none, zone", []string{"a", "b", "c"}, map[string]pol{
			"a": {labels: labels{origin: "global"}, spec: mesh()}, "b": {spec: mesh()}, "c": {labels: labels{origin: "zone"}, spec: mesh()},
		}},
		{"roles", []string{"b", "c", "d"}, map[string]pol{
			"b": {labels: labels{role: "system"}, spec: backend()},
			"c": {labels: labels{role: "producer"}, spec: backend()},
			"d": {labels: labels{role: "consumer", namespace: "ns"}, spec: mesh()},
		}},
		{"who is selected before what is called", []string{"a", "b"}, map[string]pol{
			"a": {spec: backend()}, "b": {spec: mesh().on(policy.Dataplane, nil, "")},
		}},
		{"mesh, service, port", []string{"a", "b", "c"}, map[string]pol{
			"a": {spec: mesh()}, "b": {spec: backend()}, "c": {spec: port()},
		}},
		{"same name in two namespaces", []string{"y", "x"}, map[string]pol{
			"x": {labels: labels{resource.LabelDisplayName: "n", namespace: "a"}, spec: mesh()},
			"y": {labels: labels{resource.LabelDisplayName: "n", namespace: "b"}, spec: mesh()},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var pols []pol
			for i := len(c.want) - 1; i >= 0; i-- {
				p := c.pols[c.want[i]]
				p.name = c.want[i]
				pols = append(pols, p)
			}
			ix, _ := index(t, pols...)
			got := ix.Match(client(l, web), policy.Options{}).OutboundPolicies(find(t, "backend", "http"))
			if len(got) != 1 {
				t.Fatalf("%d kinds", len(got))
			}
			var order []string
			for _, o := range got[0].Origins {
				order = append(order, o.Policy.Name)
			}
			equal(t, "ascending", order, c.want)
		})
	}
}

func TestLaterItemOfAPolicyWins(t *testing.T) {
	ix, s := index(t, pol{name: "p", spec: tos(to(policy.Mesh, nil, "", "first"), to(policy.Mesh, nil, "", "second"))})
	apply(t, ix, find(t, "backend", "http"))
	equal(t, "conf", s.outbound, []string{"second"})
}

func TestInboundOrder(t *testing.T) {
	id := func(kind, v string) *policy.SpiffeIDMatch { return &policy.SpiffeIDMatch{Type: kind, Value: v} }
	sni := &policy.SNIMatch{Type: "Exact", Value: "x.example"}
	rule := func(text string, m ...policy.Match) policy.Rule[sampleConf] {
		return policy.Rule[sampleConf]{Matches: m, Default: sampleConf{Text: &text}}
	}
	ix, s := index(t,
		pol{name: "b", spec: &sampleSpec{Rules: []policy.Rule[sampleConf]{
			rule("all-b"), rule("sni", policy.Match{SNI: sni}), rule("prefix", policy.Match{SpiffeID: id("Prefix", "spiffe://td")}),
			rule("prefix+sni", policy.Match{SpiffeID: id("Prefix", "spiffe://td"), SNI: sni}),
			rule("both", policy.Match{SpiffeID: id("Exact", "spiffe://td/a")}, policy.Match{SpiffeID: id("Exact", "spiffe://td/a"), SNI: sni}),
		}}},
		pol{name: "a", spec: &sampleSpec{Rules: []policy.Rule[sampleConf]{rule("all-a")}}},
		pol{name: "elsewhere", spec: (&sampleSpec{Rules: []policy.Rule[sampleConf]{rule("other section")}}).on(policy.Dataplane, nil, "api")},
		pol{name: "section", spec: (&sampleSpec{Rules: []policy.Rule[sampleConf]{rule("section")}}).on(policy.Dataplane, nil, "web")},
		pol{name: "producer", labels: labels{role: "producer"}, spec: &sampleSpec{
			To: []policy.To[sampleConf]{to(policy.MeshService, labels{"app": "x"}, "", "x")}, Rules: []policy.Rule[sampleConf]{rule("producer")},
		}},
	)
	api := policy.Section{Name: "api", Address: "10.0.0.1", Port: 9090}
	m := ix.Match(client(labels{}, web, api), policy.Options{})
	in := &policy.Inbound{Address: "10.0.0.1", Port: 8080}
	m.Inbound(in)
	want := []string{"both", "both", "prefix+sni", "prefix", "sni", "all-b", "all-a", "section"}
	equal(t, "rules", s.inbound, want)
	s.inbound = nil
	m.Inbound(in) // from memory
	equal(t, "rules again", s.inbound, want)
	got := m.InboundPolicies("10.0.0.1", 9090)
	if len(got) != 1 || len(got[0].Rules) != 8 || got[0].Rules[7].Policy.Name != "elsewhere" {
		t.Errorf("rules of the other section: %+v", got)
	}
	if got := m.InboundPolicies("10.0.0.2", 9090); got != nil {
		t.Errorf("rules of no section: %+v", got)
	}
}

func TestSubsumes(t *testing.T) {
	id := func(kind, v string) *policy.Match {
		return &policy.Match{SpiffeID: &policy.SpiffeIDMatch{Type: kind, Value: v}}
	}
	with := func(m *policy.Match, sni string) *policy.Match {
		m.SNI = &policy.SNIMatch{Type: "Exact", Value: sni}
		return m
	}
	for _, c := range []struct {
		m, of *policy.Match
		want  bool
	}{
		{nil, nil, true}, {nil, id("Exact", "a"), true}, {id("Exact", "a"), nil, false},
		{id("Exact", "a"), id("Exact", "a"), true}, {id("Exact", "a"), id("Exact", "b"), false},
		{id("Exact", "a"), id("Prefix", "a"), false}, {id("Prefix", "a"), id("Exact", "ab"), true},
		{id("Prefix", "a"), id("Prefix", "ab"), true}, {id("Prefix", "ab"), id("Prefix", "a"), false},
		{id("Prefix", "a"), with(id("Exact", "a"), "x"), true}, {with(id("Prefix", "a"), "x"), id("Exact", "a"), false},
		{with(id("Prefix", "a"), "x"), with(id("Exact", "a"), "y"), false},
		{with(&policy.Match{}, "x"), with(id("Exact", "a"), "x"), true}, {id("Exact", "a"), with(&policy.Match{}, "x"), false},
	} {
		if got := c.m.Subsumes(c.of); got != c.want {
			t.Errorf("%+v subsumes %+v: %v", c.m, c.of, got)
		}
	}
}

func TestProxyWide(t *testing.T) {
	conf := func(c sampleConf) *sampleSpec { return &sampleSpec{Default: &c} }
	ix, s := index(t,
		pol{name: "a", spec: conf(sampleConf{Text: ptr("a"), AppendList: []string{"a"}})},
		pol{name: "b", spec: conf(sampleConf{Text: ptr("b"), Number: ptr(int32(2)), AppendList: []string{"b"}})},
		pol{name: "other", spec: conf(sampleConf{Text: ptr("other")}).on(policy.Dataplane, labels{"app": "other"}, "")},
	)
	m := ix.Match(client(labels{}, web), policy.Options{})
	m.Proxy(&policy.Own{})
	equal(t, "conf", s.proxy, []string{"a"})
	got := m.ProxyPolicies()
	if len(got) != 1 || *got[0].Conf.(*sampleConf).Number != 2 || got[0].Origins[1].Policy.Name != "a" {
		t.Errorf("got %+v", got)
	}
	equal(t, "appended", got[0].Conf.(*sampleConf).AppendList, []string{"b", "a"})
}

func TestProxyOf(t *testing.T) {
	kind := resource.Define[mesh_proto.Dataplane, resource.NoStatus](resource.Kind{Names: resource.Names{Type: "Dataplane"}})
	o, err := kind.DecodeJSON([]byte(`{"type":"Dataplane","name":"d","mesh":"default","networking":{"address":"10.0.0.1",
		"inbound":[{"port":80,"name":"web"},{"port":81,"address":"10.0.0.2"}],
		"listeners":[{"type":"ZoneIngress","port":10001,"name":"in"}],"gateway":{"type":"DELEGATED"}}}`))
	if err != nil {
		t.Fatal(err)
	}
	p := policy.ProxyOf(o)
	equal(t, "sections", p.Sections, []policy.Section{
		{Name: "web", Address: "10.0.0.1", Port: 80},
		{Name: "81", Address: "10.0.0.2", Port: 81},
		{Name: "in", Address: "10.0.0.1", Port: 10001, ZoneProxy: true},
	})
	if !p.Gateway || p.Meta.Name != "d" {
		t.Errorf("got %+v", p)
	}
}

func BenchmarkMatch(b *testing.B) {
	ix, _ := index(b, manyPolicies(300)...)
	p := client(labels{"app": "app-3", origin: "zone", zone: "east"}, web)
	b.ReportAllocs()
	for b.Loop() {
		ix.Match(p, policy.Options{})
	}
}

func BenchmarkNewIndex(b *testing.B) {
	defs := []*policy.Def{sample(&seen{}), routes()}
	objects := objects(b, defs, manyPolicies(300)...)
	b.ReportAllocs()
	for b.Loop() {
		policy.NewIndex(defs, list(objects))
	}
}
