package auth

import (
	"fmt"
	"slices"

	"github.com/atoll-mesh/atoll/pkg/resource"
)

// CheckDataplane returns nil if the holder of the token may act as this
// Dataplane. Before an agent's document replaces a stored Dataplane, call it
// for both: a token must not take over what it could not have registered.
// workloadInIdentity says that the SPIFFE ID of the Dataplane contains its
// workload label; then the token has to be bound to the workload.
func (t *Tokens) CheckDataplane(token string, dp *resource.Meta, workloadInIdentity bool) error {
	c, err := t.Dataplane(token, dp.Mesh)
	if err != nil {
		return err
	}
	return c.Fits(dp, workloadInIdentity)
}

// Fits returns nil if every claim that is set holds for the Dataplane.
func (c *DataplaneClaims) Fits(dp *resource.Meta, workloadInIdentity bool) error {
	mismatch := func(claim, token, actual string) error {
		return fmt.Errorf("%w: claim %s is %q but the Dataplane has %q", ErrInvalidToken, claim, token, actual)
	}
	if c.Type != "" && c.Type != "dataplane" {
		return fmt.Errorf("%w: claim Type is %q, not dataplane", ErrInvalidToken, c.Type)
	}
	if c.Mesh != "" && c.Mesh != dp.Mesh {
		return mismatch("Mesh", c.Mesh, dp.Mesh)
	}
	if c.Name != "" && c.Name != dp.Name {
		return mismatch("Name", c.Name, dp.Name)
	}
	for key, allowed := range c.Tags {
		got, ok := dp.Labels[key]
		if !ok {
			return fmt.Errorf("%w: claim Tags needs the label %s, which the Dataplane lacks", ErrInvalidToken, key)
		}
		if !slices.Contains(allowed, got) {
			return fmt.Errorf("%w: claim Tags allows %v for label %s but the Dataplane has %q", ErrInvalidToken, allowed, key, got)
		}
	}
	workload := dp.Labels[resource.LabelWorkload]
	if c.Workload != "" && c.Workload != workload {
		return mismatch("Workload", c.Workload, workload)
	}
	if c.Workload == "" && workload != "" && workloadInIdentity {
		return fmt.Errorf("%w: the Dataplane's identity contains its workload %q; issue the token with workload %q", ErrInvalidToken, workload, workload)
	}
	return nil
}
