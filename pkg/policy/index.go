package policy

import (
	"encoding/binary"
	"encoding/json"
	"iter"
	"maps"
	"slices"
	"sync"

	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/zeebo/xxh3"
)

// Digest identifies inputs by content: equal digests, equal results.
type Digest [16]byte

// Index is the policies of one mesh, read and sorted once. It is immutable, may
// be shared by all proxies and used concurrently, and remembers what depends on
// nothing but a list of its policies.
type Index struct {
	defs []*defIndex
	bits int // number of policies
	outs set // the policies that say something about outbounds
	// outbounds and inbounds hold results per set of policies. They grow with
	// the number of different sets, and go away with the Index.
	outbounds sync.Map // set of policies → *matchedTo
	inbounds  sync.Map // inboundKey → []*ruleEntry
}

type defIndex struct {
	*Def
	pos      int
	policies []*parsed    // in order of comparePolicies
	to       []*toEntry   // in order of compareTo
	rules    []*ruleEntry // in order of compareRules
}

// parsed is one policy, read once.
type parsed struct {
	obj    *resource.Object
	bit    int // position among all policies of the Index
	target TargetRef
	role   string
	shadow bool
	body   bodies
	// Digests of what the policy is and says about inbounds and the whole proxy;
	// zero when it says nothing. Items of spec.to have their own.
	rulesDigest, defaultDigest Digest
}

type toEntry struct {
	p      *parsed
	index  int
	ref    TargetRef // with what the role of the policy adds to the labels
	conf   any
	digest Digest
	routes []resource.KRI // of kind MeshHTTPRoute: the routes it is about
}

type ruleEntry struct {
	p          *parsed
	index      int
	matchIndex int
	match      *Match // nil: everything
	conf       any
}

func (e *ruleEntry) origin() Origin { return Origin{Policy: e.p.obj, Index: e.index} }

// NewIndex reads the policies of one mesh. list yields the resources of a type
// in that mesh; defs is the list of policies in order of application.
func NewIndex(defs []*Def, list func(resource.Type) iter.Seq[*resource.Object]) *Index {
	ix := &Index{}
	for i, d := range defs {
		di := &defIndex{Def: d, pos: i}
		for o := range list(d.kind.Type) {
			di.policies = append(di.policies, d.parse(o))
		}
		slices.SortFunc(di.policies, comparePolicies)
		for _, p := range di.policies {
			p.bit = ix.bits
			ix.bits++
		}
		ix.defs = append(ix.defs, di)
	}
	ix.outs = newSet(ix.bits)
	routes := ix.routes()
	for _, di := range ix.defs {
		for _, p := range di.policies {
			di.addEntries(p, routes)
			if len(p.body.to) > 0 {
				ix.outs.add(p.bit)
			}
		}
		slices.SortFunc(di.to, compareTo)
		slices.SortFunc(di.rules, compareRules)
	}
	return ix
}

// routes returns the HTTP routes of the mesh, which items of spec.to may name.
func (ix *Index) routes() []*resource.Object {
	for _, di := range ix.defs {
		if di.kind.Type != MeshHTTPRoute {
			continue
		}
		var out []*resource.Object
		for _, p := range di.policies {
			out = append(out, p.obj)
		}
		return out
	}
	return nil
}

func (d *Def) parse(o *resource.Object) *parsed {
	p := &parsed{
		obj:    o,
		target: TargetRef{Kind: Mesh},
		role:   o.Labels[resource.LabelPolicyRole],
		shadow: o.Labels[resource.LabelEffect] == EffectShadow,
		body:   d.bodies(o.Spec),
	}
	if p.body.target != nil {
		p.target = p.body.target.TargetRef
	}
	if p.role == "" {
		p.role = RoleSystem
	}
	if p.role == RoleProducer {
		// A producer sets defaults for its clients; their inbounds are not its own.
		p.body.rules = nil
	}
	who := identity(o)
	if len(p.body.rules) > 0 {
		p.rulesDigest = digest(who, encode(p.target), rulesOf(o, p.body))
	}
	if p.body.def != nil {
		p.defaultDigest = digest(who, encode(p.body.def))
	}
	return p
}

// rulesOf encodes the rules. A policy with nothing else is its spec.
func rulesOf(o *resource.Object, b bodies) []byte {
	if len(b.to) == 0 {
		return o.SpecWire()
	}
	parts := make([]any, 0, 2*len(b.rules))
	for _, r := range b.rules {
		parts = append(parts, r.matches, r.conf)
	}
	return encode(parts)
}

func (di *defIndex) addEntries(p *parsed, routes []*resource.Object) {
	who := identity(p.obj)
	for i, t := range p.body.to {
		if t.ref.Kind != Mesh && len(t.ref.Labels) == 0 {
			continue // stored by an older version; it selects nothing
		}
		e := &toEntry{p: p, index: i, ref: narrowed(p, t.ref), conf: t.conf}
		if e.ref.Kind == MeshHTTPRoute {
			for _, r := range routes {
				if r.Matches(e.ref.Labels) {
					e.routes = append(e.routes, r.KRI())
				}
			}
		}
		e.digest = digest(who, binary.AppendUvarint(nil, uint64(i)), encode(e.ref), encode(t.conf), encode(e.routes))
		di.to = append(di.to, e)
	}
	for i, r := range p.body.rules {
		if len(r.matches) == 0 {
			di.rules = append(di.rules, &ruleEntry{p: p, index: i, conf: r.conf})
		}
		for j := range r.matches {
			di.rules = append(di.rules, &ruleEntry{p: p, index: i, matchIndex: j, match: &r.matches[j], conf: r.conf})
		}
	}
}

// narrowed confines what a producer names to its own namespace and zone: it
// speaks for its services, not for others of the same name.
func narrowed(p *parsed, ref TargetRef) TargetRef {
	if p.role != RoleProducer || p.obj.Namespace() == "" || ref.Kind != MeshService && ref.Kind != MeshHTTPRoute {
		return ref
	}
	labels := make(map[string]string, len(ref.Labels)+2)
	maps.Copy(labels, ref.Labels)
	labels[resource.LabelNamespace] = p.obj.Namespace()
	if zone := p.obj.Zone(); zone != "" {
		labels[resource.LabelZone] = zone
	}
	ref.Labels = labels
	return ref
}

func identity(o *resource.Object) []byte {
	return encode([]any{o.ID, o.Labels})
}

func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic("policy: a spec that was stored cannot be encoded: " + err.Error())
	}
	return b
}

// digest hashes parts with their lengths, so that no two lists of parts run
// into each other. Parts are strings, byte slices or Digests.
func digest(parts ...any) Digest {
	h := xxh3.New()
	var n [binary.MaxVarintLen64]byte
	for _, part := range parts {
		switch part := part.(type) {
		case string:
			_, _ = h.Write(n[:binary.PutUvarint(n[:], uint64(len(part)))])
			_, _ = h.WriteString(part)
		case []byte:
			_, _ = h.Write(n[:binary.PutUvarint(n[:], uint64(len(part)))])
			_, _ = h.Write(part)
		case Digest:
			_, _ = h.Write(part[:])
		default:
			panic("policy: a digest has parts of other types")
		}
	}
	return h.Sum128().Bytes()
}
