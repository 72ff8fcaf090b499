// Package drain takes zones, and services of zones, out of the traffic step by
// step and puts them back. What a Zone wants is in its drain; how far it is, in
// the ZoneTraffic of the same name, so that whoever leads next goes on there.
package drain

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	system_proto "github.com/atoll-mesh/atoll/api/kuma/system/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// Target is what is drained of a zone: a service, or all of it.
type Target struct{ Mesh, Service, Namespace string }

func (t Target) compare(u Target) int {
	return cmp.Or(strings.Compare(t.Mesh, u.Mesh), strings.Compare(t.Service, u.Service), strings.Compare(t.Namespace, u.Namespace))
}

func targetOf(s *kind.DrainStatus) Target { return Target{s.Mesh, s.Service, s.Namespace} }

// Wanted is what a Zone wants drained, sorted; of no Zone nothing.
func Wanted(z *system_proto.Zone) []Target {
	var out []Target
	if z.GetDrain().GetEnabled() {
		out = append(out, Target{})
	}
	for _, s := range z.GetDrain().GetServices() {
		out = append(out, Target{s.GetMesh(), s.GetName(), s.GetNamespace()})
	}
	slices.SortFunc(out, Target.compare)
	return slices.Compact(out)
}

// Facts is what a step depends on.
type Facts struct {
	Now    time.Time
	Drain  *system_proto.ZoneDrain // nil: nothing is wanted
	Want   []Target
	Status *kind.ZoneTrafficStatus // nil: nothing happens yet
	// Reasons says what would break. It is asked before anything moves, and with
	// Recheck of what was refused.
	Reasons func(Target) []string
	Recheck bool
	// Behind are the zones that do not obey yet. Offline ones among them are not
	// waited for after the timeout.
	Behind  []string
	Offline map[string]bool
	// Connections that remain; nil when nobody knows. It is asked while a target
	// waits.
	Connections func(Target) *int64
	// Proxies tells how many proxies of all zones follow; nil when nobody knows. It
	// is asked while a target waits.
	Proxies func() *kind.DrainProxies
}

// stairs are the shares between all and none. Small ones come last, so that
// others warm up before they carry everything.
var stairs = []int32{100, 75, 50, 25, 10, 0}

const (
	// settle is the least time between the last step and the end: what was on its
	// way when the zones obeyed.
	settle = 2 * time.Second
	// look is how often connections are counted. Proxies tell when they are asked,
	// and not by themselves.
	look = time.Second
)

// Step returns how far every drain is now, and when the next step is due; nil
// when nothing is drained.
func Step(f Facts) (*kind.ZoneTrafficStatus, time.Time) {
	next := &kind.ZoneTrafficStatus{}
	left := slices.Clone(f.Want)
	if f.Status != nil {
		for i := range f.Status.Drains {
			d := f.Status.Drains[i]
			at := slices.Index(left, targetOf(&d))
			if at >= 0 {
				left = slices.Delete(left, at, at+1)
			}
			if f.advance(&d, at >= 0) {
				next.Drains = append(next.Drains, d)
			}
		}
	}
	for _, t := range left {
		d := kind.DrainStatus{Mesh: t.Mesh, Service: t.Service, Namespace: t.Namespace, Share: 100}
		f.begin(&d)
		next.Drains = append(next.Drains, d)
	}
	if len(next.Drains) == 0 {
		return nil, time.Time{}
	}
	slices.SortFunc(next.Drains, func(a, b kind.DrainStatus) int { return targetOf(&a).compare(targetOf(&b)) })
	var due time.Time
	for i := range next.Drains {
		n := next.Drains[i].Next
		if next.Drains[i].Phase == kind.DrainWaiting {
			n = new(f.Now.Add(look))
		}
		if n != nil && (due.IsZero() || n.Before(due)) {
			due = *n
		}
	}
	return next, due
}

// begin starts a drain, or refuses to.
func (f *Facts) begin(d *kind.DrainStatus) {
	ramp, timeout := kind.DrainTimes(f.Drain)
	d.Ramp, d.Timeout, d.Forced = ramp.String(), timeout.String(), f.Drain.GetForce()
	if d.Reasons = f.Reasons(targetOf(d)); len(d.Reasons) > 0 && !d.Forced {
		if d.Phase != kind.DrainRefused {
			f.enter(d, kind.DrainRefused)
		}
		return
	}
	f.enter(d, kind.DrainRamping)
	f.down(d)
}

func (f *Facts) enter(d *kind.DrainStatus, p kind.DrainPhase) {
	d.Phase, d.Since = p, f.Now.UTC().Truncate(time.Millisecond)
	d.Next, d.Behind, d.Proxies, d.Connections = nil, nil, nil, nil
}

// advance brings one drain to now; false when it is over.
func (f *Facts) advance(d *kind.DrainStatus, wanted bool) bool {
	if !wanted {
		return f.back(d)
	}
	ramp, timeout := kind.DrainTimes(f.Drain)
	d.Ramp, d.Timeout = ramp.String(), timeout.String()
	switch d.Phase {
	case kind.DrainRefused:
		if f.Recheck || f.Drain.GetForce() {
			f.begin(d)
		}
	case kind.DrainReturning: // wanted again
		f.begin(d)
	case kind.DrainRamping:
		if d.Next == nil || !d.Next.After(f.Now) {
			f.down(d)
		}
	case kind.DrainWaiting:
		f.await(d, timeout)
	}
	return true
}

// down takes the next step.
func (f *Facts) down(d *kind.DrainStatus) {
	i := slices.IndexFunc(stairs, func(s int32) bool { return s < d.Share })
	d.Share = stairs[i]
	if d.Share == 0 {
		f.enter(d, kind.DrainWaiting)
		return
	}
	f.after(d, pause(d))
}

// back takes a step up; false when the share is whole again.
func (f *Facts) back(d *kind.DrainStatus) bool {
	if d.Phase == kind.DrainRefused || d.Share == 100 {
		return false
	}
	if d.Phase != kind.DrainReturning {
		f.enter(d, kind.DrainReturning)
		d.Reasons = nil
	} else if d.Next != nil && d.Next.After(f.Now) {
		return true
	}
	i := slices.IndexFunc(stairs, func(s int32) bool { return s <= d.Share })
	if d.Share = stairs[i-1]; d.Share == 100 {
		return false
	}
	f.after(d, pause(d))
	return true
}

// await waits for zones to obey, then for each of their proxies, and then for
// connections.
func (f *Facts) await(d *kind.DrainStatus, timeout time.Duration) {
	d.Behind, d.Proxies = f.Behind, f.Proxies()
	over := f.Now.Sub(d.Since) >= timeout
	deaf := slices.ContainsFunc(f.Behind, func(z string) bool { return !over || !f.Offline[z] })
	d.Connections = f.Connections(targetOf(d))
	empty := d.Connections != nil && *d.Connections == 0
	follow := d.Proxies == nil || d.Proxies.Behind == 0
	if !deaf && (over || follow && empty && f.Now.Sub(d.Since) >= settle) {
		behind, proxies, n := d.Behind, d.Proxies, d.Connections
		f.enter(d, kind.Drained)
		d.Behind, d.Proxies, d.Connections = behind, proxies, n
	}
}

func (f *Facts) after(d *kind.DrainStatus, wait time.Duration) {
	at := f.Now.Add(wait).UTC().Truncate(time.Millisecond)
	d.Next = &at
}

// pause is the time between two steps.
func pause(d *kind.DrainStatus) time.Duration {
	ramp, err := time.ParseDuration(d.Ramp)
	if err != nil { // written by a newer version
		ramp = kind.DefaultDrainRamp
	}
	return ramp / time.Duration(len(stairs)-2)
}

// Traffic is what zones are told of a status, which follows another; nil when
// there is nothing to tell. Connections are closed when a drain ends; how often
// that was is told for ever, since to tell less often would be news too.
func Traffic(was *kind.ZoneTrafficSpec, before, now *kind.ZoneTrafficStatus) *kind.ZoneTrafficSpec {
	ended := map[Target]bool{}
	if before != nil {
		for i := range before.Drains {
			ended[targetOf(&before.Drains[i])] = before.Drains[i].Phase == kind.Drained
		}
	}
	spec := &kind.ZoneTrafficSpec{Share: 100}
	services := map[Target]kind.ServiceTraffic{}
	if was != nil {
		spec.Closed = was.Closed
		for _, s := range was.Services {
			if s.Share = 100; s.Closed > 0 {
				services[Target{s.Mesh, s.Name, s.Namespace}] = s
			}
		}
	}
	if now != nil {
		for i := range now.Drains {
			d := &now.Drains[i]
			t := targetOf(d)
			closed := int64(0)
			if d.Phase == kind.Drained && !ended[t] {
				closed = 1
			}
			if t == (Target{}) {
				spec.Share = d.Share
				spec.Closed += closed
				continue
			}
			s := services[t]
			s.Mesh, s.Name, s.Namespace, s.Share = t.Mesh, t.Service, t.Namespace, d.Share
			if s.Closed += closed; s.Share < 100 || s.Closed > 0 {
				services[t] = s
			}
		}
	}
	for _, t := range slices.SortedFunc(maps.Keys(services), Target.compare) {
		spec.Services = append(spec.Services, services[t])
	}
	if spec.Share == 100 && spec.Closed == 0 && len(spec.Services) == 0 && now == nil {
		return nil
	}
	return spec
}

// Of returns the progress of a zone's drains, as its ZoneTraffic has it.
func Of(traffic *resource.Object) []kind.DrainStatus {
	if traffic == nil {
		return nil
	}
	if s := resource.StatusOf[kind.ZoneTrafficStatus](traffic); s != nil {
		return s.Drains
	}
	return nil
}
