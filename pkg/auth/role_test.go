package auth

import (
	"fmt"
	"strings"
	"testing"

	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// class sorts kinds by what roles treat alike.
func class(k *resource.Kind) string {
	switch {
	case k.Type == kind.Mesh || k.Type == meshInsight:
		return "mesh"
	case k.Type == kind.Zone || k.Type == kind.ZoneInsight || k.Type == kind.ZoneTraffic:
		return "zone"
	case k.Internal:
		return "globalSecret" // as secret as those
	case k.AdminOnly && k.Scope == resource.ScopeMesh:
		return "secret"
	case k.AdminOnly:
		return "globalSecret"
	case k.Scope == resource.ScopeMesh:
		return "inMesh"
	}
	return "global"
}

// The complete table: what each role may read and write of each class of kinds,
// in its own mesh and zone and in others. Columns are
//
//	mesh: own own own | other other other
//	zone: own other none | own other none
//
// with r for reading and w for writing. Own is what the binding is limited to;
// one that is not limited to zones has all zones as its own. Kinds without mesh
// are in the columns of their own mesh, kinds with a zone in all.
var table = map[string]map[string]string{
	"viewer": {
		"inMesh": "r r r r r r", "mesh": "r r r r r r", "zone": "r r r r r r", "global": "r r r r r r",
		"secret": "- - - - - -", "globalSecret": "- - - - - -",
	},
	"viewer mesh": {
		"inMesh": "r r r - - -", "mesh": "r r r - - -", "zone": "r r r r r r", "global": "r r r r r r",
		"secret": "- - - - - -", "globalSecret": "- - - - - -",
	},
	"viewer zone": {
		"inMesh": "r - r r - r", "mesh": "r - r r - r", "zone": "r - r r - r", "global": "r - r r - r",
		"secret": "- - - - - -", "globalSecret": "- - - - - -",
	},
	"viewer mesh zone": {
		"inMesh": "r - r - - -", "mesh": "r - r - - -", "zone": "r - r r - r", "global": "r - r r - r",
		"secret": "- - - - - -", "globalSecret": "- - - - - -",
	},
	"meshOperator": {
		"inMesh": "rw rw rw rw rw rw", "mesh": "r r r r r r", "zone": "r r r r r r", "global": "r r r r r r",
		"secret": "- - - - - -", "globalSecret": "- - - - - -",
	},
	"meshOperator mesh": {
		"inMesh": "rw rw rw - - -", "mesh": "r r r - - -", "zone": "r r r r r r", "global": "r r r r r r",
		"secret": "- - - - - -", "globalSecret": "- - - - - -",
	},
	"meshOperator zone": {
		"inMesh": "rw - r rw - r", "mesh": "r - r r - r", "zone": "r - r r - r", "global": "r - r r - r",
		"secret": "- - - - - -", "globalSecret": "- - - - - -",
	},
	"meshOperator mesh zone": {
		"inMesh": "rw - r - - -", "mesh": "r - r - - -", "zone": "r - r r - r", "global": "r - r r - r",
		"secret": "- - - - - -", "globalSecret": "- - - - - -",
	},
	"zoneOperator": {
		"inMesh": "rw rw r rw rw r", "mesh": "r r r r r r", "zone": "rw rw r rw rw r", "global": "r r r r r r",
		"secret": "- - - - - -", "globalSecret": "- - - - - -",
	},
	"zoneOperator mesh": {
		"inMesh": "rw rw r - - -", "mesh": "r r r - - -", "zone": "r r r r r r", "global": "r r r r r r",
		"secret": "- - - - - -", "globalSecret": "- - - - - -",
	},
	"zoneOperator zone": {
		"inMesh": "rw - r rw - r", "mesh": "r - r r - r", "zone": "rw - r rw - r", "global": "r - r r - r",
		"secret": "- - - - - -", "globalSecret": "- - - - - -",
	},
	"zoneOperator mesh zone": {
		"inMesh": "rw - r - - -", "mesh": "r - r - - -", "zone": "r - r r - r", "global": "r - r r - r",
		"secret": "- - - - - -", "globalSecret": "- - - - - -",
	},
	"admin": {
		"inMesh": "rw rw rw rw rw rw", "mesh": "rw rw rw rw rw rw", "zone": "rw rw rw rw rw rw", "global": "rw rw rw rw rw rw",
		"secret": "rw rw rw rw rw rw", "globalSecret": "rw rw rw rw rw rw",
	},
	"admin mesh": {
		"inMesh": "rw rw rw - - -", "mesh": "rw rw rw - - -", "zone": "r r r r r r", "global": "r r r r r r",
		"secret": "rw rw rw - - -", "globalSecret": "- - - - - -",
	},
	"admin zone": {
		"inMesh": "rw - r rw - r", "mesh": "rw - r rw - r", "zone": "rw - r rw - r", "global": "rw - r rw - r",
		"secret": "rw - - rw - -", "globalSecret": "rw - - rw - -",
	},
	"admin mesh zone": {
		"inMesh": "rw - r - - -", "mesh": "rw - r - - -", "zone": "r - r r - r", "global": "r - r r - r",
		"secret": "rw - - - - -", "globalSecret": "- - - - - -",
	},
	"nobody": {
		"inMesh": "- - - - - -", "mesh": "- - - - - -", "zone": "- - - - - -", "global": "- - - - - -",
		"secret": "- - - - - -", "globalSecret": "- - - - - -",
	},
}

func TestRoles(t *testing.T) {
	cases := 0
	for name, byClass := range table {
		words := strings.Fields(name)
		b := Binding{Role: Role(words[0]), Rule: Rule{Groups: []string{"team"}}}
		for _, limit := range words[1:] {
			if limit == "mesh" {
				b.Meshes = []string{"own"}
			} else {
				b.Zones = []string{"own"}
			}
		}
		if words[0] == "nobody" {
			b = Binding{Role: RoleAdmin, Rule: Rule{Users: []string{"somebody else"}}}
		}
		a := DefaultAccess()
		a.Roles = []Binding{b}
		u := User{Name: "joe", Groups: []string{"team", GroupAuthenticated}}
		for _, k := range kind.All() {
			columns := strings.Fields(byClass[class(k)])
			for i, where := range []struct{ mesh, zone string }{
				{"own", "own"}, {"own", "other"}, {"own", ""}, {"other", "own"}, {"other", "other"}, {"other", ""},
			} {
				m := resource.Meta{ID: resource.ID{Type: k.Type, Mesh: where.mesh, Name: "x"}, Labels: map[string]string{}}
				if where.zone != "" {
					m.Labels[resource.LabelZone] = where.zone
				}
				switch class(k) {
				case "mesh":
					m.Mesh, m.Name = "", where.mesh
				case "zone":
					m.Mesh, m.Name, m.Labels = "", where.zone, nil
				case "global", "globalSecret":
					m.Mesh = ""
				}
				for verb, letter := range map[Verb]string{Read: "r", Write: "w"} {
					if verb == Write && k.ReadOnly {
						continue // nobody may, and access is not asked
					}
					want := strings.Contains(columns[i], letter)
					err := a.Object(u, verb, TargetOf(k, &m))
					if (err == nil) != want {
						t.Errorf("%s: %s %s of %s: allowed %v, want %v", name, verb, k.Type, fmt.Sprint(where), err == nil, want)
					}
					if sees := a.Sees(u); verb == Read && !k.AdminOnly && !k.Internal && sees != nil && sees(&resource.Object{Meta: m, Kind: k}) != want {
						t.Errorf("%s: lists of %s show %v: %v", name, k.Type, where, !want)
					}
					// What may be done to one may be done to some.
					if want && (a.Resource(u, verb, k) != nil || a.Object(u, verb, TargetIn(k, m.Mesh)) != nil) {
						t.Errorf("%s: %s %s is refused before it is known which", name, verb, k.Type)
					}
					cases++
				}
			}
		}
	}
	if cases < 16*14*9 {
		t.Errorf("only %d cases", cases)
	}
}

func TestRolesAndTokens(t *testing.T) {
	own, other := "own", "other"
	u := User{Name: "joe", Groups: []string{GroupAuthenticated}}
	joe := Rule{Users: []string{"joe"}}
	for _, c := range []struct {
		b                               Binding
		dpOwn, dpOther, zOwn, zOther, u bool
	}{
		{Binding{Role: Viewer, Rule: joe}, false, false, false, false, false},
		{Binding{Role: MeshOperator, Rule: joe}, true, true, false, false, false},
		{Binding{Role: MeshOperator, Rule: joe, Meshes: []string{own}}, true, false, false, false, false},
		{Binding{Role: MeshOperator, Rule: joe, Zones: []string{own}}, false, false, false, false, false},
		{Binding{Role: ZoneOperator, Rule: joe}, false, false, true, true, false},
		{Binding{Role: ZoneOperator, Rule: joe, Zones: []string{own}}, false, false, true, false, false},
		{Binding{Role: ZoneOperator, Rule: joe, Meshes: []string{own}}, false, false, false, false, false},
		{Binding{Role: RoleAdmin, Rule: joe}, true, true, true, true, true},
		{Binding{Role: RoleAdmin, Rule: joe, Meshes: []string{own}}, true, false, false, false, false},
		{Binding{Role: RoleAdmin, Rule: joe, Zones: []string{own}}, false, false, true, false, false},
	} {
		a := DefaultAccess()
		a.Roles = []Binding{c.b}
		for what, ok := range map[string]bool{
			"dp own":     (a.DPToken(u, &own) == nil) == c.dpOwn,
			"dp other":   (a.DPToken(u, &other) == nil) == c.dpOther,
			"zone own":   (a.ZoneToken(u, &own) == nil) == c.zOwn,
			"zone other": (a.ZoneToken(u, &other) == nil) == c.zOther,
			"user":       (a.UserToken(u) == nil) == c.u,
		} {
			if !ok {
				t.Errorf("%+v: %s", c.b, what)
			}
		}
	}
}

// Without roles everything is as the lists of the reference have it.
func TestNoRoles(t *testing.T) {
	a := DefaultAccess()
	u := User{Name: "joe", Groups: []string{GroupAuthenticated}}
	for _, k := range kind.All() {
		want := !k.AdminOnly && !k.Internal
		for _, v := range []Verb{Read, Write} {
			if err := a.Resource(u, v, k); (err == nil) != want {
				t.Errorf("%s %s: %v", v, k.Type, err)
			}
			if err := a.Resource(Anonymous(), v, k); err == nil {
				t.Errorf("anonymous may %s %s", v, k.Type)
			}
			if err := a.Resource(Admin(), v, k); err != nil {
				t.Error(err)
			}
		}
	}
	if a.Sees(u) != nil {
		t.Error("lists are filtered")
	}
}
