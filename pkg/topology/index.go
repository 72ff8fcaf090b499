package topology

import (
	"cmp"
	"strings"

	"github.com/tidwall/btree"
)

// pair is a label of something in a mesh. A pair without key is none of a label:
// see everything and named.
type pair struct{ mesh, key, value string }

// everything is where an index keeps all of a mesh, or all that select all.
func everything(mesh string) pair { return pair{mesh: mesh} }

// named is where an index keeps services that select one Dataplane by name.
func named(mesh, name string) pair { return pair{mesh: mesh, value: name} }

func (p pair) less(q pair) bool {
	return cmp.Or(strings.Compare(p.mesh, q.mesh), strings.Compare(p.key, q.key), strings.Compare(p.value, q.value)) < 0
}

// bucket is the row keys of everything that has a pair.
type bucket struct {
	pair
	keys *btree.Set[string]
}

// index finds row keys by pair. It is persistent: a fork shares all buckets
// with its origin until it writes them.
type index struct {
	tree  *btree.BTreeG[bucket]
	owned map[pair]bool // buckets copied since the fork; nil once published
}

func newIndex() index {
	less := func(a, b bucket) bool { return a.less(b.pair) }
	return index{tree: btree.NewBTreeGOptions(less, btree.Options{NoLocks: true})}
}

func (x *index) fork() index { return index{tree: x.tree.Copy(), owned: map[pair]bool{}} }

// get returns the keys at p, or nil when there are none. They are not the
// caller's to change.
func (x *index) get(p pair) *btree.Set[string] {
	b, ok := x.tree.Get(bucket{pair: p})
	if !ok {
		return nil
	}
	return b.keys
}

func (x *index) count(p pair) int {
	if keys := x.get(p); keys != nil {
		return keys.Len()
	}
	return 0
}

func (x *index) add(p pair, key string) {
	keys := x.get(p)
	switch {
	case keys == nil:
		keys = &btree.Set[string]{}
	case !x.owned[p]:
		keys = keys.Copy()
	default:
		keys.Insert(key)
		return
	}
	keys.Insert(key)
	x.owned[p] = true
	x.tree.Set(bucket{p, keys})
}

func (x *index) remove(p pair, key string) {
	keys := x.get(p)
	if keys == nil {
		return
	}
	if !x.owned[p] {
		keys = keys.Copy()
		x.owned[p] = true
		x.tree.Set(bucket{p, keys})
	}
	keys.Delete(key)
	if keys.Len() == 0 {
		x.tree.Delete(bucket{pair: p})
		delete(x.owned, p)
	}
}

// addAll and removeAll enter and take out a key under each label.
func (x *index) addAll(mesh string, labels map[string]string, key string) {
	for k, v := range labels {
		if k != "" {
			x.add(pair{mesh, k, v}, key)
		}
	}
}

func (x *index) removeAll(mesh string, labels map[string]string, key string) {
	for k, v := range labels {
		if k != "" {
			x.remove(pair{mesh, k, v}, key)
		}
	}
}

// rarest is the label with the fewest keys, which is where to look for what has
// all the labels, or to keep what asks for them.
func (x *index) rarest(mesh string, labels map[string]string) pair {
	var best pair
	fewest := -1
	for k, v := range labels {
		p := pair{mesh, k, v}
		n := x.count(p)
		if fewest < 0 || n < fewest || n == fewest && p.less(best) {
			best, fewest = p, n
		}
	}
	return best
}
