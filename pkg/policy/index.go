package policy

import (
	"encoding/json"
	"iter"
	"maps"
	"slices"
	"sync"

	"github.com/atoll-mesh/atoll/pkg/resource"
)

// Index is the policies of one mesh, read and sorted once. It is immutable, may
// be shared by all proxies and used concurrently, and remembers what depends on
// nothing but a list of its policies.
type Index struct {
	defs []*defIndex
	bits int // number of policies
	outs set // the policies that say something about outbounds
	// reached, outbounds and inbounds hold results per location and per set of
	// policies. They grow with the number of these, and go away with the Index.
	reached   sync.Map // location → *reaching
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
	// Digests of who the policy is, and of that and what it says about inbounds
	// and the whole proxy; zero when it says nothing. Items of spec.to have their
	// own.
	who, rulesDigest, defaultDigest Digest
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
	var collectors []*resource.Object
	if slices.ContainsFunc(defs, func(d *Def) bool { return d.resolve != nil }) {
		collectors = slices.Collect(list(collectorKind))
	}
	for i, d := range defs {
		di := &defIndex{Def: d, pos: i}
		for o := range list(d.kind.Type) {
			di.policies = append(di.policies, d.parse(o, collectors))
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

func (d *Def) parse(o *resource.Object, collectors []*resource.Object) *parsed {
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
	p.who = identity(o)
	d.resolveRefs(p, collectors)
	if d.everywhere && p.body.def != nil {
		p.body.to = append(p.body.to, toBody{ref: TargetRef{Kind: Mesh}, conf: p.body.def})
	}
	if len(p.body.rules) > 0 {
		p.rulesDigest = new(hash).digest(p.who).bytes(encode(p.target)).bytes(rulesOf(o, p.body)).sum()
	}
	if p.body.def != nil {
		p.defaultDigest = new(hash).digest(p.who).bytes(encode(p.body.def)).sum()
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
		e.digest = e.sum()
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

// sum identifies the entry. A policy with a single item is its spec.
func (e *toEntry) sum() Digest {
	h := new(hash).digest(e.p.who).number(e.index)
	if b := e.p.body; len(b.to) == 1 && len(b.rules) == 0 {
		h.bytes(e.p.obj.SpecWire())
	} else {
		h.bytes(encode(e.ref)).bytes(encode(e.conf))
	}
	for _, r := range e.routes {
		h.text(r.String())
	}
	return h.sum()
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

func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic("policy: a spec that was stored cannot be encoded: " + err.Error())
	}
	return b
}
