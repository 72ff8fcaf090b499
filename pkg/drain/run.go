package drain

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"time"

	system_proto "github.com/atoll-mesh/atoll/api/kuma/system/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/store"
	"github.com/atoll-mesh/atoll/pkg/view"
)

// Config is what Run needs.
type Config struct {
	View  *view.View
	Store store.Store
	Log   *slog.Logger
	// Reasons says what would break without a zone, or a service of it.
	Reasons func(s *view.Snapshot, zone string, t Target) ([]string, error)
	// Sync is how far a zone that is connected to this process is, or nil.
	Sync func(zone string) *system_proto.ZoneSync
	// Connections counts those that other zones still have to a zone; nil when
	// nobody knows.
	Connections func(ctx context.Context, s *view.Snapshot, zone string, t Target) *int64
	// Proxies tells how many proxies of all zones follow the ZoneTraffic of one;
	// nil when nobody knows.
	Proxies func(ctx context.Context, s *view.Snapshot, zone string) *kind.DrainProxies
}

const (
	// recheckGap is the least time between two looks at what was refused, however
	// much changes.
	recheckGap = 5 * time.Second
	retry      = time.Second
)

// runner moves all drains of a global. It belongs to one goroutine.
type runner struct {
	Config
	done    *view.Snapshot // handled completely
	changed bool           // something that could mend a refusal changed
	checked time.Time      // when refusals were looked at
	counted map[countKey]count
	follow  map[string]following // by zone
}

// following is what zones said of their proxies.
type following struct {
	at   time.Time
	mark string // of what they follow
	n    *kind.DrainProxies
}

type countKey struct {
	zone string
	t    Target
}

type count struct {
	at time.Time
	n  *int64
}

// Run drains and undrains zones until ctx ends. The caller leads: ctx ends when
// that is lost, and carries the fence.
func Run(ctx context.Context, cfg Config) error {
	select {
	case <-cfg.View.Loaded():
	case <-ctx.Done():
		return ctx.Err()
	}
	r := &runner{Config: cfg, counted: map[countKey]count{}, follow: map[string]following{}}
	sub := cfg.View.Subscribe()
	defer sub.Close()
	for {
		due, err := r.pass(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, store.ErrNotLeader), errors.Is(err, store.ErrClosed):
			return err
		case err != nil && !errors.Is(err, store.ErrConflict):
			cfg.Log.Warn("the progress of a drain could not be written; it is tried again", "error", err, "retryIn", retry)
			fallthrough
		case err != nil:
			due = time.Now().Add(retry)
		}
		if err := sub.Wait(ctx, due); err != nil {
			return err
		}
	}
}

// pass moves every drain to where it should be now, and returns when it shall be
// called again at the latest.
func (r *runner) pass(ctx context.Context) (time.Time, error) {
	s, now := r.View.Snapshot(), time.Now()
	r.note(s)
	r.done = s
	recheck, due := false, time.Time{}
	if r.changed {
		if next := r.checked.Add(recheckGap); next.After(now) {
			due = next
		} else {
			recheck, r.changed, r.checked = true, false, now
		}
	}
	refused := false
	for _, zone := range zonesOf(s) {
		next, err := r.zone(ctx, s, zone, now, recheck)
		if err != nil {
			return time.Time{}, err
		}
		due = earliest(due, next)
		for _, d := range Of(s.Get(resource.ID{Type: kind.ZoneTraffic, Name: zone})) {
			refused = refused || d.Phase == kind.DrainRefused
		}
	}
	if !refused { // nobody waits for a look
		r.changed = false
	}
	return due, nil
}

// note takes note of what changed since the last pass.
func (r *runner) note(s *view.Snapshot) {
	if r.done == nil {
		r.changed = true
		return
	}
	keys, ok := r.View.Touched(r.done.Revision(), s)
	r.changed = r.changed || !ok
	for _, k := range keys {
		if k.Table == view.Objects && k.Type != kind.ZoneTraffic && k.Type != kind.ZoneInsight && k.Type != kind.DataplaneInsight {
			r.changed = true
		}
	}
}

// zonesOf are the zones that drain, or shall.
func zonesOf(s *view.Snapshot) []string {
	names := map[string]bool{}
	for o := range s.List(kind.Zone, "") {
		if len(Wanted(zoneOf(o))) > 0 {
			names[o.Name] = true
		}
	}
	for o := range s.List(kind.ZoneTraffic, "") {
		names[o.Name] = true
	}
	return slices.Sorted(maps.Keys(names))
}

func zoneOf(o *resource.Object) *system_proto.Zone {
	if o == nil {
		return nil
	}
	z, _ := o.Spec.(*system_proto.Zone)
	return z
}

// zone moves the drains of one zone.
func (r *runner) zone(ctx context.Context, s *view.Snapshot, zone string, now time.Time, recheck bool) (time.Time, error) {
	z := s.Get(resource.ID{Type: kind.Zone, Name: zone})
	id := resource.ID{Type: kind.ZoneTraffic, Name: zone}
	old := s.Get(id)
	f := Facts{Now: now, Drain: zoneOf(z).GetDrain(), Want: Wanted(zoneOf(z)), Recheck: recheck}
	if old != nil {
		f.Status = resource.StatusOf[kind.ZoneTrafficStatus](old)
	}
	f.Reasons = func(t Target) []string {
		list, err := r.Reasons(s, zone, t)
		if err != nil {
			return []string{"what would break could not be found out: " + err.Error()}
		}
		return list
	}
	f.Behind, f.Offline = r.behind(s)
	f.Connections = func(t Target) *int64 {
		key := countKey{zone, t}
		if c, ok := r.counted[key]; !ok || now.Sub(c.at) >= look/2 {
			r.counted[key] = count{now, r.Connections(ctx, s, zone, t)}
		}
		return r.counted[key].n
	}
	f.Proxies = func() *kind.DrainProxies {
		if mark := kind.TrafficMark(old); r.follow[zone].mark != mark || now.Sub(r.follow[zone].at) >= look/2 {
			r.follow[zone] = following{now, mark, r.Proxies(ctx, s, zone)}
		}
		return r.follow[zone].n
	}
	status, due := Step(f)
	if err := r.write(ctx, id, z, old, status); err != nil {
		return time.Time{}, err
	}
	return due, nil
}

// write stores where a zone is, if that is news.
func (r *runner) write(ctx context.Context, id resource.ID, z, old *resource.Object, status *kind.ZoneTrafficStatus) error {
	var op store.Op
	var was *kind.ZoneTrafficSpec
	var before *kind.ZoneTrafficStatus
	if old != nil {
		was, before = resource.SpecOf[kind.ZoneTrafficSpec](old), resource.StatusOf[kind.ZoneTrafficStatus](old)
	}
	spec := Traffic(was, before, status)
	switch {
	case z == nil || spec == nil:
		if old == nil {
			return nil
		}
		op = store.Delete(id, int64(old.Version), store.ControlPlane)
	default:
		k := r.View.Kinds().ByType(kind.ZoneTraffic)
		meta := resource.Meta{ID: id, Labels: r.View.Site().ComputeLabels(k, id.Name, "", nil)}
		if old != nil {
			meta = old.Meta
			meta.Modified = time.Time{}
		}
		if status == nil {
			status = &kind.ZoneTrafficStatus{}
		}
		next, err := k.New(meta, spec, status)
		if err != nil {
			return err
		}
		if old != nil && next.SameContent(old) {
			return nil
		}
		version := store.Absent
		if old != nil {
			version = int64(old.Version)
		}
		op = store.Put(next, version, store.ControlPlane)
	}
	rev, err := r.Store.Write(ctx, op)
	if err != nil {
		return err
	}
	// The next pass must see this one, or it would take the same step again.
	_, err = r.View.Wait(ctx, rev)
	r.tell(id.Name, old, status)
	return err
}

// tell logs changes of phase.
func (r *runner) tell(zone string, old *resource.Object, status *kind.ZoneTrafficStatus) {
	was := map[Target]kind.DrainPhase{}
	for _, d := range Of(old) {
		was[targetOf(&d)] = d.Phase
	}
	if status != nil {
		for i := range status.Drains {
			d := &status.Drains[i]
			t := targetOf(d)
			if was[t] != d.Phase {
				r.Log.Info("a drain moves on", "zone", zone, "mesh", t.Mesh, "service", t.Service, "phase", d.Phase, "reasons", d.Reasons)
			}
			delete(was, t)
		}
	}
	for t := range was {
		r.Log.Info("a drain is over", "zone", zone, "mesh", t.Mesh, "service", t.Service)
	}
}

// behind are the zones that may not have what the global says now, and those of
// them that are not connected.
func (r *runner) behind(s *view.Snapshot) (list []string, offline map[string]bool) {
	offline = map[string]bool{}
	for o := range s.List(kind.Zone, "") {
		var insight *system_proto.ZoneInsight
		if i := s.Get(resource.ID{Type: kind.ZoneInsight, Name: o.Name}); i != nil {
			insight, _ = i.Spec.(*system_proto.ZoneInsight)
		}
		sync := r.Sync(o.Name)
		if sync == nil {
			sync = insight.GetSync()
		}
		d := sync.GetGlobalToZone()
		switch {
		case !kind.ZoneOnline(insight):
			list = append(list, o.Name)
			offline[o.Name] = true
		case d.GetAppliedRevision() < d.GetGlobalRevision():
			list = append(list, o.Name)
		}
	}
	return list, offline
}

func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
