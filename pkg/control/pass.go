package control

import (
	"iter"
	"slices"
	"time"

	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/store"
	"github.com/atoll-mesh/atoll/pkg/view"
)

// pass is one look at the resources: what changed since old, and what the jobs
// want written because of it. Jobs see what earlier ones want.
type pass struct {
	old, now *view.Snapshot // old is nil in the first pass
	kinds    *resource.Kinds
	time     time.Time
	full     bool // everything counts as changed
	changed  map[resource.Type][]resource.ID
	wanted   map[resource.ID]*wanted
	groups   [][]resource.ID // written together or not at all
	deadline time.Time
}

// wanted is what becomes of one resource.
type wanted struct {
	was, is *resource.Object // nil: absent
	group   int
}

func newPass(v *view.View, old *view.Snapshot) *pass {
	p := &pass{
		old: old, now: v.Snapshot(), kinds: v.Kinds(), time: time.Now(),
		changed: map[resource.Type][]resource.ID{}, wanted: map[resource.ID]*wanted{},
	}
	if old == nil {
		p.full = true
		return p
	}
	keys, ok := v.Touched(old.Revision(), p.now)
	p.full = !ok
	for _, k := range keys {
		if k.Table == view.Objects {
			p.changed[k.Type] = append(p.changed[k.Type], k.ID)
		}
	}
	return p
}

// kind describes a type.
func (p *pass) kind(t resource.Type) *resource.Kind { return p.kinds.ByType(t) }

// touched yields the resources of a type that may differ between old and now.
func (p *pass) touched(t resource.Type) iter.Seq[resource.ID] {
	if !p.full {
		return slices.Values(p.changed[t])
	}
	return func(yield func(resource.ID) bool) {
		for o := range p.now.List(t, "") {
			if !yield(o.ID) {
				return
			}
		}
		if p.old == nil {
			return
		}
		for o := range p.old.List(t, "") {
			if p.now.Get(o.ID) == nil && !yield(o.ID) {
				return
			}
		}
	}
}

// before returns a resource as of the last pass, or nil.
func (p *pass) before(id resource.ID) *resource.Object {
	if p.old == nil {
		return nil
	}
	return p.old.Get(id)
}

// get returns a resource as it is, or as an earlier job wants it.
func (p *pass) get(id resource.ID) *resource.Object {
	if w := p.wanted[id]; w != nil {
		return w.is
	}
	return p.now.Get(id)
}

// put wants a resource stored.
func (p *pass) put(o *resource.Object) { p.want(o.ID, o, p.newGroup) }

// remove wants a resource deleted.
func (p *pass) remove(id resource.ID) { p.want(id, nil, p.newGroup) }

// putAll wants resources stored all together.
func (p *pass) putAll(list []*resource.Object) {
	group := p.newGroup()
	for _, o := range list {
		p.want(o.ID, o, func() int { return group })
	}
}

func (p *pass) newGroup() int {
	p.groups = append(p.groups, nil)
	return len(p.groups) - 1
}

func (p *pass) want(id resource.ID, is *resource.Object, group func() int) {
	w := p.wanted[id]
	if w == nil {
		w = &wanted{was: p.now.Get(id), group: group()}
		p.wanted[id] = w
		p.groups[w.group] = append(p.groups[w.group], id)
	}
	w.is = is
}

// at asks for a pass by a certain time.
func (p *pass) at(t time.Time) { p.deadline = earliest(p.deadline, t) }

// ops is what has to be written, in groups. Wishes that change nothing are none.
func (p *pass) ops() [][]store.Op {
	var all [][]store.Op
	for _, ids := range p.groups {
		var ops []store.Op
		for _, id := range ids {
			w := p.wanted[id]
			switch {
			case w.is == nil && w.was == nil, w.is != nil && w.was != nil && w.is.SameContent(w.was):
			case w.is == nil:
				ops = append(ops, store.Delete(id, int64(w.was.Version), store.ControlPlane))
			case w.was == nil:
				ops = append(ops, store.Put(w.is, store.Absent, store.ControlPlane))
			default:
				ops = append(ops, store.Put(w.is, int64(w.was.Version), store.ControlPlane))
			}
		}
		if len(ops) > 0 {
			all = append(all, ops)
		}
	}
	return all
}

// changedObject makes a new version of o with other content.
func changedObject(o *resource.Object, labels map[string]string, spec, status any) *resource.Object {
	meta := o.Meta
	meta.Labels, meta.Modified = labels, time.Time{}
	return newObject(o.Kind, meta, spec, status)
}

// newObject makes an object of a spec and status that this package built.
func newObject(k *resource.Kind, meta resource.Meta, spec, status any) *resource.Object {
	o, err := k.New(meta, spec, status)
	if err != nil {
		panic("control: what was made here cannot be encoded: " + err.Error())
	}
	return o
}
