package kds

import (
	"encoding/json"

	"github.com/atoll-mesh/atoll/pkg/resource"
)

const roleProducer = "producer"

// isProducer tells whether a policy says, and by its content is, how the owner
// of a service wants all clients to behave: only such policies of one zone reach
// the others. The label alone is not believed, because the zone wrote it.
func isProducer(o *resource.Object) bool {
	ns := o.Namespace()
	if o.Labels[resource.LabelPolicyRole] != roleProducer || ns == "" {
		return false
	}
	var spec struct {
		To []struct {
			TargetRef struct {
				Kind   string            `json:"kind"`
				Labels map[string]string `json:"labels"`
			} `json:"targetRef"`
		} `json:"to"`
	}
	if json.Unmarshal(o.SpecWire(), &spec) != nil || len(spec.To) == 0 {
		return false
	}
	for _, to := range spec.To {
		ref := to.TargetRef
		if ref.Kind != "MeshService" && ref.Kind != "MeshHTTPRoute" {
			return false
		}
		if _, named := ref.Labels[resource.LabelDisplayName]; !named {
			return false
		}
		for key, v := range ref.Labels {
			switch {
			case key == resource.LabelDisplayName:
			case key == resource.LabelNamespace && (v == "" || v == ns):
			default:
				return false
			}
		}
	}
	return true
}

// selectsMultiZone tells whether a HostnameGenerator names services that old
// zones do not know.
func selectsMultiZone(o *resource.Object) bool {
	var spec struct {
		Selector struct {
			MeshMultiZoneService json.RawMessage `json:"meshMultiZoneService"`
		} `json:"selector"`
	}
	return json.Unmarshal(o.SpecWire(), &spec) == nil && len(spec.Selector.MeshMultiZoneService) > 0
}
