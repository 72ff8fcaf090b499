package config

import "strings"

// inertKeys are keys of the reference that change nothing here, with the reason for
// the warning. Those that are in the tree as well can be set, and are shown with
// the others; nothing reads them.
var inertKeys = map[string]string{
	"store.cache":                                          "reads come from an immutable snapshot in memory; there is no cache to tune",
	"store.upsert":                                         "conflicting writes are retried at once against the newest version",
	"store.postgres.driverName":                            "there is one driver",
	"store.postgres.maxIdleConnections":                    "the pool is bounded by maxOpenConnections and minOpenConnections",
	"store.postgres.maxListQueryElements":                  "lists do not query the database",
	"store.postgres.readReplica":                           "reads do not query the database",
	"eventBus":                                             "changes are read from the log; there is no bus",
	"xdsServer.dataplaneConfigurationRefreshInterval":      "proxies are updated when something changes, not by time",
	"xdsServer.nackBackoff":                                "rejected versions are remembered, not retried",
	"xdsServer.policyMatchingCacheSize":                    "matching is shared and not cached by size",
	"multizone.global.kds.eventBasedWatchdog":              "zones are updated when something changes, not by time",
	"multizone.zone.kds.eventBasedWatchdog":                "the global is updated when something changes, not by time",
	"multizone.global.kds.msgSendTimeout":                  "flow control ends streams that do not read",
	"multizone.zone.kds.msgSendTimeout":                    "flow control ends streams that do not read",
	"multizone.global.kds.nackBackoff":                     "rejected resources are retried by the receiver",
	"multizone.zone.kds.nackBackoff":                       "rejected resources are retried by the receiver",
	"multizone.global.kds.responseBackoff":                 "messages are bounded by size",
	"multizone.zone.kds.responseBackoff":                   "messages are bounded by size",
	"multizone.global.kds.logPayloads":                     "payloads are never logged",
	"multizone.zone.kds.logPayloads":                       "payloads are never logged",
	"multizone.global.kds.tracing":                         "there is no tracing yet",
	"dpServer.authn.enableReloadableTokens":                "tokens are checked again on every stream",
	"dpServer.hds":                                         "workloads are probed where an inbound has a serviceProbe, with the defaults of the reference",
	"monitoringAssignmentServer.assignmentRefreshInterval": "assignments follow changes, not time",
	"ipam.allocationInterval":                              "addresses are given when a service appears",
	"meshService.generationInterval":                       "services are generated when a Dataplane changes",
	"coreResources.status":                                 "statuses are written when something changes",
	"runtime.universal.workload":                           "workloads are generated when a Dataplane changes",
	"runtime.kubernetes":                                   "Kubernetes is not supported yet",
	"general.dnsCacheTTL":                                  "nothing is resolved by the control plane",
	"general.certGenerationBaseBackoff":                    "certificates are made when they are due",
	"general.certGenerationMaxBackoff":                     "certificates are made when they are due",
	"general.certGenerationCircuitBreakerMinProxies":       "certificates are made when they are due",
	"metrics.zone.compactFinishedSubscriptions":            "finished subscriptions are always compact",
	"metrics.mesh":                                         "insights follow changes and are not recomputed by time",
	"metrics.openTelemetry":                                "there is no OpenTelemetry export yet",
	"tracing":                                              "there is no tracing yet",
	"reports":                                              "nothing is ever reported to anybody",
	"experimental":                                         "there are no experimental settings",
	"general.resilientComponentBaseBackoff":                "each part has pauses of its own",
	"general.resilientComponentMaxBackoff":                 "each part has pauses of its own",
	"store.kubernetes":                                     "Kubernetes is not supported yet",
	"apiServer.gui":                                        "there is no web application yet",
	"multizone.global.kds.zoneHealthCheck.timeout":         "zones that answer no keepalive are cut off within ten seconds",
	"multizone.global.kds.zoneHealthCheck.closeStaleConn":  "zones that answer no keepalive are cut off within ten seconds",
	"dpServer.authn.zoneProxy.type":                        "zone proxies are Dataplanes, and prove who they are as dpServer.authn.dpProxy.type says",
	"xdsServer.dataplaneStatusFlushInterval":               "insights are written when something changes",
	"dnsServer":                                            "names come from HostnameGenerators, and addresses from ipam",
	"meshService.labelPropagation":                         "labels of Dataplanes are not copied to services yet",
	"coreResources.enabled":                                "all kinds are there",
	"policies":                                             "all policies are there",
	"defaults.skipTenantResources":                         "there are no tenants",
	"metrics.dataplane":                                    "insights of proxies keep two connections",
	"metrics.zone":                                         "insights of zones keep ten connections",
	"metrics.controlPlane":                                 "resources are counted when somebody reads the metrics",
	"monitoringAssignmentServer.apiVersions":               "v1 is the one there is",
	"runtime.universal.spire":                              "agents know where their SPIRE agent is",
	"interCp.catalog.instanceVersion":                      "the version is known",
	"interCp.catalog.heartbeatInterval":                    "replicas find each other by leases in the store",
	"interCp.catalog.writerInterval":                       "replicas find each other by leases in the store",
	"interCp.server.tlsMinVersion":                         "replicas always use TLS 1.3",
	"interCp.server.tlsMaxVersion":                         "replicas always use TLS 1.3",
	"interCp.server.tlsCipherSuites":                       "replicas always use TLS 1.3",
}

// inert tells why a key of the reference, or one of its parents, does nothing.
func inert(path string) (reason string, ok bool) {
	for p := path; p != ""; {
		if reason, ok = inertKeys[p]; ok {
			return reason, true
		}
		i := strings.LastIndexByte(p, '.')
		if i < 0 {
			break
		}
		p = p[:i]
	}
	return "", false
}
