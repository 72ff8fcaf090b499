package kds

import core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

// Features that peers state, in the header "features" or in the metadata of the
// node. All but featureAtoll are the reference's.
const (
	featurePingHealth         = "zone-ping-health"
	featureHashSuffix         = "hash-suffix"
	featureZoneToken          = "zone-token"
	featureMultiZoneHostnames = "hg-mz-selector"
	featureProducerFlow       = "producer-policy-flow"
	// featureAtoll marks a peer that keeps what it has when a first response is
	// cut into chunks, reads details of rejections, and verifies dataplane tokens
	// with public keys.
	featureAtoll = "atoll-v1"
)

// Headers of requests, and the two that an Atoll global answers with.
const (
	headerClientID  = "client-id"
	headerFeatures  = "features"
	headerVersion   = "version"
	headerAuth      = "authorization"
	headerClusterID = "atoll-cluster-id"
	headerRevision  = "atoll-revision"
)

type features map[string]bool

func (f features) add(list ...string) {
	for _, s := range list {
		f[s] = true
	}
}

// addNode adds the features in the metadata of a node.
func (f features) addNode(n *core.Node) {
	for _, v := range n.GetMetadata().GetFields()["features"].GetListValue().GetValues() {
		f[v.GetStringValue()] = true
	}
}
