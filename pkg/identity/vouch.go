package identity

import (
	"fmt"

	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// claim is how well a zone is entitled to a trust domain.
type claim uint8

const (
	unclaimed claim = iota
	byZone          // an identity that was made in the zone has it
	byGlobal        // an identity that the global gave the zone has it
)

// MayVouch refuses a MeshTrust of a zone in a trust domain that is another
// zone's: with it, the zone could pass its own proxies for those of the other
// one. A domain that several zones are equally entitled to is shared by them; one
// that nobody is entitled to is nobody's. src is of the global. Resources of
// other kinds are let through.
func MayVouch(src Source, zone string, trust *resource.Object) error {
	if trust.Type != kind.MeshTrust {
		return nil
	}
	domain := resource.SpecOf[kind.MeshTrustSpec](trust).TrustDomain
	own := claimOf(src, trust.Mesh, domain, zone)
	for z := range src.List(kind.Zone, "") {
		if z.Name != zone && claimOf(src, trust.Mesh, domain, z.Name) > own {
			return fmt.Errorf("spec.trustDomain: %s is the trust domain of zone %s; zone %s may vouch for its own only", domain, z.Name, zone)
		}
	}
	return nil
}

func claimOf(src Source, mesh, domain, zone string) claim {
	best := unclaimed
	for o := range src.List(kind.MeshIdentity, mesh) {
		by := byGlobal
		if o.Labels[resource.LabelOrigin] == resource.OriginZone {
			if by = byZone; o.Zone() != zone {
				continue
			}
		}
		if t, err := newTemplates(resource.Site{Zone: zone}, o); err == nil && t.trustDomain == domain {
			best = max(best, by)
		}
	}
	return best
}
