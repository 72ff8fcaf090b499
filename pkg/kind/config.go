package kind

import (
	system_proto "github.com/atoll-mesh/atoll/api/kuma/system/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// ClusterID is the name of the Config that identifies a global with its zones,
// or a zone that has no global.
const ClusterID = "kuma-cluster-id"

// ClusterIDIn is what the Config named ClusterID says; empty when there is none.
func ClusterIDIn(s interface {
	Get(resource.ID) *resource.Object
}) string {
	o := s.Get(resource.ID{Type: Config, Name: ClusterID})
	if o == nil {
		return ""
	}
	return resource.SpecOf[system_proto.Config](o).GetConfig()
}

func configKind() *resource.Kind {
	return resource.Define[system_proto.Config, resource.NoStatus](resource.Kind{
		Names: resource.Names{
			Type: Config, Plural: "configs", Single: "config",
			Display: "Config", Displays: "Configs",
		},
		Scope:    resource.ScopeGlobal,
		Flows:    resource.GlobalToZone,
		KeepName: true,
		Internal: true,
	})
}
