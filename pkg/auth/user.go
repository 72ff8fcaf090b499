// Package auth says who a caller is and what they may do: signed tokens for
// users, proxies and zones, the rule that a direct call from localhost is the
// administrator, and the static access rules. It reads keys and revocations
// from a snapshot that it is handed, and writes nothing.
package auth

import (
	"context"
	"slices"
	"strings"
)

// Names and groups with a meaning of their own.
const (
	AdminName            = "mesh-system:admin"
	AdminGroup           = "mesh-system:admin"
	AnonymousName        = "mesh-system:anonymous"
	GroupAuthenticated   = "mesh-system:authenticated"
	GroupUnauthenticated = "mesh-system:unauthenticated"
)

// User is a caller: a name and the groups it belongs to.
type User struct {
	Name   string
	Groups []string
}

// Admin is the administrator, as which direct calls from localhost count.
func Admin() User {
	return User{Name: AdminName, Groups: []string{AdminGroup, GroupAuthenticated}}
}

// Anonymous is a caller who did not say who they are.
func Anonymous() User {
	return User{Name: AnonymousName, Groups: []string{GroupUnauthenticated}}
}

// IsAnonymous reports whether the caller did not authenticate.
func (u User) IsAnonymous() bool { return !slices.Contains(u.Groups, GroupAuthenticated) }

// String is name/group1,group2: how logs and refusals name the user.
func (u User) String() string { return u.Name + "/" + strings.Join(u.Groups, ",") }

type userKey struct{}

// WithUser returns a context that carries the caller.
func WithUser(ctx context.Context, u User) context.Context {
	return context.WithValue(ctx, userKey{}, u)
}

// UserFrom is the caller that WithUser put there, else Anonymous.
func UserFrom(ctx context.Context) User {
	if u, ok := ctx.Value(userKey{}).(User); ok {
		return u
	}
	return Anonymous()
}
