package delta

import (
	"slices"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
)

const wildcard = "*"

func (t *state) subscribed(name string) bool { return t.wildcard || t.names.has(name) }

// has returns the version that the peer holds, or "".
func (t *state) has(name string) string {
	if o, ok := t.off[name]; ok {
		return o.version
	}
	if t.base == nil || !t.subscribed(name) || !t.group.held && t.group.names.has(name) {
		return ""
	}
	if r := t.base.Get(name); r != nil {
		return r.Version
	}
	return ""
}

func (t *state) set(name string, o offset) {
	if t.off == nil {
		t.off = make(map[string]offset)
	}
	t.off[name] = o
}

// force has a name answered, even if nothing changed.
func (t *state) force(name string) {
	o := offset{version: t.has(name), force: true}
	o.alone = t.off[name].alone
	t.set(name, o)
}

// spill puts the group into off, where names can be dealt with one by one.
func (t *state) spill() {
	if t.group.names == nil {
		return
	}
	if t.off == nil {
		t.off = make(map[string]offset, t.group.names.len())
	}
	for name := range t.group.names.all() {
		if _, done := t.off[name]; !done {
			t.off[name] = offset{version: t.has(name), force: true}
		}
	}
	t.group = group{}
}

// inStep reports whether nothing can be to be sent. It does not look closely.
func (t *state) inStep() bool {
	return t.want == t.base && len(t.off) == 0 && t.group.names == nil && !t.greet
}

// begin takes the first request of a type. One that names nothing asks for
// everything.
func (s *Stream) begin(t *state, req *discovery.DeltaDiscoveryRequest) {
	t.asked = true
	add := req.GetResourceNamesSubscribe()
	t.wildcard = len(add) == 0 || slices.Contains(add, wildcard)
	t.greet = t.wildcard
	t.stated = req.GetInitialResourceVersions()
	s.returns = s.returns || len(t.stated) > 0
	t.names = s.pool().with(nil, without(add, wildcard), req.GetResourceNamesUnsubscribe())
	s.settle(t)
}

// settle makes base and off say what the peer holds, once both the first request
// and what is wanted are known.
func (s *Stream) settle(t *state) {
	if t.settled || t.want == nil {
		return
	}
	t.settled = true
	stated := t.stated
	t.stated = nil
	distrust := t.cfg != nil && t.cfg.Distrust
	if t.wildcard {
		s.settleAll(t, stated, distrust)
	} else {
		t.base = t.want // of the names subscribed, which are all to be sent:
		if distrust || len(stated) == 0 {
			t.group = group{names: t.names}
			return
		}
		t.off = make(map[string]offset, t.names.len())
	}
	for name := range t.names.all() {
		var o offset
		if version, ok := stated[name]; ok && !distrust {
			if r := t.want.Get(name); r != nil && r.Version == version {
				if t.wildcard {
					continue // settleAll did
				}
				delete(t.off, name)
				continue
			}
			o.version = orUnknown(version)
		}
		o.force = true
		t.set(name, o)
	}
}

// settleAll does it for a wildcard subscription.
func (s *Stream) settleAll(t *state, stated map[string]string, distrust bool) {
	if distrust || len(stated) == 0 {
		for name, version := range stated {
			if t.want.Get(name) == nil {
				t.set(name, offset{version: orUnknown(version)})
			}
		}
		return
	}
	t.base = t.want
	for name, version := range stated {
		if r := t.want.Get(name); r == nil || r.Version != version {
			t.set(name, offset{version: orUnknown(version)})
		}
	}
	for r := range t.want.All() {
		if _, ok := stated[r.Name]; !ok {
			t.set(r.Name, offset{})
		}
	}
}

// subscribe takes what a later request changes.
func (s *Stream) subscribe(t *state, add, remove []string) {
	if !t.settled {
		// All names are answered when it is.
		if slices.Contains(add, wildcard) {
			t.wildcard, t.greet = true, true
		}
		if slices.Contains(remove, wildcard) {
			t.wildcard, t.greet = false, false
		}
		t.names = s.pool().with(t.names, without(add, wildcard), without(remove, wildcard))
		return
	}
	if !t.wildcard && t.names.len() == 0 {
		t.base, t.off, t.group = t.want, nil, group{} // the peer holds nothing, and was told of nothing
	}
	if t.more(s.pool(), add, remove) {
		return
	}
	t.spill()
	if !t.wildcard && slices.Contains(add, wildcard) {
		s.widen(t)
	}
	named := without(add, wildcard)
	if t.off == nil && len(named) > 0 {
		t.off = make(map[string]offset, len(named))
	}
	for _, name := range named {
		t.force(name)
	}
	t.names = s.pool().with(t.names, named, nil)

	if len(remove) == 0 {
		return
	}
	if slices.Contains(remove, wildcard) {
		t.wildcard, t.greet = false, false
	}
	remove = without(remove, wildcard)
	if t.wildcard {
		// The peer may have dropped them; it learns whether they still exist.
		for _, name := range remove {
			t.force(name)
		}
	}
	t.names = s.pool().with(t.names, nil, remove)
	for name := range t.off {
		if !t.subscribed(name) {
			delete(t.off, name)
		}
	}
	for name := range t.rejected {
		if !t.subscribed(name) {
			delete(t.rejected, name)
			s.news = true
		}
	}
}

// more takes names that are added to others, when that is all and none was there
// before.
func (t *state) more(p *Pool, add, remove []string) bool {
	if t.wildcard || t.group.held || len(remove) > 0 || slices.Contains(add, wildcard) {
		return false
	}
	for _, name := range add {
		if _, off := t.off[name]; off || t.names.has(name) {
			return false
		}
	}
	t.group = group{names: p.with(t.group.names, add, nil)}
	t.names = p.with(t.names, add, nil)
	return true
}

// widen adds a wildcard to a subscription of names, of which alone the peer holds
// anything.
func (s *Stream) widen(t *state) {
	off := t.off
	for name := range t.names.all() {
		if version := t.has(name); version != "" {
			if off == nil {
				off = make(map[string]offset)
			}
			o := off[name]
			o.version = version
			off[name] = o
		}
	}
	t.off = off
	t.base = nil
	t.wildcard, t.greet = true, true
}

// without returns names without one of them, and the slice itself if it is not
// there.
func without(names []string, name string) []string {
	if !slices.Contains(names, name) {
		return names
	}
	return slices.DeleteFunc(slices.Clone(names), func(n string) bool { return n == name })
}

func orUnknown(version string) string {
	if version == "" {
		return unknownVersion
	}
	return version
}

// pool returns the shared sets of names, or one of its own when none are shared.
func (s *Stream) pool() *Pool {
	if s.cfg.Names != nil {
		return s.cfg.Names
	}
	return &s.own
}
