package compile

import (
	"cmp"
	"slices"

	"github.com/atoll-mesh/atoll/pkg/delta"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/view"
	"github.com/atoll-mesh/atoll/pkg/xds"
)

// Shaping returns the policies without which a proxy would be given something
// else under a name, or nothing, the one that was changed last first. ok is
// false when version is not what the snapshot gives the proxy: then it is not
// known what shaped it. It is meant for few resources: it makes each one again
// for every policy that selects the proxy.
func Shaping(in Inputs, s *view.Snapshot, info ProxyInfo, t xds.Type, name, version string) (list []*resource.Object, ok bool) {
	x, err := newSingle(&in, s, &info, nil)
	if err != nil {
		return nil, false
	}
	var w warnings
	w.guard(name, func() { list, ok = x.shaping(t, name, version) })
	return list, ok && !w.bug
}

func (x *single) shaping(t xds.Type, name, version string) (list []*resource.Object, ok bool) {
	is := x.resource(x.matched, t, name)
	if is == nil || is.Version != version {
		return nil, false
	}
	same := func(r *delta.Resource) bool { return r != nil && r.Version == version }
	all := slices.Collect(x.matched.All())
	for _, p := range all {
		if !same(x.resource(x.matched.Without(p), t, name)) {
			list = append(list, p)
		}
	}
	if len(list) == 0 {
		// Policies that say the same hide each other: go on without those that may
		// go, from the weakest.
		left := x.matched
		for _, p := range all {
			if next := left.Without(p); same(x.resource(next, t, name)) {
				left = next
			} else {
				list = append(list, p)
			}
		}
	}
	slices.SortStableFunc(list, func(a, b *resource.Object) int {
		return cmp.Or(b.Modified.Compare(a.Modified), cmp.Compare(b.Version, a.Version))
	})
	return list, true
}
