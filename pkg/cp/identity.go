package cp

import (
	"fmt"

	"github.com/atoll-mesh/atoll/pkg/auth"
	"github.com/atoll-mesh/atoll/pkg/identity"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// checkIdentity refuses a Dataplane that a proxy brings unless the proxy's token
// is bound to what its identity is made of. With proofs off only the workload has
// to be stated.
func (p *plane) checkIdentity(token string, dp *resource.Object, proofs bool) error {
	i := identity.NewMesh(p.site, p.view.Snapshot(), dp.Mesh).Of(&dp.Meta)
	if i == nil {
		return nil
	}
	var claims *auth.DataplaneClaims
	if proofs {
		var err error
		if claims, err = p.tokens.Dataplane(token, dp.Mesh); err != nil {
			return err
		}
	}
	return entitled(i, claims, dp)
}

// entitled tells whether a Dataplane may have an identity: whoever may choose
// freely what that is made of could be anybody. claims are those of its token,
// which fits the Dataplane; nil: nobody has to prove anything.
func entitled(i *identity.Identity, claims *auth.DataplaneClaims, dp *resource.Object) error {
	made := i.Labels()
	for _, label := range made {
		if dp.Labels[label] == "" && label == resource.LabelWorkload {
			return fmt.Errorf("%s gives identities made of the label %s, which the Dataplane lacks; start the agent with a workload", i.Object.ID, label)
		}
	}
	if claims == nil {
		return nil
	}
	bound := func(label string) bool {
		return len(claims.Tags[label]) > 0 || label == resource.LabelWorkload && claims.Workload != ""
	}
	claim := func(label string) string {
		if label == resource.LabelWorkload {
			return fmt.Sprintf("workload %q", dp.Labels[label])
		}
		return fmt.Sprintf("tag %s=%s", label, dp.Labels[label])
	}
	for _, label := range made {
		if dp.Labels[label] != "" && !bound(label) {
			return fmt.Errorf("%s gives identities made of the label %s, to which the token is not bound; issue it with %s", i.Object.ID, label, claim(label))
		}
	}
	if len(made) > 0 {
		return nil
	}
	// All that it selects are one to others, so that being selected is what the
	// token has to allow.
	for _, label := range i.Selector() {
		if !bound(label) {
			return fmt.Errorf("%s selects proxies by the label %s, to which the token is not bound; issue it with %s", i.Object.ID, label, claim(label))
		}
	}
	return nil
}
