package resource

import (
	"encoding/json"
	"fmt"
	"iter"
	"slices"

	"google.golang.org/protobuf/proto"
)

// Scope says whether a kind lives in a mesh or beside all meshes.
type Scope string

// The two scopes.
const (
	ScopeMesh   Scope = "Mesh"
	ScopeGlobal Scope = "Global"
)

// Flow is a set of directions in which KDS carries a kind.
type Flow uint8

// Directions of sync. AcrossZones: a global forwards what one zone wrote to the
// other zones; of policies only those whose role is producer.
const (
	GlobalToZone Flow = 1 << iota
	ZoneToGlobal
	AcrossZones
)

// Has reports whether all directions of x are in f.
func (f Flow) Has(x Flow) bool { return f&x == x }

// PolicyInfo describes the bodies that a policy may have.
type PolicyInfo struct {
	HasTo    bool // spec.to: per destination, client side
	HasRules bool // spec.rules: per inbound, server side
}

// Port is one port of a destination.
type Port struct {
	Section  string // name of the port, or its number: the section of its KRI
	Number   uint32
	Protocol string // tcp, http, http2, grpc, …
}

// Names are the ways a kind is written.
type Names struct {
	Type     Type
	Plural   string   // path segment and argument of "get", e.g. meshtimeouts
	Single   string   // argument of "get" and "delete", e.g. meshtimeout
	Aliases  []string // further path segments that are accepted
	Short    string   // short name in KRIs; empty: the kind has no KRI
	Display  string   // for people, e.g. Mesh Timeout
	Displays string   // plural of Display
}

// Kind describes a type of resource once, for every part of the system.
type Kind struct {
	Names
	Scope     Scope
	Flows     Flow
	KeepName  bool // names are not hashed on the way from global to zone
	ReadOnly  bool // written by control planes only; the API answers 405
	AdminOnly bool // secret: only admins may read or write it
	Internal  bool // has no REST path
	Native    bool // the reference does not know it: exchanged between Atoll control planes only
	// Proto kinds travel as protobuf and are flattened in JSON; all others are
	// JSON on the wire with spec and status members.
	Proto     bool
	HasStatus bool
	// LocalStatus says that the status is this control plane's own: it is neither
	// sent to others nor part of the API where there is nothing to say. Such a
	// kind does not count as one that HasStatus.
	LocalStatus bool
	Policy      *PolicyInfo // nil unless a policy
	// Ports lists the ports of a destination of traffic, which is what can be
	// called by its name and reached across zones. Nil for all other kinds.
	Ports  func(*Object) []Port
	Schema *Schema // structural check and defaults of the spec
	// Validate returns every semantic violation of a spec that passed Schema.
	// Paths are complete (spec.to[0]…). Nil: nothing to check.
	Validate func(*Object) FieldErrors
	// Warnings returns findings that do not prevent a write. Nil: none.
	Warnings func(*Object) []string
	// Admit returns the labels and the spec that a resource written here is
	// stored with, when the kind derives some of them; Site.Admit calls it. Old
	// is the stored resource, nil when o is new. It modifies neither. Nil: as given.
	Admit func(site Site, o, old *Object) (labels map[string]string, spec any)

	newSpec   func() any
	newStatus func() any
}

// Define completes a description with its Go types. S is the spec, a protobuf
// message or a struct with JSON tags; St is the status, or NoStatus.
func Define[S, St any](k Kind) *Kind {
	k.newSpec = func() any { return new(S) }
	_, k.Proto = any(new(S)).(proto.Message)
	if _, none := any(new(St)).(*NoStatus); !none {
		k.HasStatus = !k.LocalStatus
		k.newStatus = func() any { return new(St) }
	}
	if k.Schema == nil {
		k.Schema = schemaOf(new(S))
	}
	return &k
}

// NoStatus is the status type of kinds that have none.
type NoStatus struct{}

// NewSpec returns a new empty spec of the kind's type.
func (k *Kind) NewSpec() any { return k.newSpec() }

// NewStatus returns a new empty status, or nil when the kind has none.
func (k *Kind) NewStatus() any {
	if k.newStatus == nil {
		return nil
	}
	return k.newStatus()
}

// encode gives the wire form: the same input gives the same bytes.
func (k *Kind) encode(v any) ([]byte, error) {
	if m, ok := v.(proto.Message); ok {
		return proto.MarshalOptions{Deterministic: true}.Marshal(m)
	}
	return json.Marshal(v)
}

func (k *Kind) decode(b []byte, into any) error {
	var err error
	if m, ok := into.(proto.Message); ok {
		err = proto.Unmarshal(b, m)
	} else if len(b) > 0 {
		err = json.Unmarshal(b, into)
	}
	if err != nil {
		return fmt.Errorf("decode %s: %w", k.Type, err)
	}
	return nil
}

// Kinds is the explicit list of kinds of a control plane, made once at start
// and handed down. It is immutable.
type Kinds struct {
	all     []*Kind
	byType  map[Type]*Kind
	byPath  map[string]*Kind
	byShort map[string]*Kind
}

// NewKinds indexes a list. Two kinds that share a name panic: the list is code.
func NewKinds(all ...*Kind) *Kinds {
	ks := &Kinds{
		all:     slices.Clone(all),
		byType:  map[Type]*Kind{},
		byPath:  map[string]*Kind{},
		byShort: map[string]*Kind{},
	}
	slices.SortFunc(ks.all, func(a, b *Kind) int { return compareStrings(string(a.Type), string(b.Type)) })
	for _, k := range ks.all {
		if ks.byType[k.Type] != nil {
			panic("kind listed twice: " + string(k.Type))
		}
		ks.byType[k.Type] = k
		if !k.Internal {
			for _, p := range append([]string{k.Plural}, k.Aliases...) {
				ks.byPath[p] = k
			}
		}
		if k.Short != "" {
			ks.byShort[k.Short] = k
		}
	}
	return ks
}

// All yields the kinds in order of their type name.
func (ks *Kinds) All() iter.Seq[*Kind] { return slices.Values(ks.all) }

// ByType returns the kind of that type, or nil.
func (ks *Kinds) ByType(t Type) *Kind { return ks.byType[t] }

// ByPath returns the kind served under that path segment, or nil.
func (ks *Kinds) ByPath(segment string) *Kind { return ks.byPath[segment] }

// ByShort returns the kind with that short name, or nil.
func (ks *Kinds) ByShort(short string) *Kind { return ks.byShort[short] }

func compareStrings(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}
