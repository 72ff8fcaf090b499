package compile

import (
	"slices"
	"time"

	"github.com/atoll-mesh/atoll/pkg/ir"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/policy"
)

// How a client notices by itself that who it calls is gone.
const (
	// meshConnectTimeout bounds connecting to a proxy, with its TLS handshake: two
	// seconds are many round trips, and leave time for another try.
	meshConnectTimeout = 2 * time.Second
	// A connection to another zone is asked often whether it is alive: its other
	// end may hang without that anybody else notices. Any frame counts as an
	// answer, so that a busy connection is not closed for being slow.
	acrossInterval, acrossTimeout = 500 * time.Millisecond, time.Second
	// Within the zone, where there are many more connections, less often.
	withinInterval, withinTimeout = 5 * time.Second, 2 * time.Second
	// A host that is gone is found by the kernel within about ten seconds. A
	// process that hangs is not: its kernel goes on to answer.
	hostIdle, hostInterval, hostProbes = 5 * time.Second, 2 * time.Second, 3
	hostSilence                        = 10 * time.Second
	// Retries may be a fifth of the requests that are under way, and retrySlots
	// where those are few: more than what is cut off at once when all that serves
	// some hundred requests a second dies.
	retryPercent, retrySlots = 20, 100
	// stayOverprovisioning keeps traffic in a priority, which is the own zone, as
	// long as half of its endpoints are there.
	stayOverprovisioning = 200
)

// crosses tells whether connections to a destination may leave the zone. It
// follows from what the destination is, not from where it has endpoints now:
// another answer would replace the cluster, with all of its connections.
func crosses(d policy.Dest) bool {
	return d.Kind == kind.MeshMultiZoneService || d.Kind == kind.MeshService && !d.Local
}

// attentive makes a cluster notice at once what goes away. Policies come after
// it.
func attentive(d policy.Dest, c *ir.Cluster) {
	c.Limits.RetryShare = &ir.RetryShare{Percent: retryPercent, Least: retrySlots}
	switch {
	case d.Kind == kind.MeshExternalService:
		return // its egress stands between
	case crosses(d):
		c.KeepAlive = &ir.KeepAlive{Interval: acrossInterval, Timeout: acrossTimeout}
	default:
		c.KeepAlive = &ir.KeepAlive{Interval: withinInterval, Timeout: withinTimeout}
	}
	c.ConnectTimeout = new(meshConnectTimeout)
	if d.Port.Protocol == ir.TCP {
		// Nobody knows when an answer is due, so that only the kernel can tell.
		c.Watch = &ir.Watch{Idle: hostIdle, Interval: hostInterval, Probes: hostProbes, Unacknowledged: hostSilence}
		c.CloseOnFailure = true
	}
}

// onePriority spares routes the search for other priorities where there are none:
// only a service of several zones has them.
func onePriority(o *policy.Outbound) {
	if o.Routes == nil {
		return
	}
	several := map[string]bool{}
	for _, d := range o.Backends {
		several[d.Name()] = d.Kind == kind.MeshMultiZoneService
	}
	for _, r := range o.Routes.Routes {
		if r.Forward != nil && r.Forward.Retry != nil && !slices.ContainsFunc(r.Forward.Clusters, func(c ir.WeightedRef) bool { return several[c.Cluster] }) {
			r.Forward.Retry.PreviousPriorities = 0
		}
	}
}
