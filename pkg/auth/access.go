package auth

import (
	"fmt"
	"slices"

	"github.com/atoll-mesh/atoll/pkg/resource"
)

// Rule grants something to users by name and to groups.
type Rule struct {
	Users  []string `json:"users"`
	Groups []string `json:"groups"`
}

func (r Rule) allows(u User) bool {
	return slices.Contains(r.Users, u.Name) ||
		slices.ContainsFunc(u.Groups, func(g string) bool { return slices.Contains(r.Groups, g) })
}

// Verb is what a caller does to a resource.
type Verb string

// The verbs. Read covers single resources, lists and overviews.
const (
	Read  Verb = "read"
	Write Verb = "write"
)

// Access is the static list of who may do what. Resources of ordinary kinds
// are open to every authenticated user.
type Access struct {
	AdminResources       Rule `json:"adminResources"`
	GenerateDPToken      Rule `json:"generateDpToken"`
	GenerateUserToken    Rule `json:"generateUserToken"`
	GenerateZoneToken    Rule `json:"generateZoneToken"`
	ViewConfigDump       Rule `json:"viewConfigDump"`
	ViewStats            Rule `json:"viewStats"`
	ViewClusters         Rule `json:"viewClusters"`
	ControlPlaneMetadata Rule `json:"controlPlaneMetadata"`

	// AnonymousRead and AnonymousWrite let callers without authentication do
	// what authenticated ones may do to ordinary resources. Off by default:
	// then no rule helps an anonymous caller, whatever groups it lists.
	AnonymousRead  bool `json:"anonymousRead"`
	AnonymousWrite bool `json:"anonymousWrite"`

	// Roles, when there are any, are all that authenticated users may do to
	// resources; without them ordinary kinds are open to every one. The lists
	// above hold in any case.
	Roles []Binding `json:"roles"`
}

// DefaultAccess lets administrators do everything, and everybody who is
// authenticated read and write what is not secret.
func DefaultAccess() Access {
	admin := Rule{Users: []string{AdminName}, Groups: []string{AdminGroup}}
	all := Rule{Groups: []string{GroupUnauthenticated, GroupAuthenticated}}
	return Access{
		AdminResources: admin, GenerateDPToken: admin, GenerateUserToken: admin, GenerateZoneToken: admin,
		ViewConfigDump: all, ViewStats: all, ViewClusters: all, ControlPlaneMetadata: all,
	}
}

// DeniedError says that a user may not do something (HTTP 403).
type DeniedError struct {
	User   User
	Action string
}

// Error names the user and what was refused.
func (e *DeniedError) Error() string {
	if e.User.IsAnonymous() {
		return fmt.Sprintf("user %q may not %s: authenticate with a user token, or call from localhost", e.User, e.Action)
	}
	return fmt.Sprintf("user %q may not %s", e.User, e.Action)
}

// Resource returns nil if the user may do this to some resources of that kind, or
// a *DeniedError. Which ones, Object tells.
func (a *Access) Resource(u User, v Verb, k *resource.Kind) error {
	return a.Object(u, v, TargetIn(k, ""))
}

// DPToken guards POST /tokens/dataplane for a mesh, nil if that is not known yet.
// Besides those listed, operators of the mesh may.
func (a *Access) DPToken(u User, mesh *string) error {
	if !u.IsAnonymous() && a.holds(u, mesh, nil, MeshOperator, RoleAdmin) {
		return nil
	}
	return check(u, a.GenerateDPToken, "issue dataplane tokens"+named(" for mesh", mesh))
}

// UserToken guards POST /tokens/user.
func (a *Access) UserToken(u User) error {
	if a.unlimitedAdmin(u) {
		return nil
	}
	return check(u, a.GenerateUserToken, "issue user tokens")
}

// ZoneToken guards POST /tokens/zone for a zone, nil if that is not known yet.
// Besides those listed, operators of the zone may.
func (a *Access) ZoneToken(u User, zone *string) error {
	if !u.IsAnonymous() && a.holds(u, nil, zone, ZoneOperator, RoleAdmin) {
		return nil
	}
	return check(u, a.GenerateZoneToken, "issue zone tokens"+named(" for zone", zone))
}

func named(what string, name *string) string {
	if name == nil || *name == "" {
		return ""
	}
	return fmt.Sprintf("%s %q", what, *name)
}

// ConfigDump guards the configuration that a proxy received.
func (a *Access) ConfigDump(u User) error {
	return a.view(u, a.ViewConfigDump, "view the configuration of proxies")
}

// Stats guards the statistics of proxies.
func (a *Access) Stats(u User) error {
	return a.view(u, a.ViewStats, "view the statistics of proxies")
}

// Clusters guards the clusters that a proxy reports.
func (a *Access) Clusters(u User) error {
	return a.view(u, a.ViewClusters, "view the clusters of proxies")
}

// Metadata guards GET /config.
func (a *Access) Metadata(u User) error {
	return a.view(u, a.ControlPlaneMetadata, "view the configuration of the control plane")
}

func (a *Access) view(u User, r Rule, action string) error {
	if u.IsAnonymous() && !a.AnonymousRead {
		return &DeniedError{User: u, Action: action}
	}
	return check(u, r, action)
}

func check(u User, r Rule, action string) error {
	if !r.allows(u) {
		return &DeniedError{User: u, Action: action}
	}
	return nil
}
