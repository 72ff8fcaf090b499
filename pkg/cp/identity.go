package cp

import (
	"fmt"

	"github.com/atoll-mesh/atoll/pkg/identity"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// checkIdentity refuses a Dataplane that a proxy brings unless the proxy's token
// is bound to the labels that its identity is made of: whoever may choose those
// freely could be anybody. With proofs off only the workload has to be stated.
func (p *plane) checkIdentity(token string, dp *resource.Object, proofs bool) error {
	i := identity.NewMesh(p.site, p.view.Snapshot(), dp.Mesh).Of(&dp.Meta)
	if i == nil {
		return nil
	}
	for _, label := range i.Labels() {
		if dp.Labels[label] == "" && label == resource.LabelWorkload {
			return fmt.Errorf("%s gives identities made of the label %s, which the Dataplane lacks; start the agent with a workload", i.Object.ID, label)
		}
	}
	if !proofs {
		return nil
	}
	claims, err := p.tokens.Dataplane(token, dp.Mesh)
	if err != nil {
		return err
	}
	for _, label := range i.Labels() {
		if dp.Labels[label] == "" || label == resource.LabelWorkload && claims.Workload != "" {
			continue // CheckDataplane compared it
		}
		if len(claims.Tags[label]) == 0 {
			what := fmt.Sprintf("tag %s=%s", label, dp.Labels[label])
			if label == resource.LabelWorkload {
				what = fmt.Sprintf("workload %q", dp.Labels[label])
			}
			return fmt.Errorf("%s gives identities made of the label %s, to which the token is not bound; issue it with %s", i.Object.ID, label, what)
		}
	}
	return nil
}
