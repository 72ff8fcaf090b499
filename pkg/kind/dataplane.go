package kind

import (
	"maps"

	"google.golang.org/protobuf/proto"

	mesh_proto "github.com/atoll-mesh/atoll/api/kuma/mesh/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// Shorter names of the parts of a Dataplane.
type (
	Networking        = mesh_proto.Dataplane_Networking
	DataplaneInbound  = mesh_proto.Dataplane_Networking_Inbound
	DataplaneOutbound = mesh_proto.Dataplane_Networking_Outbound
	DataplaneListener = mesh_proto.Dataplane_Networking_Listener
)

// ServicelessPort is the inbound port of proxies that serve nothing. It gets
// no listener and no cluster.
const ServicelessPort = 49151

func dataplaneKind() *resource.Kind {
	return resource.Define[mesh_proto.Dataplane, resource.NoStatus](resource.Kind{
		Names: resource.Names{
			Type: Dataplane, Plural: "dataplanes", Single: "dataplane", Short: "dp",
			Display: "Dataplane", Displays: "Dataplanes",
		},
		Scope:    resource.ScopeMesh,
		Flows:    resource.ZoneToGlobal,
		Validate: validateDataplane,
		Admit:    admitDataplane,
	})
}

// admitDataplane computes what a Dataplane is stored with besides what was sent.
func admitDataplane(site resource.Site, o, old *resource.Object) (map[string]string, any) {
	dp := resource.SpecOf[mesh_proto.Dataplane](o)
	labels := maps.Clone(o.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	delete(labels, resource.LabelProxyType)
	setEnabled := func(label string, t mesh_proto.Dataplane_Networking_Listener_Type) {
		delete(labels, label)
		for _, l := range dp.GetNetworking().GetListeners() {
			if l.GetType() == t {
				labels[label] = "enabled"
			}
		}
	}
	setEnabled(resource.LabelZoneIngress, mesh_proto.Dataplane_Networking_Listener_ZoneIngress)
	setEnabled(resource.LabelZoneEgress, mesh_proto.Dataplane_Networking_Listener_ZoneEgress)

	changed := proto.Clone(dp).(*mesh_proto.Dataplane)
	if gw := changed.GetNetworking().GetGateway(); gw != nil && site.Zone != "" {
		if gw.Tags == nil {
			gw.Tags = map[string]string{}
		}
		gw.Tags[resource.LabelZone] = site.Zone
	}
	if old == nil {
		HoldProbed(changed)
	}
	return labels, changed
}

// HoldProbed marks every inbound with a service probe as not ready, which it is
// until its first probe was answered. It modifies its argument.
func HoldProbed(dp *mesh_proto.Dataplane) {
	for _, in := range dp.GetNetworking().GetInbound() {
		if in.GetServiceProbe() != nil {
			in.State = mesh_proto.Dataplane_Networking_Inbound_NotReady
			in.Health = &mesh_proto.Dataplane_Networking_Inbound_Health{}
		}
	}
}

// NetworkingOf returns the networking of a Dataplane. It may be nil, which all getters
// and functions of this package accept.
func NetworkingOf(o *resource.Object) *Networking {
	return resource.SpecOf[mesh_proto.Dataplane](o).GetNetworking()
}

// InboundSection names an inbound in KRIs and selectors: its name, or its port.
func InboundSection(in *DataplaneInbound) string { return sectionName(in.GetName(), in.GetPort()) }

// ListenerSection names a listener of a zone proxy like an inbound.
func ListenerSection(l *DataplaneListener) string { return sectionName(l.GetName(), l.GetPort()) }

// InboundAddress is where the proxy listens for an inbound.
func InboundAddress(n *Networking, in *DataplaneInbound) string {
	if a := in.GetAddress(); a != "" {
		return a
	}
	return n.GetAddress()
}

// ServicePort is the port of the application behind an inbound.
func ServicePort(in *DataplaneInbound) uint32 {
	if p := in.GetServicePort(); p != 0 {
		return p
	}
	return in.GetPort()
}

// ServiceAddress is the address of the application behind an inbound. With a
// transparent proxy the application is reached at the address clients called.
func ServiceAddress(n *Networking, in *DataplaneInbound, transparent bool) string {
	if a := in.GetServiceAddress(); a != "" {
		return a
	}
	if transparent {
		return InboundAddress(n, in)
	}
	return "127.0.0.1"
}

// InboundReady tells whether an inbound may receive traffic: it makes an
// endpoint. Inbounds that are ignored do not.
func InboundReady(in *DataplaneInbound) bool {
	return in.GetState() == mesh_proto.Dataplane_Networking_Inbound_Ready &&
		(in.GetHealth() == nil || in.GetHealth().GetReady())
}

// InboundCountsReady tells whether an inbound counts as ready in the status of
// its Dataplane, where an ignored one does no harm.
func InboundCountsReady(in *DataplaneInbound) bool {
	return in.GetState() != mesh_proto.Dataplane_Networking_Inbound_NotReady &&
		(in.GetHealth() == nil || in.GetHealth().GetReady())
}

// IsDelegatedGateway tells whether the proxy belongs to a gateway that another
// product runs: it has outbounds only.
func IsDelegatedGateway(n *Networking) bool { return n.GetGateway() != nil }

// ServesInbounds tells whether services may select the Dataplane: it has
// inbounds of its own. Gateways and pure zone proxies have none.
func ServesInbounds(n *Networking) bool {
	return len(n.GetInbound()) > 0 && !IsDelegatedGateway(n)
}
