package policy

import (
	"fmt"
	"slices"

	"github.com/atoll-mesh/atoll/pkg/ir"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// Bodies are the parts of a spec that the engine works on.
type Bodies[C any] struct {
	TargetRef *ProxyRef
	To        []To[C]
	Rules     []Rule[C]
	Default   *C
}

// To is an item of spec.to: configuration of clients, per destination.
type To[C any] struct {
	TargetRef ToRef `json:"targetRef"`
	Default   C     `json:"default,omitzero"`
}

// Rule is an item of spec.rules: configuration of servers, per inbound.
type Rule[C any] struct {
	Matches []Match `json:"matches,omitzero"`
	Default C       `json:"default,omitzero"`
}

// Item is a configuration and where it was written.
type Item[C any] struct {
	Conf C
	Origin
}

// Origin is the place in a policy that a configuration comes from.
type Origin struct {
	Policy *resource.Object
	Index  int // in spec.to or spec.rules; 0 for spec.default
}

// Hooks are what a policy does beyond being matched, ordered and merged.
// S is its spec, C the mergeable part of it. Hooks are pure: no clock, no I/O,
// nothing global; they must not keep or change what they are given except the
// IR.
type Hooks[S, C any] struct {
	// Bodies reads a spec. Required.
	Bodies func(*S) Bodies[C]
	// To lists the kinds that spec.to[].targetRef may have; empty when there is
	// no spec.to.
	To []resource.Type
	// HasRules tells that there is spec.rules, and Matches how its matches are
	// checked.
	HasRules bool
	Matches  Matches
	// Validate returns what the engine does not check by itself. It checks
	// references and matches.
	Validate func(*S) resource.FieldErrors
	// Warnings returns findings that do not prevent a write. Nil: none.
	Warnings func(*S) []string
	// HasStatus tells that the policy always has a Status, which other control
	// planes are told. Any policy has one while there is something to say.
	HasStatus bool
	// Merge joins configurations given in ascending precedence. Nil: the fields
	// that are set later win (see merge.go).
	Merge func([]Item[C]) C
	// Always runs Outbound, Cluster and Inbound with a zero C where no policy
	// applies, for policies that have built-in defaults.
	Always bool
	// Outbound writes the configuration for o.Dest into the listener and routes.
	Outbound func(C, *Outbound)
	// Route writes the configuration of a route that a policy named by itself.
	// It runs after Outbound, only for routes with a configuration of their own,
	// which does not contain the one of the destination.
	Route func(C, Dest, *ir.Route)
	// RouteOf is Route for policies that need more than the destination.
	RouteOf func(C, *Outbound, *ir.Route)
	// Cluster writes the configuration for a backend into its cluster.
	Cluster func(C, Dest, *ir.Cluster)
	// Place says how the endpoints of a backend are arranged. Where no policy
	// applies they are as the zero ir.Placement says.
	Place func(C, *Placing)
	// Labels names what Place and others look at: labels of the client's
	// Dataplane, which are then part of what tells audiences apart, and labels of
	// endpoints, which Envoy is then told.
	Labels func(C) Labels
	// ReadsClient tells that Outbound or Route reads Outbound.Client.
	ReadsClient bool
	// Inbound writes the configuration of one inbound.
	Inbound func(InboundRules[C], *Inbound)
	// ClientTLS writes what rules for the whole mesh say about the TLS that its
	// proxies speak as clients.
	ClientTLS func(C, *ir.TLSParams)
	// Proxy writes the configuration of the whole proxy (spec.default).
	Proxy func(C, *Own)
	// Served writes spec.default into each inbound and each listener of a zone
	// proxy.
	Served func(C, *Inbound)
	// Everywhere gives spec.default to Outbound and Cluster too, as if it stood
	// in spec.to for the mesh.
	Everywhere bool
	// Unknown writes what spec.to says for the mesh into the own layer, for
	// destinations that the mesh does not know.
	Unknown func(C, *Own)
	// Needs writes what every conf about the proxy needs into the own layer.
	Needs func(C, *Own)
	// Resolve returns the conf with what its references lead to. It does not
	// change the one it is given.
	Resolve func(c C, find func(*CollectorRef) *Collector) C
	// Reads names what Outbound looks up besides C, so that digests cover it.
	// A policy whose Outbound calls Outbound.Backend or Outbound.Own has it.
	Reads func(C, *Reads)
}

// Def is one policy kind: its resource kind and its hooks with types erased.
// Confs are held as pointers to C.
type Def struct {
	kind   *resource.Kind
	to     []resource.Type
	always bool
	bodies func(spec any) bodies
	merge  func([]item) any
	zero   any
	// readsClient: outbounds differ by what Labels names
	readsClient bool
	outbound    func(any, *Outbound)
	route       func(any, *Outbound, *ir.Route)
	cluster     func(any, Dest, *ir.Cluster)
	place       func(any, *Placing)
	labels      func(any) Labels
	inbound     func([]*ruleEntry, *Inbound)
	clientTLS   func(any, *ir.TLSParams)
	proxy       func(any, *Own)
	served      func(any, *Inbound)
	unknown     func(any, *Own)
	needs       func(any, *Own)
	resolve     func(any, func(*CollectorRef) *Collector) any
	// everywhere: spec.default stands in spec.to for the mesh, too
	everywhere bool
	reads      func(any, *Reads)
}

// item is an Item with its type erased.
type item struct {
	conf any
	Origin
}

type bodies struct {
	target *ProxyRef
	to     []toBody
	rules  []ruleBody
	def    any // nil: none
}

type toBody struct {
	ref  TargetRef
	conf any
}

type ruleBody struct {
	matches []Match
	conf    any
}

// Define describes a policy kind. names are those of the API. It panics on a
// conf that cannot be merged, which is a programming error.
func Define[S, C any](names resource.Names, h Hooks[S, C]) *Def {
	merge := h.Merge
	if merge == nil {
		fold := Merger[C]()
		merge = func(items []Item[C]) C {
			confs := make([]C, len(items))
			for i := range items {
				confs[i] = items[i].Conf
			}
			return fold(confs...)
		}
	}
	d := &Def{to: h.To, always: h.Always, everywhere: h.Everywhere, readsClient: h.ReadsClient, zero: new(C)}
	d.kind = resource.Define[S, Status](resource.Kind{
		Names: names,
		Scope: resource.ScopeMesh,
		// In the reference most policies have no status: it is not told to others.
		LocalStatus: !h.HasStatus,
		Flows:       resource.GlobalToZone | resource.ZoneToGlobal | resource.AcrossZones,
		Policy:      &resource.PolicyInfo{HasTo: len(h.To) > 0, HasRules: h.HasRules},
		Validate: func(o *resource.Object) resource.FieldErrors {
			spec, ok := o.Spec.(*S)
			if !ok {
				panic(fmt.Sprintf("policy: %s is not a %s", o.ID, names.Type))
			}
			errs := validate(h.Bodies(spec), h.To, h.Matches)
			if h.Validate != nil {
				errs = append(errs, h.Validate(spec)...)
			}
			return errs
		},
		Warnings: warnings(h.Warnings),
	})
	d.bodies = func(spec any) bodies { return eraseBodies(h.Bodies(spec.(*S))) }
	d.merge = func(items []item) any {
		typed := make([]Item[C], len(items))
		for i, it := range items {
			typed[i] = Item[C]{Conf: *it.conf.(*C), Origin: it.Origin}
		}
		out := merge(typed)
		return &out
	}
	if h.Outbound != nil {
		d.outbound = func(c any, o *Outbound) { h.Outbound(*c.(*C), o) }
	}
	if h.Route != nil {
		d.route = func(c any, o *Outbound, r *ir.Route) { h.Route(*c.(*C), o.Dest, r) }
	}
	if h.RouteOf != nil {
		d.route = func(c any, o *Outbound, r *ir.Route) { h.RouteOf(*c.(*C), o, r) }
	}
	if h.Place != nil {
		d.place = func(c any, p *Placing) { h.Place(*c.(*C), p) }
	}
	if h.Labels != nil {
		d.labels = func(c any) Labels { return h.Labels(*c.(*C)) }
	}
	if h.Cluster != nil {
		d.cluster = func(c any, b Dest, cl *ir.Cluster) { h.Cluster(*c.(*C), b, cl) }
	}
	if h.Proxy != nil {
		d.proxy = func(c any, o *Own) { h.Proxy(*c.(*C), o) }
	}
	if h.Served != nil {
		d.served = func(c any, in *Inbound) { h.Served(*c.(*C), in) }
	}
	if h.Unknown != nil {
		d.unknown = func(c any, o *Own) { h.Unknown(*c.(*C), o) }
	}
	if h.Needs != nil {
		d.needs = func(c any, o *Own) { h.Needs(*c.(*C), o) }
	}
	if h.Resolve != nil {
		d.resolve = func(c any, find func(*CollectorRef) *Collector) any {
			out := h.Resolve(*c.(*C), find)
			return &out
		}
	}
	if h.ClientTLS != nil {
		d.clientTLS = func(c any, p *ir.TLSParams) { h.ClientTLS(*c.(*C), p) }
	}
	if h.Reads != nil {
		d.reads = func(c any, r *Reads) { h.Reads(*c.(*C), r) }
	}
	if h.Inbound != nil {
		d.inbound = func(rules []*ruleEntry, in *Inbound) {
			typed := InboundRules[C]{merge: merge}
			for _, r := range rules {
				typed.List = append(typed.List, InboundRule[C]{Match: r.match, Item: Item[C]{Conf: *r.conf.(*C), Origin: r.origin()}})
			}
			h.Inbound(typed, in)
		}
	}
	return d
}

func warnings[S any](of func(*S) []string) func(*resource.Object) []string {
	if of == nil {
		return nil
	}
	return func(o *resource.Object) []string { return of(o.Spec.(*S)) }
}

// Kind is the resource kind of the policy, for the list of kinds.
func (d *Def) Kind() *resource.Kind { return d.kind }

// Destinations are the kinds that spec.to[].targetRef of the policy may have.
func (d *Def) Destinations() []resource.Type { return slices.Clone(d.to) }

func eraseBodies[C any](b Bodies[C]) bodies {
	out := bodies{target: b.TargetRef}
	for i := range b.To {
		out.to = append(out.to, toBody{ref: b.To[i].TargetRef.TargetRef, conf: &b.To[i].Default})
	}
	for i := range b.Rules {
		out.rules = append(out.rules, ruleBody{matches: b.Rules[i].Matches, conf: &b.Rules[i].Default})
	}
	if b.Default != nil {
		out.def = b.Default
	}
	return out
}

func validate[C any](b Bodies[C], to []resource.Type, how Matches) resource.FieldErrors {
	var errs resource.FieldErrors
	if b.TargetRef != nil {
		b.TargetRef.validate(&errs, "spec.targetRef", proxyKinds, len(b.Rules) > 0)
	}
	for i, item := range b.To {
		item.TargetRef.validate(&errs, fmt.Sprintf("spec.to[%d].targetRef", i), to, false)
	}
	for i, rule := range b.Rules {
		for j, m := range rule.Matches {
			m.validate(&errs, fmt.Sprintf("spec.rules[%d].matches[%d]", i, j), how)
		}
	}
	return errs
}
