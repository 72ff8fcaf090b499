package delta

import (
	"hash/maphash"
	"iter"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"weak"

	"github.com/tidwall/btree"
)

// Pool shares equal sets of names between streams, so that a thousand proxies
// which ask for the same thousand endpoints keep one set. The zero Pool is ready
// and safe for concurrent use.
type Pool struct {
	mu   sync.Mutex
	sets map[digest]weak.Pointer[names]
	// seeds make digests unpredictable: a peer cannot construct a set that is
	// taken for another one.
	seeds [2]maphash.Seed
}

type digest [2]uint64

// names is an immutable set. A nil one is empty.
type names struct {
	digest digest // xor over the names
	// mu guards copying set, which marks it as shared; reads need no lock.
	mu  sync.Mutex
	set btree.Set[string]

	// index is as that of a Table.
	asked atomic.Int32
	index atomic.Pointer[map[string]struct{}]
}

func (n *names) has(name string) bool {
	if n == nil {
		return false
	}
	if index := n.index.Load(); index != nil {
		_, ok := (*index)[name]
		return ok
	}
	if size := n.set.Len(); size > smallTable && int(n.asked.Add(1)) > size {
		index := make(map[string]struct{}, size)
		n.set.Scan(func(name string) bool {
			index[name] = struct{}{}
			return true
		})
		n.index.Store(&index)
	}
	return n.set.Contains(name)
}

func (n *names) len() int {
	if n == nil {
		return 0
	}
	return n.set.Len()
}

func (n *names) all() iter.Seq[string] {
	return func(yield func(string) bool) {
		if n != nil {
			n.set.Scan(yield)
		}
	}
}

// with returns the set with names added and then others removed, in O(changes)
// if some stream has the result already.
func (p *Pool) with(n *names, add, remove []string) *names {
	p.mu.Lock()
	if p.sets == nil {
		p.sets = make(map[digest]weak.Pointer[names])
		p.seeds = [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}
	}
	p.mu.Unlock()
	if len(remove) == 0 {
		return p.union(n, add)
	}

	changed := make(map[string]bool, len(add)) // to present or absent
	for _, name := range add {
		if !n.has(name) {
			changed[name] = true
		}
	}
	for _, name := range remove {
		if n.has(name) {
			changed[name] = false
		} else {
			delete(changed, name)
		}
	}
	if len(changed) == 0 {
		return n
	}
	var d digest
	size := n.len()
	if n != nil {
		d = n.digest
	}
	for name, present := range changed {
		d[0] ^= maphash.String(p.seeds[0], name)
		d[1] ^= maphash.String(p.seeds[1], name)
		if present {
			size++
		} else {
			size--
		}
	}
	if size == 0 {
		return nil
	}
	if found := p.find(d); found != nil {
		return found
	}
	next := &names{digest: d}
	if n != nil {
		n.mu.Lock()
		next.set = *n.set.Copy()
		n.mu.Unlock()
	}
	for name, present := range changed {
		if present {
			next.set.Insert(name)
		} else {
			next.set.Delete(name)
		}
	}
	return p.share(next)
}

// union returns the set with names added, some of which may be there twice.
// Thousands of streams that start ask for the same.
func (p *Pool) union(n *names, add []string) *names {
	if len(add) == 0 {
		return n
	}
	if !slices.IsSorted(add) {
		add = slices.Sorted(slices.Values(add))
	}
	var d digest
	if n != nil {
		d = n.digest
	}
	fresh := func(i int) bool { return (i == 0 || add[i] != add[i-1]) && !n.has(add[i]) }
	more := false
	for i, name := range add {
		if fresh(i) {
			d[0] ^= maphash.String(p.seeds[0], name)
			d[1] ^= maphash.String(p.seeds[1], name)
			more = true
		}
	}
	if !more {
		return n
	}
	if found := p.find(d); found != nil {
		return found
	}
	next := &names{digest: d}
	if n != nil {
		n.mu.Lock()
		next.set = *n.set.Copy()
		n.mu.Unlock()
	}
	for _, name := range add {
		next.set.Insert(name)
	}
	return p.share(next)
}

func (p *Pool) find(d digest) *names {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sets[d].Value()
}

// share makes a set known, or returns the one that another stream made meanwhile.
func (p *Pool) share(n *names) *names {
	p.mu.Lock()
	defer p.mu.Unlock()
	if other := p.sets[n.digest].Value(); other != nil {
		return other
	}
	p.sets[n.digest] = weak.Make(n)
	runtime.AddCleanup(n, p.forget, n.digest)
	return n
}

func (p *Pool) forget(d digest) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.sets[d].Value() == nil {
		delete(p.sets, d)
	}
}
