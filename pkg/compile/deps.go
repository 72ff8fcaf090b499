package compile

import (
	"iter"

	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/view"
)

// unit is something that is compiled by itself and again when a key that it read
// is touched. The pointer is its identity.
type unit struct {
	owner any // *mesh, *Proxy, *audience, *roster or *row
	deps  []view.Key
	dirty bool
}

// depIndex tells which units read a key. It belongs to the engine's goroutine.
type depIndex map[view.Key]map[*unit]struct{}

// set replaces what u has read. Keys that stay are not touched, so that
// compiling the same again costs lookups only.
func (x depIndex) set(u *unit, now map[view.Key]struct{}) {
	kept := 0
	for _, k := range u.deps {
		if _, still := now[k]; still {
			kept++
		} else {
			x.remove(u, k)
		}
	}
	if kept == len(now) && kept == len(u.deps) {
		return
	}
	u.deps = make([]view.Key, 0, len(now))
	for k := range now {
		readers := x[k]
		if readers == nil {
			readers = map[*unit]struct{}{}
			x[k] = readers
		}
		readers[u] = struct{}{}
		u.deps = append(u.deps, k)
	}
}

// add has u read more.
func (x depIndex) add(u *unit, more iter.Seq[view.Key]) {
	for k := range more {
		readers := x[k]
		if _, has := readers[u]; has {
			continue
		}
		if readers == nil {
			readers = map[*unit]struct{}{}
			x[k] = readers
		}
		readers[u] = struct{}{}
		u.deps = append(u.deps, k)
	}
}

// drop forgets u.
func (x depIndex) drop(u *unit) {
	for _, k := range u.deps {
		x.remove(u, k)
	}
	u.deps = nil
}

func (x depIndex) remove(u *unit, k view.Key) {
	readers := x[k]
	delete(readers, u)
	if len(readers) == 0 {
		delete(x, k)
	}
}

// touched calls mark with k for every unit that read k, or a list that k is part of.
func (x depIndex) touched(k view.Key, mark func(*unit, view.Key)) {
	keys := readAs(k)
	for i, key := range keys {
		if i > 0 && key == k {
			continue
		}
		for u := range x[key] {
			mark(u, k)
		}
	}
}

// readAs is what somebody may have read who read k.
func readAs(k view.Key) [5]view.Key {
	id := k.ID
	return [...]view.Key{
		k,
		{Table: k.Table, ID: resource.ID{Type: id.Type, Mesh: id.Mesh}}, // the type in the mesh
		{Table: k.Table, ID: resource.ID{Type: id.Type}},                // the type
		{Table: k.Table, ID: resource.ID{Mesh: id.Mesh}},                // the mesh
		{Table: k.Table},
	}
}

// concerns tells whether k is among what was read.
func concerns(read map[view.Key]struct{}, k view.Key) bool {
	for _, key := range readAs(k) {
		if _, ok := read[key]; ok {
			return true
		}
	}
	return false
}
