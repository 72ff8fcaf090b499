package explain

import (
	"slices"

	"github.com/atoll-mesh/atoll/pkg/ir"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/topology"
)

// refusal is what the Envoy of a server does not take.
type refusal struct {
	server string
	kind.Rejection
}

// refused notes what the Envoy of a server refuses of the inbound that is called.
func (w *walk) refused(e topology.Endpoint, server string, own *ir.Config) {
	var ours []string
	for _, l := range own.Listeners {
		if l.Address != e.Address || l.Port != e.Port {
			continue
		}
		ours = append(ours, l.Name) // routes and cluster are called the same
	}
	for _, r := range kind.RejectionsOf(w.insight(e.Proxy)) {
		if slices.Contains(ours, r.Resource) {
			w.refusals = append(w.refusals, refusal{server, r})
		}
	}
}

// rejections tells what of all this an Envoy does not take: that of the caller, or
// those of the servers.
func (w *walk) rejections() bool {
	ours := append(w.clusters(), w.name)
	found := false
	tell := func(whose, policies string, r kind.Rejection) {
		found = true
		st := w.add("rejection", Broken, "%s refuses %s %s and goes on with what it had: %s", whose, r.Type, r.Resource, r.Error)
		for _, kri := range r.Policies {
			st.detail("perhaps because of %s", w.named(kri))
		}
		st.fix("change what Envoy names; it was probably one of the policies %s", policies)
	}
	for _, r := range kind.RejectionsOf(w.insight(w.dp.ID)) {
		if slices.Contains(ours, r.Resource) {
			tell("the caller's Envoy", "above", r)
		}
	}
	for _, r := range w.refusals {
		tell("the Envoy of "+r.server, "that are named here", r.Rejection)
	}
	if !found {
		w.add("rejection", OK, "no Envoy on the way refuses anything of this")
	}
	return true
}
