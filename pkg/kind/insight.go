package kind

import (
	"google.golang.org/protobuf/types/known/timestamppb"

	mesh_proto "github.com/atoll-mesh/atoll/api/kuma/mesh/v1alpha1"
	system_proto "github.com/atoll-mesh/atoll/api/kuma/system/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

func dataplaneInsightKind() *resource.Kind {
	return resource.Define[mesh_proto.DataplaneInsight, resource.NoStatus](resource.Kind{
		Names: resource.Names{
			Type: DataplaneInsight, Plural: "dataplane-insights", Single: "dataplane-insight",
			Display: "Dataplane Insight", Displays: "Dataplane Insights",
		},
		Scope:    resource.ScopeMesh,
		Flows:    resource.ZoneToGlobal,
		ReadOnly: true,
	})
}

// meshInsightKind is of what is computed when somebody asks: none is stored.
func meshInsightKind() *resource.Kind {
	return resource.Define[mesh_proto.MeshInsight, resource.NoStatus](resource.Kind{
		Names: resource.Names{
			Type: MeshInsight, Plural: "mesh-insights", Single: "mesh-insight",
			Display: "Mesh Insight", Displays: "Mesh Insights",
		},
		Scope:    resource.ScopeGlobal,
		ReadOnly: true,
	})
}

// serviceInsightKind is kept for old clients: there are none any more.
func serviceInsightKind() *resource.Kind {
	return resource.Define[mesh_proto.ServiceInsight, resource.NoStatus](resource.Kind{
		Names: resource.Names{
			Type: ServiceInsight, Plural: "service-insights", Single: "service-insight",
			Display: "Service Insight", Displays: "Service Insights",
		},
		Scope:    resource.ScopeMesh,
		ReadOnly: true,
	})
}

func zoneInsightKind() *resource.Kind {
	return resource.Define[system_proto.ZoneInsight, resource.NoStatus](resource.Kind{
		Names: resource.Names{
			Type: ZoneInsight, Plural: "zone-insights", Single: "zone-insight",
			Display: "Zone Insight", Displays: "Zone Insights",
		},
		Scope:    resource.ScopeGlobal,
		ReadOnly: true,
	})
}

// subscription is what the two kinds of subscription have in common.
type subscription interface {
	GetConnectTime() *timestamppb.Timestamp
	GetDisconnectTime() *timestamppb.Timestamp
}

func online[S subscription](subscriptions []S) bool {
	for _, s := range subscriptions {
		if s.GetConnectTime() != nil && s.GetDisconnectTime() == nil {
			return true
		}
	}
	return false
}

// DataplaneOnline tells whether a proxy is connected. Nil is not connected.
func DataplaneOnline(i *mesh_proto.DataplaneInsight) bool { return online(i.GetSubscriptions()) }

// ZoneOnline tells whether a zone is connected. Nil is not connected.
func ZoneOnline(i *system_proto.ZoneInsight) bool { return online(i.GetSubscriptions()) }
