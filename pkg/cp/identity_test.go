package cp

import (
	"fmt"
	"iter"
	"testing"

	"github.com/atoll-mesh/atoll/pkg/auth"
	"github.com/atoll-mesh/atoll/pkg/identity"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// one is a source with one resource.
type one struct{ *resource.Object }

func (s one) Get(id resource.ID) *resource.Object { return nil }

func (s one) List(t resource.Type, _ string) iter.Seq[*resource.Object] {
	return func(yield func(*resource.Object) bool) {
		if t == s.Type {
			yield(s.Object)
		}
	}
}

// A token gives a proxy no identity but the one that it is bound to: all tokens
// and all forms of identities that differ in that.
func TestEntitled(t *testing.T) {
	tokens := map[string]*auth.DataplaneClaims{
		"of the mesh":     {Mesh: "m"},
		"of the name":     {Mesh: "m", Name: "web-1"},
		"of the workload": {Mesh: "m", Workload: "web"},
		"of the team":     {Mesh: "m", Tags: map[string][]string{"team": {"shop"}}},
		"of both":         {Mesh: "m", Workload: "web", Tags: map[string][]string{"team": {"shop"}}},
		"none needed":     nil,
	}
	type table map[string]bool
	all := func(names ...string) table {
		out := table{}
		for _, n := range names {
			out[n] = true
		}
		return out
	}
	everybody := all("of the mesh", "of the name", "of the workload", "of the team", "of both", "none needed")
	for _, c := range []struct {
		selector, path string
		allowed        table
	}{
		{`{}`, "", all("of the workload", "of both", "none needed")},
		{`{"team": "shop"}`, "", all("of the workload", "of both", "none needed")},
		{`{}`, `/x/{{ label \"team\" }}`, all("of the team", "of both", "none needed")},
		{`{}`, `/x/{{ label \"team\" }}/{{ .Workload }}`, all("of both", "none needed")},
		{`{}`, `/everybody`, everybody},
		{`{"team": "shop"}`, `/shop`, all("of the team", "of both", "none needed")},
		{`{"kuma.io/workload": "web"}`, `/web`, all("of the workload", "of both", "none needed")},
	} {
		spec := `"selector": {"dataplane": {"matchLabels": ` + c.selector + `}}`
		if c.path != "" {
			spec += `, "spiffeID": {"path": "` + c.path + `"}`
		}
		o, err := kindOf(kind.MeshIdentity).DecodeJSON([]byte(`{"type": "MeshIdentity", "mesh": "m", "name": "id", "spec": {` + spec + `}}`))
		if err != nil {
			t.Fatalf("%s: %v", spec, err)
		}
		dp := &resource.Object{Meta: resource.Meta{
			ID:     resource.ID{Type: kind.Dataplane, Mesh: "m", Name: "web-1"},
			Labels: map[string]string{resource.LabelWorkload: "web", "team": "shop"},
		}}
		i := identity.NewMesh(resource.Site{Zone: "east", Env: resource.EnvUniversal}, one{o}, "m").Of(&dp.Meta)
		if i == nil {
			t.Fatalf("%s selects nothing", spec)
		}
		for name, claims := range tokens {
			if err := entitled(i, claims, dp); (err == nil) != c.allowed[name] {
				t.Errorf("selector %s, path %q, token %s: %v", c.selector, c.path, name, err)
			}
			if claims == nil {
				continue
			}
			// And none is good for another proxy than it is bound to.
			other := &resource.Meta{
				ID:     resource.ID{Type: kind.Dataplane, Mesh: "other", Name: "db-1"},
				Labels: map[string]string{resource.LabelWorkload: "db", "team": "billing"},
			}
			if err := claims.Fits(other, false); err == nil {
				t.Errorf("token %s is good for %s", name, fmt.Sprint(other.ID))
			}
		}
	}
}

func kindOf(t resource.Type) *resource.Kind {
	for _, k := range kind.All() {
		if k.Type == t {
			return k
		}
	}
	return nil
}
