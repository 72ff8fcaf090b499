package compile

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/atoll-mesh/atoll/pkg/delta"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/view"
	"github.com/atoll-mesh/atoll/pkg/xds"
)

// Check is the outcome of CheckOne.
type Check struct {
	Proxy       resource.ID // zero when nothing could be checked
	Differences []string    // of what is served to what Build gives; none is right
}

// CheckOne compiles one attached proxy from scratch and compares the result with
// what it is served at the same revision. A difference means that the engine
// missed a dependency; it is counted and logged. Production calls it every
// minute, with another proxy each time.
func (e *Engine) CheckOne(ctx context.Context) (Check, error) {
	type state struct {
		p    *Proxy
		set  *xds.Set
		snap *view.Snapshot
	}
	found := make(chan state, 1)
	e.do(func() {
		e.after = append(e.after, func() { // settled: e.snap is what was compiled
			for p := range e.proxies { // a random one
				if p.set.Load() != nil && e.snap.Get(p.info.ID) != nil {
					found <- state{p, p.set.Load(), e.snap}
					return
				}
			}
			found <- state{}
		})
	})
	var s state
	select {
	case s = <-found:
	case <-ctx.Done():
		return Check{}, ctx.Err()
	}
	if s.p == nil {
		return Check{}, nil
	}
	e.checks.Add(1)
	c := Check{Proxy: s.p.info.ID}
	want, err := Build(e.in, s.snap, s.p.info)
	if errors.Is(err, ErrNoDataplane) {
		return Check{}, nil
	}
	if err != nil {
		return c, err
	}
	c.Differences = differences(s.set, want.Resources)
	if len(c.Differences) > 0 {
		e.mismatches.Add(1)
		e.log.Error("a proxy is not served what it should be; please report it", "proxy", c.Proxy.String(),
			"revision", s.snap.Revision(), "differences", strings.Join(c.Differences, "; "))
	}
	return c, nil
}

// differences lists what a set has too much, too little or otherwise.
func differences(got *xds.Set, want xds.Changes) []string {
	var out []string
	for t := range xds.NumTypes {
		have := map[string]*delta.Resource{}
		for r := range got.Source(t).All() {
			if !isCertificate(t, r.Name) {
				have[r.Name] = r
			}
		}
		for _, name := range slices.Sorted(maps.Keys(want[t])) {
			switch r := have[name]; {
			case r == nil:
				out = append(out, fmt.Sprintf("%s %s is missing", t, name))
			case r.Version != want[t][name].Version:
				out = append(out, fmt.Sprintf("%s %s differs", t, name))
			}
			delete(have, name)
		}
		for _, name := range slices.Sorted(maps.Keys(have)) {
			out = append(out, fmt.Sprintf("%s %s should not be there", t, name))
		}
	}
	return out
}
