package compile

import (
	"fmt"

	"github.com/atoll-mesh/atoll/pkg/envoy"
	"github.com/atoll-mesh/atoll/pkg/ir"
	"github.com/atoll-mesh/atoll/pkg/policy/meshproxypatch"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// CheckPatchValues returns the values of a MeshProxyPatch that are no messages of
// Envoy, which the policy by itself cannot know. Other kinds have none.
func CheckPatchValues(o *resource.Object) resource.FieldErrors {
	spec, ok := o.Spec.(*meshproxypatch.Spec)
	if !ok {
		return nil
	}
	var errs resource.FieldErrors
	for i, m := range spec.Default.AppendModifications {
		check := func(target, operation string, c meshproxypatch.Change) {
			if c.Value == nil || *c.Value == "" || operation == meshproxypatch.Remove {
				return
			}
			if err := envoy.CheckPatchValue(target, *c.Value, operation != meshproxypatch.Patch); err != nil {
				errs.Add(fmt.Sprintf("spec.default.appendModifications[%d].%s.value", i, target), "%s", err.Error())
			}
		}
		if x := m.Cluster; x != nil {
			check(ir.PatchCluster, x.Operation, x.Change)
		}
		if x := m.Listener; x != nil {
			check(ir.PatchListener, x.Operation, x.Change)
		}
		if x := m.NetworkFilter; x != nil {
			check(ir.PatchNetworkFilter, x.Operation, x.Change)
		}
		if x := m.HTTPFilter; x != nil {
			check(ir.PatchHTTPFilter, x.Operation, x.Change)
		}
		if x := m.VirtualHost; x != nil {
			check(ir.PatchVirtualHost, x.Operation, x.Change)
		}
	}
	return errs
}
