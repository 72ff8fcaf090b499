package compile

import (
	"slices"
	"time"

	"github.com/atoll-mesh/atoll/pkg/delta"
	"github.com/atoll-mesh/atoll/pkg/envoy"
	"github.com/atoll-mesh/atoll/pkg/ir"
	"github.com/atoll-mesh/atoll/pkg/topology"
	"github.com/atoll-mesh/atoll/pkg/view"
	"github.com/atoll-mesh/atoll/pkg/xds"
)

// row is the endpoints of one cluster, for all audiences.
type row struct {
	unit
	key   rowKey
	place *ir.Placement
	load  *delta.Resource
	from  *topology.Endpoints // of load
	users map[*holding]struct{}
}

func (e *Engine) rowOf(k rowKey, place *ir.Placement) *row {
	r := e.rows[k]
	if r == nil {
		r = &row{key: k, place: place, users: map[*holding]struct{}{}}
		r.owner = r
		e.rows[k] = r
		e.mark(&r.unit)
	}
	return r
}

func (e *Engine) unuse(h *holding, k rowKey) {
	r := e.rows[k]
	if r == nil {
		return
	}
	delete(r.users, h)
	if len(r.users) == 0 {
		e.deps.drop(&r.unit)
		delete(e.rows, k)
	}
}

// compileRows makes dirty endpoints, but for those that wait for a crowd, and puts
// those that differ into the layers of audiences that are otherwise up to date.
func (e *Engine) compileRows() {
	ready, wait := e.split(e.dirty.rows, time.Now())
	rows := slices.DeleteFunc(ready, func(r *row) bool {
		r.dirty = false
		return len(r.users) == 0
	})
	readers := make([]*view.Reader, len(rows))
	loads := make([]*delta.Resource, len(rows))
	from := make([]*topology.Endpoints, len(rows))
	failed := make([]warnings, len(rows))
	each(len(rows), func(i int) {
		k := rows[i].key
		readers[i] = view.NewReader(e.snap)
		failed[i].guard(k.cluster, func() {
			from[i] = k.read(readers[i])
			loads[i] = envoy.Load(buildLoad(k.cluster, e.in.Site.Zone, rows[i].place, from[i]))
		})
	})
	changed := map[*audience]xds.Changes{}
	for i, r := range rows {
		e.deps.set(&r.unit, readers[i].Deps())
		e.endpointsCompiled.Add(1)
		if loads[i] == nil {
			e.bug(failed[i].list)
			continue
		}
		r.from = from[i]
		if r.load != nil && r.load.Version == loads[i].Version {
			continue
		}
		r.load = loads[i]
		for h := range r.users {
			a := h.audience
			if changed[a] == nil {
				changed[a] = xds.Changes{}
			}
			changed[a].Put(xds.Endpoints, r.load)
		}
	}
	for a, c := range changed {
		// What an audience only just began to use comes with finish.
		if old := a.layer; old != nil {
			if a.layer = old.With(c); a.layer != old {
				for p := range a.proxies {
					e.pending[p] = struct{}{}
				}
			}
		}
	}
	e.dirty.rows = append(empty(e.dirty.rows), wait...)
}
