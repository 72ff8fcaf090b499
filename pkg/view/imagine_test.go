package view_test

import (
	"slices"
	"testing"

	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/view"
)

// What is imagined without a resource equals what never had it, and leaves the
// original alone.
func TestWithout(t *testing.T) {
	kinds := resource.NewKinds(kind.All()...)
	site := resource.Site{Zone: "east", Env: resource.EnvUniversal}
	k := kinds.ByType(kind.MeshService)
	var objects []*resource.Object
	for _, name := range []string{"a", "b"} {
		o, err := k.New(resource.Meta{ID: resource.ID{Type: k.Type, Mesh: "m", Name: name}},
			&kind.MeshServiceSpec{Ports: []kind.MeshServicePort{{Port: 80}}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		objects = append(objects, o)
	}
	s := view.Of(kinds, site, slices.Values(objects))
	less := s.Without([]resource.ID{objects[0].ID})
	never := view.Of(kinds, site, slices.Values(objects[1:]))
	for name, got := range map[string]*view.Snapshot{"without": less, "never": never} {
		if got.Get(objects[0].ID) != nil || got.Topology().Destination(objects[0].ID) != nil || got.Count(k.Type, "m") != 1 {
			t.Errorf("%s: still there", name)
		}
		if got.Topology().Destination(objects[1].ID) == nil {
			t.Errorf("%s: the other one is missing", name)
		}
	}
	if s.Count(k.Type, "m") != 2 || s.Topology().Destination(objects[0].ID) == nil {
		t.Errorf("the original changed")
	}
}
