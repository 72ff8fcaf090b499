// Package policy is the engine of policies: which ones select a proxy, which
// wins, what their merged configuration is for each destination and inbound,
// and where references to backends lead. The policies themselves are in the
// folders below, one each, and are handed in as a list of Defs.
//
// Everything here is a pure function of its arguments. The work is split by
// what it depends on:
//
//	NewIndex      all policies of a mesh            once per change of policies
//	Index.Match   + one proxy                       microseconds per proxy
//	BuildOutbound + destinations                    once per audience
//	Outbound, Cluster, Inbound                      once per listener or cluster
package policy
