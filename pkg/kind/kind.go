// Package kind describes every kind of resource that is not a policy: its
// names, which way it travels, what is valid, and the few facts about it that
// more than one part of the system needs.
package kind

import "github.com/atoll-mesh/atoll/pkg/resource"

// Types of the kinds of this package.
const (
	Config resource.Type = "Config"
	// ContainerPatch changes what is injected into pods.
	ContainerPatch       resource.Type = "ContainerPatch"
	Dataplane            resource.Type = "Dataplane"
	DataplaneInsight     resource.Type = "DataplaneInsight"
	GlobalSecret         resource.Type = "GlobalSecret"
	HostnameGenerator    resource.Type = "HostnameGenerator"
	Mesh                 resource.Type = "Mesh"
	MeshExternalService  resource.Type = "MeshExternalService"
	MeshIdentity         resource.Type = "MeshIdentity"
	MeshInsight          resource.Type = "MeshInsight"
	MeshMultiZoneService resource.Type = "MeshMultiZoneService"
	// MeshOpenTelemetryBackend is a collector of telemetry.
	MeshOpenTelemetryBackend resource.Type = "MeshOpenTelemetryBackend"
	MeshService              resource.Type = "MeshService"
	MeshTrust                resource.Type = "MeshTrust"
	MeshZoneAddress          resource.Type = "MeshZoneAddress"
	Secret                   resource.Type = "Secret"
	ServiceInsight           resource.Type = "ServiceInsight"
	Workload                 resource.Type = "Workload"
	Zone                     resource.Type = "Zone"
	ZoneInsight              resource.Type = "ZoneInsight"
)

// All lists the kinds, each made anew, for resource.NewKinds.
func All() []*resource.Kind {
	return []*resource.Kind{
		configKind(),
		containerPatchKind(),
		dataplaneKind(),
		dataplaneInsightKind(),
		globalSecretKind(),
		hostnameGeneratorKind(),
		meshKind(),
		meshExternalServiceKind(),
		meshIdentityKind(),
		meshInsightKind(),
		meshMultiZoneServiceKind(),
		meshOpenTelemetryBackendKind(),
		meshServiceKind(),
		meshTrustKind(),
		meshZoneAddressKind(),
		noticeKind(),
		secretKind(),
		serviceInsightKind(),
		webhookKind(),
		workloadKind(),
		zoneKind(),
		zoneInsightKind(),
		zoneLinkKind(),
		zoneProbeKind(),
		zoneTrafficKind(),
	}
}

// requireLabelName is the rule of names that become part of a host name.
func requireLabelName(errs *resource.FieldErrors, name string) {
	if !resource.IsDNS1035Label(name) {
		errs.Add("name", "must be an RFC 1035 label: at most 63 lower case letters, digits or '-', starting with a letter and not ending with '-'")
	}
}
