package rest

import (
	"google.golang.org/protobuf/types/known/timestamppb"

	systemv1 "github.com/atoll-mesh/atoll/api/kuma/system/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/observe"
)

// ownZone is what a zone without a global says of itself. Nobody but this
// control plane could know whether it is there, and it answers. It is nil for
// every other zone, and where there is a global, which knows.
func (a *API) ownZone(zone string) *systemv1.ZoneInsight {
	if a.Site.Global || a.Site.Federated || zone != a.Site.Zone {
		return nil
	}
	b := observe.ReadBuild()
	return &systemv1.ZoneInsight{Subscriptions: []*systemv1.KDSSubscription{{
		Id: a.InstanceID, ZoneInstanceId: a.InstanceID, ConnectTime: timestamppb.New(a.started), Config: string(a.Settings),
		Status: &systemv1.KDSSubscriptionStatus{Total: &systemv1.KDSServiceStats{}},
		Version: &systemv1.Version{KumaCp: &systemv1.KumaCpVersion{
			Version: observe.APIVersion, GitTag: b.Version, GitCommit: b.Commit, BuildDate: b.Date, KumaCpGlobalCompatible: true,
		}},
	}}}
}
