package rest

import (
	"cmp"
	"encoding/json"
	"iter"
	"net/http"
	"slices"

	meshv1 "github.com/atoll-mesh/atoll/api/kuma/mesh/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/policy"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/view"
)

// destinationOf describes what can be called as policies see it.
func destinationOf(site resource.Site, o *resource.Object) *policy.Destination {
	zone := o.Zone()
	return &policy.Destination{
		Kind: o.Type, KRI: o.KRI(), Labels: o.Labels, Created: o.Created, Ports: o.Kind.Ports(o),
		Local: !site.Global && site.LocallyOriginated(o.Labels) && (zone == "" || zone == site.Zone),
	}
}

// destinations yields all of a mesh.
func (a *API) destinations(s rows, mesh string) iter.Seq[*policy.Destination] {
	return func(yield func(*policy.Destination) bool) {
		for k := range a.Kinds.All() {
			if k.Ports == nil {
				continue
			}
			for o := range s.List(k.Type, mesh) {
				if !yield(destinationOf(a.Site, o)) {
					return
				}
			}
		}
	}
}

// resolver finds destinations of a mesh for references.
type resolver struct {
	site resource.Site
	s    *view.Snapshot
	mesh string
}

// Candidates implements policy.Resolver.
func (x resolver) Candidates(t resource.Type, selector map[string]string) []*policy.Destination {
	var out []*policy.Destination
	for o := range x.s.List(t, x.mesh) {
		if o.Kind.Ports == nil {
			return nil
		}
		if o.Matches(selector) {
			out = append(out, destinationOf(x.site, o))
		}
	}
	return out
}

type layoutPort struct {
	KRI      string `json:"kri"`
	Port     uint32 `json:"port"`
	Protocol string `json:"protocol"`
	Name     string `json:"proxyResourceName"`
}

type layoutListener struct {
	KRI  string `json:"kri"`
	Type string `json:"type"`
	Port uint32 `json:"port"`
	Name string `json:"proxyResourceName"`
}

// layout is what a proxy listens on and what it can call.
func (a *API) layout(p *inspected, _ *http.Request) (any, error) {
	n, kri := kind.NetworkingOf(p.dp), p.dp.KRI()
	inbounds, listeners := []layoutPort{}, []layoutListener{}
	for _, in := range n.GetInbound() {
		section := kind.InboundSection(in)
		inbounds = append(inbounds, layoutPort{
			kri.WithSection(section).String(), in.GetPort(), kind.NormalProtocol(in.GetProtocol()), "self_inbound_dp_" + section,
		})
	}
	for _, l := range n.GetListeners() {
		section, what := kind.ListenerSection(l), "self_zoneegress_dp_"
		if l.GetType() == meshv1.Dataplane_Networking_Listener_ZoneIngress {
			what = "self_zoneingress_dp_"
		}
		listeners = append(listeners, layoutListener{kri.WithSection(section).String(), l.GetType().String(), l.GetPort(), what + section})
	}
	spiffeID := ""
	if a.SpiffeID != nil {
		spiffeID = a.SpiffeID(p.s, p.dp)
	}
	labels := p.dp.Labels
	if labels == nil {
		labels = map[string]string{}
	}
	return struct {
		KRI       string            `json:"kri"`
		Labels    map[string]string `json:"labels"`
		Inbounds  []layoutPort      `json:"inbounds"`
		Outbounds []layoutPort      `json:"outbounds"`
		Listeners []layoutListener  `json:"listeners"`
		SpiffeID  string            `json:"spiffeId,omitempty"`
	}{kri.String(), labels, inbounds, p.outbounds(), listeners, spiffeID}, nil
}

// outbounds lists what the Dataplane names, or else all that it can reach.
func (p *inspected) outbounds() []layoutPort {
	n := kind.NetworkingOf(p.dp)
	found := map[string]layoutPort{}
	add := func(d policy.Dest) {
		if o := p.s.ByKRI(d.KRI); o == nil || p.seen.Get(o.ID) == nil {
			return
		}
		found[d.Name()] = layoutPort{d.Name(), d.Port.Number, d.Port.Protocol, d.Name()}
	}
	x := resolver{p.api.Site, p.s, p.dp.Mesh}
	reachable := n.GetTransparentProxying().GetReachableBackends()
	switch {
	case len(n.GetOutbound()) > 0:
		for _, o := range n.GetOutbound() {
			b := o.GetBackendRef()
			ref := policy.BackendRef{TargetRef: policy.TargetRef{Kind: resource.Type(b.GetKind()), Labels: named(b.GetName(), "", b.GetLabels())}}
			if port := b.GetPort(); port != 0 {
				ref.Port = &port
			}
			if d, ok := policy.ResolveBackend(x, ref, nil); ok {
				add(d)
			}
		}
	case reachable != nil:
		for _, r := range reachable.GetRefs() {
			namespace := r.GetNamespace()
			if namespace == "" && resource.Type(r.GetKind()) == kind.MeshService {
				namespace = p.dp.Namespace()
			}
			for _, d := range x.Candidates(resource.Type(r.GetKind()), named(r.GetName(), namespace, r.GetLabels())) {
				for _, port := range d.Ports {
					if want := r.GetPort().GetValue(); want == 0 || want == port.Number {
						add(policy.Dest{Destination: d, Port: port})
					}
				}
			}
		}
	default:
		for d := range p.api.destinations(p.seen, p.dp.Mesh) {
			for _, port := range d.Ports {
				add(policy.Dest{Destination: d, Port: port})
			}
		}
	}
	out := make([]layoutPort, 0, len(found))
	for _, o := range found {
		out = append(out, o)
	}
	slices.SortFunc(out, func(a, b layoutPort) int { return cmp.Compare(a.KRI, b.KRI) })
	return out
}

// named is the selector of a reference by name or by labels.
func named(name, namespace string, labels map[string]string) map[string]string {
	if name == "" {
		return labels
	}
	out := map[string]string{resource.LabelDisplayName: name}
	if namespace != "" {
		out[resource.LabelNamespace] = namespace
	}
	return out
}

// rawHead is the metadata of a resource as its own JSON begins.
func rawHead(o *resource.Object) json.RawMessage { return resource.HeadOf(o, o.Type) }
