// Package xds serves configuration to Envoy: Sets of shared and own layers of
// encoded resources, and the ADS server that streams them.
package xds

import (
	"iter"

	"github.com/atoll-mesh/atoll/pkg/delta"
)

// Type is a kind of resource that Envoy asks for.
type Type uint8

// The types that are served. Extensions and Runtimes have no producer yet.
const (
	Clusters Type = iota
	Endpoints
	Listeners
	Routes
	Secrets
	Extensions
	Runtimes
	NumTypes // how many there are
)

var typeURLs = [NumTypes]string{
	Clusters:   "type.googleapis.com/envoy.config.cluster.v3.Cluster",
	Endpoints:  "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
	Listeners:  "type.googleapis.com/envoy.config.listener.v3.Listener",
	Routes:     "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
	Secrets:    "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
	Extensions: "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
	Runtimes:   "type.googleapis.com/envoy.service.runtime.v3.Runtime",
}

// shortNames are the names that people and insights use.
var shortNames = [NumTypes]string{"cds", "eds", "lds", "rds", "sds", "ecds", "rtds"}

// URL returns the type URL of the resources.
func (t Type) URL() string { return typeURLs[t] }

// String returns the short name: cds, eds, lds, rds, sds, ecds or rtds.
func (t Type) String() string { return shortNames[t] }

// TypeOf returns the type that has that URL.
func TypeOf(url string) (Type, bool) {
	for t, u := range typeURLs {
		if u == url {
			return Type(t), true
		}
	}
	return 0, false
}

// Changes are resources to put into a Layer, by type and name; a nil resource
// removes the name. Each is filed under its own Name.
type Changes map[Type]map[string]*delta.Resource

// Put adds a resource to the changes.
func (c Changes) Put(t Type, r *delta.Resource) {
	c.names(t)[r.Name] = r
}

// Remove adds the removal of a resource to the changes.
func (c Changes) Remove(t Type, name string) {
	c.names(t)[name] = nil
}

func (c Changes) names(t Type) map[string]*delta.Resource {
	if c[t] == nil {
		c[t] = make(map[string]*delta.Resource)
	}
	return c[t]
}

// Layer is an immutable collection of resources of all types, shared by the Sets
// of many proxies. Layers made from one another by With or Becoming share what
// they have in common and know what differs, so that streams find a change of k
// resources in O(k). A nil Layer is an empty one.
type Layer struct {
	tables [NumTypes]*delta.Table
}

// NewLayer makes a layer of the resources given.
func NewLayer(resources Changes) *Layer {
	return (&Layer{}).With(resources)
}

// With returns the layer with the changes applied. A resource that has the
// version already there keeps the old pointer; when nothing differs the result
// is l itself.
func (l *Layer) With(changes Changes) *Layer {
	return l.derive(func(t Type, old *delta.Table) *delta.Table { return old.With(changes[t]) })
}

// Becoming returns a layer of exactly the resources given, made from l: use it
// after compiling a whole layer anew, so that streams need not compare it all.
func (l *Layer) Becoming(resources Changes) *Layer {
	return l.derive(func(t Type, old *delta.Table) *delta.Table { return old.Becoming(resources[t]) })
}

func (l *Layer) derive(table func(Type, *delta.Table) *delta.Table) *Layer {
	if l == nil {
		l = &Layer{}
	}
	next := &Layer{}
	same := true
	for t := range NumTypes {
		next.tables[t] = table(t, l.tables[t])
		same = same && next.tables[t] == l.tables[t]
	}
	if same {
		return l
	}
	return next
}

// Type returns the resources of one type.
func (l *Layer) Type(t Type) *delta.Table {
	if l == nil {
		return nil
	}
	return l.tables[t]
}

// Set is everything that one proxy should have: shared layers and, last, its own.
// It is immutable. Of resources with one type and name that of the later layer
// counts.
type Set struct {
	// Revision is the one of the snapshot that the set was compiled from, or the
	// latest at which it was still up to date.
	Revision uint64
	layers   []*Layer
	sources  [NumTypes]typed
}

// NewSet makes a set of the layers in order. Sets of one proxy are compared
// layer by layer, so a layer should keep its place from one set to the next.
func NewSet(revision uint64, layers ...*Layer) *Set {
	s := &Set{Revision: revision, layers: layers}
	for t := range NumTypes {
		s.sources[t] = typed{s, t}
	}
	return s
}

// At returns the same set for another revision.
func (s *Set) At(revision uint64) *Set {
	return NewSet(revision, s.layers...)
}

// Layers returns the layers, the proxy's own last. Callers do not change it.
func (s *Set) Layers() []*Layer { return s.layers }

// Source returns the resources of one type.
func (s *Set) Source(t Type) delta.Source { return &s.sources[t] }

// typed is one type of a Set.
type typed struct {
	set  *Set
	kind Type
}

func (s *typed) table(i int) *delta.Table {
	if i >= len(s.set.layers) {
		return nil
	}
	return s.set.layers[i].Type(s.kind)
}

// Layers and Layer let streams take what they share from tables directly.
func (s *typed) Layers() int { return len(s.set.layers) }

// Layer returns the table of the i-th layer.
func (s *typed) Layer(i int) *delta.Table { return s.set.layers[i].Type(s.kind) }

// Get implements delta.Source.
func (s *typed) Get(name string) *delta.Resource {
	for i := len(s.set.layers) - 1; i >= 0; i-- {
		if r := s.table(i).Get(name); r != nil {
			return r
		}
	}
	return nil
}

// hidden reports whether a layer after the i-th has that name too.
func (s *typed) hidden(i int, name string) bool {
	for j := i + 1; j < len(s.set.layers); j++ {
		if s.table(j).Get(name) != nil {
			return true
		}
	}
	return false
}

// All implements delta.Source.
func (s *typed) All() iter.Seq[*delta.Resource] {
	return func(yield func(*delta.Resource) bool) {
		for i := range s.set.layers {
			for r := range s.table(i).All() {
				if !s.hidden(i, r.Name) && !yield(r) {
					return
				}
			}
		}
	}
}

// Len implements delta.Source.
func (s *typed) Len() int {
	filled, total := 0, 0
	for i := range s.set.layers {
		if n := s.table(i).Len(); n > 0 {
			filled++
			total += n
		}
	}
	if filled < 2 {
		return total
	}
	total = 0
	for range s.All() {
		total++
	}
	return total
}

// ChangedSince implements delta.Source.
func (s *typed) ChangedSince(prev delta.Source) (names []string, ok bool) {
	p, ok := prev.(*typed)
	if !ok || p.kind != s.kind {
		return nil, false
	}
	var parts [][]string
	for i := range max(len(s.set.layers), len(p.set.layers)) {
		if changed := s.table(i).Changed(p.table(i)); len(changed) > 0 {
			parts = append(parts, changed)
		}
	}
	switch len(parts) {
	case 0:
		return nil, true
	case 1:
		return parts[0], true
	}
	seen := make(map[string]struct{})
	for _, part := range parts {
		for _, name := range part {
			if _, dup := seen[name]; !dup {
				seen[name] = struct{}{}
				names = append(names, name)
			}
		}
	}
	return names, true
}
