// Package meshtrafficpermission is the policy MeshTrafficPermission: which
// clients may call an inbound of a proxy that has an identity.
package meshtrafficpermission

import (
	"fmt"

	"github.com/atoll-mesh/atoll/pkg/policy"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// Spec of a MeshTrafficPermission.
type Spec struct {
	// TargetRef selects the proxies; all of the mesh when absent.
	TargetRef *policy.ProxyRef `json:"targetRef,omitempty"`
	// Rules list who may call and who may not.
	Rules []Rule `json:"rules,omitempty"`
}

// Rule is one set of lists.
type Rule struct {
	Default Conf `json:"default"`
}

// Conf lists clients. A client in any Deny of any policy is refused, any other
// in an Allow or AllowWithShadowDeny is let in, all others are refused.
type Conf struct {
	Deny []policy.Match `json:"deny,omitempty"`
	// AllowWithShadowDeny lets in and counts as if it refused.
	AllowWithShadowDeny []policy.Match `json:"allowWithShadowDeny,omitempty"`
	Allow               []policy.Match `json:"allow,omitempty"`
}

// Def is the policy.
var Def = policy.Define(resource.Names{
	Type: "MeshTrafficPermission", Short: "mtp",
	Plural: "meshtrafficpermissions", Single: "meshtrafficpermission",
	Display: "Mesh Traffic Permission", Displays: "Mesh Traffic Permissions",
}, policy.Hooks[Spec, Conf]{
	Bodies: func(s *Spec) policy.Bodies[Conf] {
		b := policy.Bodies[Conf]{TargetRef: s.TargetRef}
		for _, r := range s.Rules {
			b.Rules = append(b.Rules, policy.Rule[Conf]{Default: r.Default})
		}
		return b
	},
	HasRules: true,
	Validate: validate,
	Always:   true,
	Inbound:  inbound,
})

func validate(s *Spec) resource.FieldErrors {
	var errs resource.FieldErrors
	if len(s.Rules) == 0 {
		errs.Add("spec", "at least one rule must be set")
	}
	for i, r := range s.Rules {
		p := fmt.Sprintf("spec.rules[%d]", i)
		c := r.Default
		if len(c.Deny)+len(c.AllowWithShadowDeny)+len(c.Allow) == 0 {
			errs.Add(p, "at least one of allow, allowWithShadowDeny and deny must have an entry")
		}
		for name, list := range map[string][]policy.Match{"allow": c.Allow, "allowWithShadowDeny": c.AllowWithShadowDeny, "deny": c.Deny} {
			for j, m := range list {
				// The path is the one that tools know: it lacks "default".
				policy.ValidateMatch(&errs, fmt.Sprintf("%s.%s[%d]", p, name, j), m)
			}
		}
	}
	errs.Sort()
	return errs
}
