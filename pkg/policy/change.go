package policy

import (
	"maps"
	"slices"

	"github.com/atoll-mesh/atoll/pkg/resource"
)

// OutboundChange is where two lists of policies about outbounds may differ in what
// they say. What it does not name has the same policies with the same digests, so
// that whoever knows the rules of one list need not look at all destinations for
// the other.
type OutboundChange struct {
	// All: every destination may be concerned.
	All bool
	// Refs are the destinations that are concerned, by kind and labels.
	Refs []TargetRef
	// Routes are the route policies of whose routes something else is said.
	Routes []resource.KRI
}

// Empty reports that nothing differs.
func (c *OutboundChange) Empty() bool { return !c.All && len(c.Refs)+len(c.Routes) == 0 }

// OutboundChange tells what m says about outbounds otherwise than before did. Both
// are of one mesh and made with the same definitions of policies.
func (m *Matched) OutboundChange(before *Matched) OutboundChange {
	was, is := before.out, m.out
	var c OutboundChange
	switch {
	case was == is && maps.Equal(before.client(), m.client()):
		return c
	case len(was.ix.defs) != len(is.ix.defs),
		!slices.Equal(was.labels.Client, is.labels.Client), !slices.Equal(was.labels.Endpoint, is.labels.Endpoint),
		!maps.Equal(before.client(), m.client()):
		c.All = true // they are part of all outbounds or all endpoints
		return c
	}
	for i, di := range is.ix.defs {
		a, b := was.entries[i], is.entries[i]
		// Where a kind says anything at all, all outbounds are told about clients.
		if di.readsClient && (len(a) == 0) != (len(b) == 0) {
			c.All = true
		}
		for _, e := range changed(a, b) {
			c.add(e)
		}
		if c.All {
			return OutboundChange{All: true}
		}
	}
	return c
}

func (c *OutboundChange) add(e *toEntry) {
	switch e.ref.Kind {
	case Mesh:
		c.All = true
	case MeshHTTPRoute:
		c.Routes = append(c.Routes, e.routes...)
	default:
		c.Refs = append(c.Refs, e.ref)
	}
}

// changed returns the entries that only one of the lists has, and all that may have
// changed places with others.
func changed(a, b []*toEntry) []*toEntry {
	for len(a) > 0 && len(b) > 0 && a[0].digest == b[0].digest {
		a, b = a[1:], b[1:]
	}
	for len(a) > 0 && len(b) > 0 && a[len(a)-1].digest == b[len(b)-1].digest {
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	if len(a) == 0 {
		return b
	}
	if len(b) == 0 {
		return a
	}
	onlyA, bothA := apart(a, b)
	onlyB, bothB := apart(b, a)
	if !slices.EqualFunc(bothA, bothB, func(x, y *toEntry) bool { return x.digest == y.digest }) {
		return slices.Concat(a, b) // in another order, which decides who wins
	}
	return append(onlyA, onlyB...)
}

// apart divides a list into what it has alone and what the other has too.
func apart(list, other []*toEntry) (only, both []*toEntry) {
	has := make(map[Digest]bool, len(other))
	for _, e := range other {
		has[e.digest] = true
	}
	for _, e := range list {
		if has[e.digest] {
			both = append(both, e)
		} else {
			only = append(only, e)
		}
	}
	return only, both
}

// Lookup is something that the digest of an outbound depends on besides the
// policies about its destination: the destinations that have some labels, or what
// is said about the routes of a policy.
type Lookup struct {
	Kind   resource.Type
	Labels map[string]string
	Route  resource.KRI // without Kind
}

// noting writes down what is looked for.
type noting struct{ *Reads }

func (n noting) Candidates(kind resource.Type, selector map[string]string) []*Destination {
	n.looked = append(n.looked, Lookup{Kind: kind, Labels: selector})
	return n.rules.res.Candidates(kind, selector)
}
