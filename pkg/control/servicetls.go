package control

import (
	"iter"
	"maps"
	"slices"

	"github.com/atoll-mesh/atoll/pkg/identity"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// securing reads the identities of meshes, each once per pass.
type securing struct {
	p      *pass
	site   resource.Site
	meshes map[string]*identity.Mesh
}

func newSecuring(p *pass, site resource.Site) *securing {
	return &securing{p: p, site: site, meshes: map[string]*identity.Mesh{}}
}

func (s *securing) of(mesh string) *identity.Mesh {
	m := s.meshes[mesh]
	if m == nil {
		m = identity.NewMesh(s.site, s.p.now, mesh)
		s.meshes[mesh] = m
	}
	return m
}

// changed yields the meshes whose identities or trust may have changed.
func (s *securing) changed() iter.Seq[string] {
	seen := map[string]bool{}
	for _, t := range []resource.Type{kind.MeshIdentity, kind.MeshTrust} {
		for id := range s.p.touched(t) {
			seen[id.Mesh] = true
		}
	}
	return maps.Keys(seen)
}

// secure states which identities the proxies of a service may present, and
// whether clients are to use mutual TLS. Both follow from which proxies belong
// to the service and not from whether they are there: when the last one goes, for
// a moment or in a failover, clients keep the connections that they have. And
// once clients use TLS they do for as long as the mesh has an identity.
func (s *securing) secure(mesh string, members []*resource.Object, spec *kind.MeshServiceSpec, status *kind.MeshServiceStatus) {
	m := s.of(mesh)
	if !m.Any() {
		spec.Identities, status.TLS.Status = nil, kind.TLSNotReady
		return
	}
	ids := map[string]bool{}
	ready := true
	for _, dp := range members {
		for i := range m.Matching(&dp.Meta) {
			if id, err := i.SpiffeID(&dp.Meta); err == nil && i.Published {
				ids[id] = true
			}
		}
		ready = ready && authenticates(m, &dp.Meta)
	}
	if len(members) > 0 {
		spec.Identities = nil
		for _, id := range slices.Sorted(maps.Keys(ids)) {
			spec.Identities = append(spec.Identities, kind.ServiceIdentity{Type: "SpiffeID", Value: id})
		}
	}
	if ready {
		status.TLS.Status = kind.TLSReady
	}
}

// authenticates tells whether a proxy presents a certificate that others trust.
func authenticates(m *identity.Mesh, dp *resource.Meta) bool {
	i := m.Of(dp)
	if i == nil || !i.Ready {
		return false
	}
	if _, err := i.SpiffeID(dp); err != nil {
		return false
	}
	domain, err := i.TrustDomain()
	return err == nil && (i.Spire || m.Trusts(domain) != nil)
}
