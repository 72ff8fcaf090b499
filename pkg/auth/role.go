package auth

import (
	"fmt"
	"slices"

	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// Role is a set of things that somebody may do.
type Role string

// The roles. A viewer reads everything but secrets. A mesh operator also writes
// what is in meshes. A zone operator also writes zones, and in meshes what
// belongs to a zone. An admin does everything.
const (
	Viewer       Role = "viewer"
	MeshOperator Role = "meshOperator"
	ZoneOperator Role = "zoneOperator"
	RoleAdmin    Role = "admin"
)

// Roles are all roles, the weakest first.
var Roles = []Role{Viewer, MeshOperator, ZoneOperator, RoleAdmin}

// Binding gives a role to users and groups. Meshes and zones, when there are
// any, limit it: writing, and secrets, then need a mesh and a zone of the lists;
// reading is refused only for what belongs to another mesh or zone, so that who
// operates a zone sees the policies that apply in it.
type Binding struct {
	Role Role
	Rule
	Meshes []string
	Zones  []string
}

// Target is what access to a resource is decided by. A nil mesh or zone is not
// known yet: then the answer is whether there could be such a resource.
type Target struct {
	Kind       *resource.Kind
	Mesh, Zone *string
}

// TargetOf is the target of one resource.
func TargetOf(k *resource.Kind, m *resource.Meta) Target {
	mesh, zone := m.Mesh, m.Zone()
	switch k.Type {
	case kind.Mesh, meshInsight:
		mesh = m.Name
	case kind.Zone, kind.ZoneInsight, kind.ZoneTraffic:
		zone = m.Name
	case kind.Notice: // about a mesh, though in none
		mesh = m.Labels[resource.LabelMesh]
	}
	return Target{k, &mesh, &zone}
}

// TargetIn is the target of some resource of a kind in a mesh; an empty mesh is
// any.
func TargetIn(k *resource.Kind, mesh string) Target {
	t := Target{Kind: k}
	if mesh != "" || k.Scope == resource.ScopeGlobal && k.Type != kind.Mesh && k.Type != meshInsight {
		t.Mesh = &mesh
	}
	return t
}

// TargetNamed is what a path or an identifier says of the resource that it names:
// its mesh, and of zones and what is known of them the zone. An empty name is any.
func TargetNamed(k *resource.Kind, mesh, name string) Target {
	t := TargetIn(k, mesh)
	switch {
	case name == "":
	case k.Type == kind.Mesh || k.Type == meshInsight:
		t.Mesh = &name
	case k.Type == kind.Zone || k.Type == kind.ZoneInsight || k.Type == kind.ZoneTraffic:
		t.Zone = &name
	}
	return t
}

const meshInsight resource.Type = "MeshInsight"

// allows tells whether the binding, of a user that it is for, lets do this.
func (b *Binding) allows(v Verb, t Target) bool {
	strict := v == Write || t.Kind.AdminOnly || t.Kind.Internal
	if t.Kind.AdminOnly || t.Kind.Internal {
		if b.Role != RoleAdmin {
			return false
		}
	}
	if v == Write {
		inMesh := t.Kind.Scope == resource.ScopeMesh
		switch b.Role {
		case MeshOperator:
			if !inMesh {
				return false
			}
		case ZoneOperator:
			if !inMesh && t.Kind.Type != kind.Zone || t.Zone != nil && *t.Zone == "" {
				return false
			}
		case RoleAdmin:
		default:
			return false
		}
	}
	return within(b.Meshes, t.Mesh, strict) && within(b.Zones, t.Zone, strict)
}

func within(list []string, value *string, strict bool) bool {
	return len(list) == 0 || value == nil || *value == "" && !strict || slices.Contains(list, *value)
}

// unlimited tells whether a binding is for all meshes and zones.
func (b *Binding) unlimited() bool { return len(b.Meshes)+len(b.Zones) == 0 }

// IsAdmin tells whether the user may read and write every resource.
func (a *Access) IsAdmin(u User) bool { return a.AdminResources.allows(u) || a.unlimitedAdmin(u) }

func (a *Access) unlimitedAdmin(u User) bool {
	return slices.ContainsFunc(a.Roles, func(b Binding) bool { return b.Role == RoleAdmin && b.unlimited() && b.Rule.allows(u) })
}

// Object returns nil if the user may do this to the resources that the target
// describes, or a *DeniedError.
func (a *Access) Object(u User, v Verb, t Target) error {
	if a.IsAdmin(u) {
		return nil
	}
	denied := &DeniedError{User: u, Action: fmt.Sprintf("%s resources of type %s", v, t.Kind.Type)}
	if t.Mesh != nil && *t.Mesh != "" {
		denied.Action += fmt.Sprintf(" in mesh %q", *t.Mesh)
	}
	if t.Zone != nil && *t.Zone != "" {
		denied.Action += fmt.Sprintf(" of zone %q", *t.Zone)
	}
	if !t.Kind.AdminOnly && !t.Kind.Internal {
		switch {
		case u.IsAnonymous():
			if v == Read && a.AnonymousRead || v == Write && a.AnonymousWrite {
				return nil
			}
			return denied
		case len(a.Roles) == 0:
			return nil
		}
	}
	for i := range a.Roles {
		if b := &a.Roles[i]; b.Rule.allows(u) && b.allows(v, t) {
			return nil
		}
	}
	return denied
}

// Sees returns which resources of ordinary kinds the user may read, or nil when
// that is all of them.
func (a *Access) Sees(u User) func(*resource.Object) bool {
	if len(a.Roles) == 0 || a.IsAdmin(u) || u.IsAnonymous() && a.AnonymousRead {
		return nil
	}
	for i := range a.Roles {
		if b := &a.Roles[i]; b.unlimited() && b.Rule.allows(u) {
			return nil
		}
	}
	return func(o *resource.Object) bool { return a.Object(u, Read, TargetOf(o.Kind, &o.Meta)) == nil }
}

// holds tells whether the user has one of the roles for a mesh or zone, of which
// nil is some.
func (a *Access) holds(u User, mesh, zone *string, roles ...Role) bool {
	return slices.ContainsFunc(a.Roles, func(b Binding) bool {
		return slices.Contains(roles, b.Role) && b.Rule.allows(u) &&
			(mesh == nil && zone == nil || mesh != nil && len(b.Zones) == 0 && within(b.Meshes, mesh, true) ||
				zone != nil && len(b.Meshes) == 0 && within(b.Zones, zone, true))
	})
}
