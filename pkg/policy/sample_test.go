package policy_test

import (
	"fmt"
	"iter"
	"slices"
	"testing"
	"time"

	"github.com/atoll-mesh/atoll/pkg/ir"
	"github.com/atoll-mesh/atoll/pkg/policy"
	"github.com/atoll-mesh/atoll/pkg/policy/policytest"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// sampleSpec is a policy with every kind of body.
type sampleSpec struct {
	TargetRef *policy.ProxyRef          `json:"targetRef,omitempty"`
	To        []policy.To[sampleConf]   `json:"to,omitempty"`
	Rules     []policy.Rule[sampleConf] `json:"rules,omitempty"`
	Default   *sampleConf               `json:"default,omitempty"`
}

// sampleConf has every kind of field that merging knows.
type sampleConf struct {
	Text       *string                `json:"text,omitempty"`
	Number     *int32                 `json:"number,omitempty"`
	Timeout    *policy.Duration       `json:"timeout,omitempty"`
	Share      *policy.IntOrString    `json:"share,omitempty"`
	Plain      string                 `json:"plain,omitempty"`
	List       []string               `json:"list,omitzero"`
	Replaced   []sampleInner          `json:"replaced,omitempty"`
	AppendList []string               `json:"appendList,omitempty"`
	Map        map[string]string      `json:"map,omitempty"`
	Inner      *sampleInner           `json:"inner,omitempty"`
	ByName     map[string]sampleInner `json:"byName,omitempty"`
}

type sampleInner struct {
	Required   int32     `json:"required"`
	Flag       *bool     `json:"flag,omitempty"`
	AppendDeep []int32   `json:"appendDeep,omitempty"`
	Value      sampleVal `json:"value"`
}

type sampleVal struct {
	A *string `json:"a,omitempty"`
	B string  `json:"b"`
}

// seen collects what the hooks of the sample policy are called with.
type seen struct {
	outbound, cluster, route, inbound, proxy []string
}

func text(c sampleConf) string {
	if c.Text == nil {
		return "-"
	}
	return *c.Text
}

func sample(s *seen) *policy.Def {
	return policy.Define(resource.Names{Type: "MeshSample", Short: "ms", Plural: "meshsamples"}, policy.Hooks[sampleSpec, sampleConf]{
		Bodies: func(s *sampleSpec) policy.Bodies[sampleConf] {
			return policy.Bodies[sampleConf]{TargetRef: s.TargetRef, To: s.To, Rules: s.Rules, Default: s.Default}
		},
		To: []resource.Type{
			policy.Mesh, policy.MeshService, policy.MeshExternalService, policy.MeshMultiZoneService, policy.MeshHTTPRoute,
		},
		HasRules: true,
		Matches:  policy.LooseMatches,
		Outbound: func(c sampleConf, o *policy.Outbound) { s.outbound = append(s.outbound, text(c)) },
		Cluster:  func(c sampleConf, b policy.Dest, cl *ir.Cluster) { s.cluster = append(s.cluster, text(c)) },
		Route:    func(c sampleConf, _ policy.Dest, r *ir.Route) { s.route = append(s.route, text(c)) },
		Inbound: func(r policy.InboundRules[sampleConf], in *policy.Inbound) {
			for _, rule := range r.List {
				s.inbound = append(s.inbound, text(rule.Conf))
			}
		},
		Proxy: func(c sampleConf, _ *policy.Own) { s.proxy = append(s.proxy, text(c)) },
	})
}

// routeSpec is a policy that makes one route per item.
type routeSpec struct {
	To []policy.To[routeConf] `json:"to,omitempty"`
}

type routeConf struct {
	Backend *policy.BackendRef `json:"backend,omitempty"`
	Owner   *policy.Origin     `json:"-"`
}

func routes() *policy.Def {
	return policy.Define(resource.Names{Type: "MeshHTTPRoute", Short: "mhttpr", Plural: "meshhttproutes"}, policy.Hooks[routeSpec, routeConf]{
		Bodies: func(s *routeSpec) policy.Bodies[routeConf] { return policy.Bodies[routeConf]{To: s.To} },
		To:     []resource.Type{policy.MeshService},
		Merge: func(items []policy.Item[routeConf]) routeConf {
			last := items[len(items)-1]
			last.Conf.Owner = &last.Origin
			return last.Conf
		},
		Outbound: func(c routeConf, o *policy.Outbound) {
			r := o.Direct()
			r.Name = "route of " + c.Owner.Policy.Name
			o.Own(r.Name, c.Owner.Policy.KRI())
			if d, ok := o.Backend(*c.Backend, c.Owner.Policy); ok {
				r.Forward.Clusters[0].Cluster = d.Name()
			}
			o.Routes.Routes = []*ir.Route{r}
		},
		Reads: func(c routeConf, r *policy.Reads) {
			r.Route(c.Owner.Policy.KRI())
			r.Backend(*c.Backend, c.Owner.Policy)
		},
	})
}

// pol is one policy of a test.
type pol struct {
	name   string
	labels map[string]string
	spec   any
}

type labels = map[string]string

func objects(t testing.TB, defs []*policy.Def, pols ...pol) []*resource.Object {
	t.Helper()
	var out []*resource.Object
	for _, p := range pols {
		kind := defs[0].Kind()
		if _, ok := p.spec.(*routeSpec); ok {
			kind = defs[1].Kind()
		}
		id := resource.ID{Type: kind.Type, Mesh: "default", Name: p.name}
		o, err := kind.New(resource.Meta{ID: id, Labels: p.labels}, p.spec, nil)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, o)
	}
	return out
}

func list(objects []*resource.Object) func(resource.Type) iter.Seq[*resource.Object] {
	return func(t resource.Type) iter.Seq[*resource.Object] {
		return func(yield func(*resource.Object) bool) {
			for _, o := range objects {
				if o.Type == t && !yield(o) {
					return
				}
			}
		}
	}
}

func ref(kind resource.Type, l labels, section string) policy.TargetRef {
	return policy.TargetRef{Kind: kind, Labels: l, SectionName: section}
}

func to(kind resource.Type, l labels, section, text string) policy.To[sampleConf] {
	return policy.To[sampleConf]{TargetRef: policy.ToRef{TargetRef: ref(kind, l, section)}, Default: sampleConf{Text: &text}}
}

func tos(items ...policy.To[sampleConf]) *sampleSpec { return &sampleSpec{To: items} }

func (s *sampleSpec) on(kind resource.Type, l labels, section string) *sampleSpec {
	s.TargetRef = &policy.ProxyRef{TargetRef: ref(kind, l, section)}
	return s
}

func client(l labels, sections ...policy.Section) *policy.Proxy {
	return &policy.Proxy{Meta: &resource.Meta{ID: resource.ID{Type: policy.Dataplane, Mesh: "default", Name: "client"}, Labels: l}, Sections: sections}
}

var web = policy.Section{Name: "web", Address: "10.0.0.1", Port: 8080}

func find(t testing.TB, name, section string) policy.Dest {
	t.Helper()
	d, ok := policytest.World.Find(name, section)
	if !ok {
		t.Fatalf("no %s %s", name, section)
	}
	return d
}

func equal[T comparable](t *testing.T, what string, got, want []T) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func ptr[T any](v T) *T { return &v }

func index(t testing.TB, pols ...pol) (*policy.Index, *seen) {
	t.Helper()
	s := &seen{}
	defs := []*policy.Def{sample(s), routes()}
	// Routes come first when applied, and must when listed.
	ordered := []*policy.Def{defs[1], defs[0]}
	return policy.NewIndex(ordered, list(objects(t, defs, pols...))), s
}

func manyPolicies(n int) []pol {
	var out []pol
	for i := range n {
		spec := tos(to(policy.MeshService, labels{resource.LabelDisplayName: fmt.Sprintf("svc-%03d", i)}, "", "x"))
		if i%3 == 0 {
			spec.on(policy.Dataplane, labels{"app": fmt.Sprintf("app-%d", i%30)}, "")
		}
		out = append(out, pol{name: fmt.Sprintf("p-%03d", i), spec: spec})
	}
	return out
}

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
