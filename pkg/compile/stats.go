package compile

import "sync/atomic"

// Stats are counts since the start, and gauges of the moment.
type Stats struct {
	Proxies, Audiences, Rows int64 // gauges: attached, shared layers, ports with endpoints

	PoliciesIndexed   uint64 // policies of a mesh were read
	Matches           uint64 // a proxy was matched with policies
	OwnCompiled       uint64 // layers of single proxies
	AudiencesCompiled uint64 // layers of audiences
	AudiencesFollowed uint64 // of them, by what differed only
	OutboundsCompiled uint64 // listeners with their routes, for all audiences
	ClustersCompiled  uint64
	EndpointsCompiled uint64 // of one port
	Published         uint64 // Sets given to proxies
	Certificates      uint64 // issued or taken back

	// Everything was compiled anew, because the engine was too far behind, or
	// because the store had gone back in time. Not near zero is a fault.
	FullLagged, FullRestored uint64

	Bugs               uint64 // panics while compiling; must be zero
	Checks, Mismatches uint64 // see CheckOne; mismatches must be zero
}

type counters struct {
	proxyCount, audienceCount, rowCount atomic.Int64

	policiesIndexed, matches, ownCompiled, audiencesCompiled, audiencesFollowed atomic.Uint64
	outboundsCompiled, clustersCompiled, endpointsCompiled                      atomic.Uint64
	published, fullLagged, fullRestored, bugs                                   atomic.Uint64
	checks, mismatches, certificates                                            atomic.Uint64
}

// Stats may be called at any time, by anybody.
func (e *Engine) Stats() Stats {
	c := &e.counters
	return Stats{
		Proxies: c.proxyCount.Load(), Audiences: c.audienceCount.Load(), Rows: c.rowCount.Load(),
		PoliciesIndexed: c.policiesIndexed.Load(), Matches: c.matches.Load(), OwnCompiled: c.ownCompiled.Load(),
		AudiencesCompiled: c.audiencesCompiled.Load(), AudiencesFollowed: c.audiencesFollowed.Load(), OutboundsCompiled: c.outboundsCompiled.Load(),
		ClustersCompiled: c.clustersCompiled.Load(), EndpointsCompiled: c.endpointsCompiled.Load(),
		Published: c.published.Load(), FullLagged: c.fullLagged.Load(), FullRestored: c.fullRestored.Load(),
		Bugs: c.bugs.Load(), Checks: c.checks.Load(), Mismatches: c.mismatches.Load(),
		Certificates: c.certificates.Load(),
	}
}

// gauges states the sizes of what the engine holds. Its goroutine calls it.
func (e *Engine) gauges() {
	e.proxyCount.Store(int64(len(e.proxies)))
	e.audienceCount.Store(int64(len(e.audiences)))
	e.rowCount.Store(int64(len(e.rows)))
}
