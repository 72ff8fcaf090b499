package compile

import (
	"encoding/json"
	"slices"

	"github.com/zeebo/xxh3"

	mesh_proto "github.com/atoll-mesh/atoll/api/kuma/mesh/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/policy"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

type digest = [16]byte

// shape is all that outbounds take from a proxy itself. Proxies of a mesh with
// equal shapes and equal outbound policies share an audience, so nothing that
// identifies one proxy may be part of it.
type shape struct {
	// Virtual: one listener per destination at its virtual addresses. Otherwise
	// exactly the listeners in Explicit.
	Virtual  bool               `json:"virtual,omitempty"`
	NoBind   bool               `json:"noBind,omitempty"` // reached by redirection only
	IPv6     bool               `json:"ipv6,omitempty"`
	All      bool               `json:"all,omitempty"` // every destination of the mesh is reachable
	Refs     []reference        `json:"refs,omitempty"`
	Explicit []explicitOutbound `json:"explicit,omitempty"`
	Gates    []gate             `json:"gates,omitempty"`
	Facts    *policy.Facts      `json:"facts,omitempty"`    // of a zone proxy
	SystemCA string             `json:"systemCA,omitempty"` // of a proxy with an egress
}

// reference names destinations by name or by labels.
type reference struct {
	Kind      resource.Type     `json:"kind"`
	Name      string            `json:"name,omitempty"`
	Namespace string            `json:"namespace,omitempty"`
	Labels    map[string]string `json:"labels,omitempty"`
	Port      uint32            `json:"port,omitempty"`
}

type explicitOutbound struct {
	Address string    `json:"address"`
	Port    uint32    `json:"port"`
	Backend reference `json:"backend"`
}

func shapeOf(info *ProxyInfo, dp *resource.Object) *shape {
	n := kind.NetworkingOf(dp)
	redirect := info.redirection(n)
	s := &shape{IPv6: info.IPv6, Gates: gatesOf(info, dp.Zone(), n)}
	if len(s.Gates) > 0 {
		s.Facts = factsOf(info, dp, n, redirect)
	}
	if slices.ContainsFunc(s.Gates, func(g gate) bool { return g.Egress }) {
		s.SystemCA = info.SystemCA
	}
	bind := info.has(FeatureBindOutbounds)
	if !bind && (redirect == nil || redirect.OutboundPort == 0) {
		for _, o := range n.GetOutbound() {
			s.Explicit = append(s.Explicit, explicitOf(o))
		}
		return s
	}
	s.Virtual, s.NoBind = true, !bind
	reachable := n.GetTransparentProxying().GetReachableBackends()
	s.All = reachable == nil
	for _, r := range reachable.GetRefs() {
		ref := reference{
			Kind: resource.Type(r.GetKind()), Name: r.GetName(), Namespace: r.GetNamespace(),
			Labels: r.GetLabels(), Port: r.GetPort().GetValue(),
		}
		if ref.Name != "" && ref.Namespace == "" && ref.Kind == kind.MeshService {
			ref.Namespace = dp.Namespace()
		}
		s.Refs = append(s.Refs, ref)
	}
	return s
}

func explicitOf(o *mesh_proto.Dataplane_Networking_Outbound) explicitOutbound {
	b := o.GetBackendRef()
	e := explicitOutbound{
		Address: o.GetAddress(), Port: o.GetPort(),
		Backend: reference{Kind: resource.Type(b.GetKind()), Name: b.GetName(), Labels: b.GetLabels(), Port: b.GetPort()},
	}
	if e.Address == "" {
		e.Address = "127.0.0.1"
	}
	return e
}

// selector is what labels a destination must have to be meant.
func (r *reference) selector() map[string]string {
	if r.Name == "" {
		return r.Labels
	}
	labels := map[string]string{resource.LabelDisplayName: r.Name}
	if r.Namespace != "" {
		labels[resource.LabelNamespace] = r.Namespace
	}
	return labels
}

// digest identifies the shape.
func (s *shape) digest() digest {
	b, err := json.Marshal(s) // maps in order of their keys
	if err != nil {
		panic("a shape cannot be encoded: " + err.Error())
	}
	return xxh3.Hash128(b).Bytes()
}

// destinations of a reference with a port that does not exist are not meant.
func (r *reference) wants(number uint32) bool { return r.Port == 0 || r.Port == number }

func (s *shape) wants(refs []int, number uint32) bool {
	return s.All || slices.ContainsFunc(refs, func(i int) bool { return s.Refs[i].wants(number) })
}
