package policy

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/atoll-mesh/atoll/pkg/resource"
)

// Destination is what traffic can be sent to, as policies see it. Equal
// destinations must be described equally; it is never modified.
type Destination struct {
	ID      resource.ID // as it is stored; zero for who needs no way back
	Kind    resource.Type
	KRI     resource.KRI // without section
	Labels  map[string]string
	Created time.Time
	Local   bool // of the zone that compiles
	Ports   []resource.Port
}

// Dest is one port of a destination. Its Port is one of Destination.Ports.
type Dest struct {
	*Destination
	Port resource.Port
}

// Name is the KRI with the port, which names the listener, the cluster, the
// routes and the endpoints of the destination.
func (d Dest) Name() string { return d.KRI.WithSection(d.Port.Section).String() }

// Matches compares labels as selectors of policies do: the display name also
// when there is no label for it.
func (d *Destination) Matches(selector map[string]string) bool {
	for k, v := range selector {
		if k == resource.LabelDisplayName {
			if d.KRI.Name != v {
				return false
			}
			continue
		}
		if got, ok := d.Labels[k]; !ok || got != v {
			return false
		}
	}
	return true
}

// Resolver finds destinations. Compile implements it over a view.Reader, so
// that what was looked for, found or not, is recorded.
type Resolver interface {
	// Candidates returns the destinations of one kind in the mesh that Match the
	// selector, which is not empty, in any order.
	Candidates(kind resource.Type, selector map[string]string) []*Destination
}

// ResolveBackend finds the port of a destination that a reference means. owner
// is the policy that holds the reference, nil for references of a Dataplane.
// Where several destinations match, the one of the own zone comes first, then
// the oldest. ok is false when there is no such destination or port.
func ResolveBackend(res Resolver, ref BackendRef, owner *resource.Object) (d Dest, ok bool) {
	if !slices.Contains(backendKinds, ref.Kind) || len(ref.Labels) == 0 {
		return Dest{}, false
	}
	found := candidates(res, ref, owner)
	if len(found) == 0 {
		return Dest{}, false
	}
	best := slices.MinFunc(found, func(a, b *Destination) int {
		return cmp.Or(
			-cmp.Compare(boolRank(a.Local), boolRank(b.Local)),
			a.Created.Compare(b.Created),
			strings.Compare(a.KRI.String(), b.KRI.String()),
		)
	})
	port, ok := best.port(ref)
	return Dest{Destination: best, Port: port}, ok
}

// candidates looks in the namespace of the policy first when the reference
// gives none. A policy of the system namespace has no services beside it and
// then means those of every namespace.
func candidates(res Resolver, ref BackendRef, owner *resource.Object) []*Destination {
	_, named := ref.Labels[resource.LabelDisplayName]
	_, placed := ref.Labels[resource.LabelNamespace]
	if owner != nil && owner.Namespace() != "" && named && !placed {
		labels := maps.Clone(ref.Labels)
		labels[resource.LabelNamespace] = owner.Namespace()
		found := res.Candidates(ref.Kind, labels)
		role := owner.Labels[resource.LabelPolicyRole]
		if len(found) > 0 || role != "" && role != RoleSystem {
			return found
		}
	}
	return res.Candidates(ref.Kind, ref.Labels)
}

// port finds the port by section, which is a name or a number, or by number.
// Without either the destination must have just one port. Every way of naming
// a port leads to the same Port. An external service has one port, which is
// meant whatever the reference says.
func (d *Destination) port(ref BackendRef) (resource.Port, bool) {
	section := ref.SectionName
	if section == "" && ref.Port != nil && *ref.Port > 0 {
		section = strconv.FormatUint(uint64(*ref.Port), 10)
	}
	for _, p := range d.Ports {
		if section != "" && p.Section == section {
			return p, true
		}
	}
	for _, p := range d.Ports {
		if section != "" && strconv.FormatUint(uint64(p.Number), 10) == section {
			return p, true
		}
	}
	if len(d.Ports) == 1 && (section == "" || d.Kind == MeshExternalService) {
		return d.Ports[0], true
	}
	return resource.Port{}, false
}
