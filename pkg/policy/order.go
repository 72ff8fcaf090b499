package policy

import (
	"cmp"
	"strings"

	"github.com/atoll-mesh/atoll/pkg/resource"
)

// Values of the label kuma.io/policy-role. No label means system.
const (
	RoleSystem        = "system"
	RoleProducer      = "producer"
	RoleConsumer      = "consumer"
	RoleWorkloadOwner = "workload-owner"
)

// EffectShadow, as the label kuma.io/effect, keeps a policy from being applied
// except where the caller asks what it would do.
const EffectShadow = "shadow"

func kindRank(k resource.Type) int {
	switch k {
	case Mesh:
		return 1
	case Dataplane:
		return 2
	case MeshService:
		return 5
	case MeshExternalService:
		return 6
	case MeshMultiZoneService:
		return 7
	case MeshHTTPRoute:
		return 9
	}
	return 0
}

func originRank(origin string) int {
	switch origin {
	case resource.OriginGlobal:
		return 1
	case resource.OriginZone:
		return 3
	}
	return 2
}

func roleRank(role string) int {
	switch role {
	case RoleSystem:
		return 1
	case RoleProducer:
		return 2
	case RoleConsumer:
		return 3
	case RoleWorkloadOwner:
		return 4
	}
	return 0
}

func boolRank(b bool) int {
	if b {
		return 1
	}
	return 0
}

// compareReach compares what a policy selects and who wrote it, ascending: the
// later one wins. It decides before anything an item says.
func compareReach(a, b *parsed) int {
	return cmp.Or(
		cmp.Compare(kindRank(a.target.Kind), kindRank(b.target.Kind)),
		cmp.Compare(boolRank(a.target.SectionName != ""), boolRank(b.target.SectionName != "")),
		cmp.Compare(originRank(a.obj.Labels[resource.LabelOrigin]), originRank(b.obj.Labels[resource.LabelOrigin])),
		cmp.Compare(roleRank(a.role), roleRank(b.role)),
	)
}

// compareNames is descending, so that the smallest display name wins. Zone,
// namespace and stored name make the order total: the same policies are merged
// in the same order everywhere and always.
func compareNames(a, b *parsed) int {
	return cmp.Or(
		strings.Compare(b.obj.DisplayName(), a.obj.DisplayName()),
		strings.Compare(b.obj.Zone(), a.obj.Zone()),
		strings.Compare(b.obj.Namespace(), a.obj.Namespace()),
		strings.Compare(b.obj.Name, a.obj.Name),
	)
}

// comparePolicies is the order in which confs of spec.default are merged.
func comparePolicies(a, b *parsed) int {
	return cmp.Or(compareReach(a, b), compareNames(a, b))
}

// compareTo is the order in which items of spec.to are merged. A port of a
// MeshService beats the whole service whoever is named first; of a
// MeshMultiZoneService names decide.
func compareTo(a, b *toEntry) int {
	section := func(e *toEntry) int { return boolRank(e.ref.Kind == MeshService && e.ref.SectionName != "") }
	return cmp.Or(
		compareReach(a.p, b.p),
		cmp.Compare(kindRank(a.ref.Kind), kindRank(b.ref.Kind)),
		cmp.Compare(section(a), section(b)),
		compareNames(a.p, b.p),
		cmp.Compare(a.index, b.index),
	)
}

// compareRules is the order of inbound rules: the special before the general,
// and among equals in the order in which they are merged.
func compareRules(a, b *ruleEntry) int {
	return cmp.Or(
		-cmp.Compare(a.match.rank(), b.match.rank()),
		comparePolicies(a.p, b.p),
		cmp.Compare(a.index, b.index),
		cmp.Compare(a.matchIndex, b.matchIndex),
	)
}
