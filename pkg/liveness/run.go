package liveness

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"slices"
	"time"

	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/store"
	"github.com/atoll-mesh/atoll/pkg/view"
)

// Config is what Run needs. Kinds and site are those of the view: of a zone.
type Config struct {
	View  *view.View
	Store store.Store
	Log   *slog.Logger
}

// retry is the pause after decisions that could not be written.
const retry = time.Second

// readTypes are those that decisions depend on.
var readTypes = []resource.Type{
	kind.MeshZoneAddress, kind.ZoneProbe, kind.ZoneLink, kind.Dataplane, kind.DataplaneInsight, kind.ZoneInsight, kind.MeshIdentity,
}

// runner decides for a zone. It belongs to one goroutine.
type runner struct {
	Config
	site    resource.Site
	judge   Judge
	proxies roles
	started time.Time
	closed  map[string]time.Time // by mesh: since when no ingress is ready
	bare    map[string]time.Time // by mesh: since when no zone proxy can probe
	done    *view.Snapshot       // handled completely; nil before the first pass
	due     time.Time            // when to decide again although nothing changed
}

// Run decides until ctx ends. The caller leads: ctx ends when that is lost, and
// carries the fence.
func Run(ctx context.Context, cfg Config) error {
	select {
	case <-cfg.View.Loaded():
	case <-ctx.Done():
		return ctx.Err()
	}
	r := newRunner(cfg, time.Now())
	sub := cfg.View.Subscribe()
	defer sub.Close()
	for {
		err := r.pass(ctx, time.Now())
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, store.ErrNotLeader), errors.Is(err, store.ErrClosed):
			return err
		case err != nil:
			if !errors.Is(err, store.ErrConflict) {
				cfg.Log.Warn("what was decided about other zones could not be written and is decided again", "error", err, "retryIn", retry)
			}
			r.done, r.due = nil, time.Now().Add(retry)
		}
		if err := sub.Wait(ctx, r.due); err != nil {
			return err
		}
	}
}

func newRunner(cfg Config, now time.Time) *runner {
	return &runner{
		Config: cfg, site: cfg.View.Site(), started: now,
		closed: map[string]time.Time{}, bare: map[string]time.Time{},
	}
}

// pass decides once, if anything changed or it is time.
func (r *runner) pass(ctx context.Context, now time.Time) error {
	s := r.View.Snapshot()
	if !r.concerns(s) && (r.due.IsZero() || now.Before(r.due)) {
		r.done = s
		return nil
	}
	p := &pass{runner: r, s: s, now: now}
	p.plan()
	if len(p.ops) > 0 {
		rev, err := r.Store.Write(ctx, p.ops...)
		if err != nil {
			return err
		}
		// The next pass must see what this one wrote, or it would write it again.
		if _, err := r.View.Wait(ctx, rev); err != nil {
			return err
		}
	}
	p.tell()
	r.done, r.due = s, p.due
	return nil
}

// concerns takes note of what changed and tells whether anything of it matters.
func (r *runner) concerns(s *view.Snapshot) bool {
	if r.done == nil {
		r.proxies.all(s)
		return true
	}
	keys, ok := r.View.Touched(r.done.Revision(), s)
	if !ok {
		r.proxies.all(s)
		return true
	}
	matters := false
	for _, k := range keys {
		if k.Table != view.Objects || !slices.Contains(readTypes, k.Type) {
			continue
		}
		matters = true
		if k.Type == kind.Dataplane {
			r.proxies.note(k.ID, s.Get(k.ID))
		}
	}
	return matters
}

// pass is one look at a snapshot.
type pass struct {
	*runner
	s    *view.Snapshot
	now  time.Time
	ops  []store.Op
	said []func()
	due  time.Time
}

func (p *pass) at(t time.Time) {
	if p.due.IsZero() || t.Before(p.due) {
		p.due = t
	}
}

func (p *pass) tell() {
	for _, say := range p.said {
		say()
	}
}

func (p *pass) plan() {
	zones, own := p.entrances()
	probers := p.elect(zones)
	p.sight(zones, probers)
	in := Input{Observer: p.site.Zone, Global: p.inContact(), Probers: int32(len(probers))}
	for _, name := range sortedKeys(zones) {
		z := zones[name]
		z.Last = p.link(p.site.Zone, name)
		p.believe(z)
		in.Zones = append(in.Zones, *z)
	}
	links, due := p.judge.Decide(in, p.now)
	if !due.IsZero() {
		p.at(due)
	}
	if own := p.ofSelf(own); own != nil {
		links = append(links, own)
	}
	p.write(links)
}

// entrances are the addresses of other zones, and of this one by mesh.
func (p *pass) entrances() (zones map[string]*Observed, own []Address) {
	zones = map[string]*Observed{}
	for o := range p.s.List(kind.MeshZoneAddress, "") {
		spec := resource.SpecOf[kind.MeshZoneAddressSpec](o)
		a, ok := addressOf(o.Mesh, spec.Address, spec.Port)
		switch zone := o.Zone(); {
		case !ok || zone == "":
		case zone == p.site.Zone:
			own = append(own, a)
		default:
			if zones[zone] == nil {
				zones[zone] = &Observed{Zone: zone, Addresses: map[Address][]Sighting{}, Closed: map[Address]bool{}}
			}
			zones[zone].Addresses[a] = nil
		}
	}
	return zones, own
}

// sight adds what probers say.
func (p *pass) sight(zones map[string]*Observed, probers []resource.ID) {
	for _, id := range probers {
		id.Type = kind.ZoneProbe
		o := p.s.Get(id)
		if o == nil {
			continue
		}
		for _, t := range resource.SpecOf[kind.ZoneProbeSpec](o).Targets {
			a, ok := addressOf(id.Mesh, t.Address, t.Port)
			z := zones[t.Zone]
			if !ok || z == nil {
				continue
			}
			if list, there := z.Addresses[a]; there {
				z.Addresses[a] = append(list, Sighting{State: t.State, RTTMillis: t.RTTMillis, Loss: t.Loss, Reason: t.Reason})
			}
		}
	}
}

// believe adds what a zone says of itself.
func (p *pass) believe(z *Observed) {
	for o := range p.s.List(kind.ZoneLink, "") {
		spec := resource.SpecOf[kind.ZoneLinkSpec](o)
		if spec.Observer != z.Zone || spec.Observed != z.Zone || o.Zone() != z.Zone {
			continue
		}
		for _, x := range spec.Addresses {
			if a, ok := addressOf(x.Mesh, x.Address, x.Port); ok && x.State == kind.LinkDown {
				z.Closed[a] = true
			}
		}
	}
}

func (p *pass) link(observer, observed string) *kind.ZoneLinkSpec {
	if o := p.s.Get(linkID(observer, observed)); o != nil {
		return resource.SpecOf[kind.ZoneLinkSpec](o)
	}
	return nil
}

func linkID(observer, observed string) resource.ID {
	return resource.ID{Type: kind.ZoneLink, Name: kind.ZoneLinkName(observer, observed)}
}

// write wants links stored where they changed, and removes those of this zone to
// what is no longer there.
func (p *pass) write(links []*kind.ZoneLinkSpec) {
	k := p.View.Kinds().ByType(kind.ZoneLink)
	wanted := map[string]bool{}
	for _, l := range links {
		id := linkID(l.Observer, l.Observed)
		wanted[id.Name] = true
		old := p.s.Get(id)
		var was *kind.ZoneLinkSpec
		expect := int64(store.Absent)
		if old != nil {
			if was = resource.SpecOf[kind.ZoneLinkSpec](old); sameLink(was, l) {
				continue
			}
			expect = int64(old.Version)
		}
		o, err := k.New(resource.Meta{ID: id, Labels: p.site.ComputeLabels(k, id.Name, "", nil)}, l, nil)
		if err != nil {
			p.Log.Error("a link to another zone cannot be encoded", "link", id.Name, "error", err)
			continue
		}
		p.ops = append(p.ops, store.Put(o, expect, store.ControlPlane))
		p.announce(was, l)
	}
	for o := range p.s.List(kind.ZoneLink, "") {
		if !wanted[o.Name] && p.site.LocallyOriginated(o.Labels) {
			p.ops = append(p.ops, store.Delete(o.ID, int64(o.Version), store.ControlPlane))
		}
	}
}

// announce has it logged when traffic moves.
func (p *pass) announce(was, is *kind.ZoneLinkSpec) {
	if is.Observer == is.Observed {
		return
	}
	before := was != nil && was.Withdrawn
	switch {
	case is.Withdrawn && !before:
		p.said = append(p.said, func() {
			p.Log.Warn("a zone is withdrawn: no traffic goes there that others can serve", "zone", is.Observed, "reason", is.Reason, "flaps", is.Flaps)
		})
	case !is.Withdrawn && before:
		p.said = append(p.said, func() { p.Log.Info("a zone is back", "zone", is.Observed, "away", p.now.Sub(was.Since)) })
	}
}

// sameLink tells whether nothing is new that is worth being written: measurements
// are when they moved far.
func sameLink(a, b *kind.ZoneLinkSpec) bool {
	if a.State != b.State || a.Withdrawn != b.Withdrawn || a.Flaps != b.Flaps || a.Probers != b.Probers ||
		(a.Reason == "") != (b.Reason == "") || len(a.Addresses) != len(b.Addresses) || moved(a.RTTMillis, b.RTTMillis, a.Loss, b.Loss) {
		return false
	}
	for i := range a.Addresses {
		x, y := &a.Addresses[i], &b.Addresses[i]
		if x.Mesh != y.Mesh || x.Address != y.Address || x.Port != y.Port || x.State != y.State ||
			x.Withdrawn != y.Withdrawn || x.Flaps != y.Flaps || x.Share != y.Share || moved(x.RTTMillis, y.RTTMillis, x.Loss, y.Loss) {
			return false
		}
	}
	return true
}

func moved(rttA, rttB, lossA, lossB float64) bool {
	d := math.Abs(rttA - rttB)
	return d >= 5 && d >= 0.5*rttA || (rttA == 0) != (rttB == 0) || math.Abs(lossA-lossB) >= 0.2
}
