// Package liveness decides from which zones this one keeps its traffic away. Each
// zone decides for itself, by what its own proxies find out about the entrances
// of others; what zones say of each other is merged for people only.
package liveness

import (
	"cmp"
	"slices"
	"time"

	"github.com/atoll-mesh/atoll/pkg/kind"
)

const (
	// confirm is how long a zone that looks away must do so while there are others
	// to compare it with: who is blind finds out meanwhile. Probers ask all zones
	// every half second once one of them is in doubt, and what was under way when the
	// zone became blind makes a difference of one turn; then it has to be reported.
	confirm = 800 * time.Millisecond
	// regain is how long after this zone was blind others must be away still: they
	// do not all come back into its sight at the same moment.
	regain = 5 * time.Second
	// undo is how long ago a zone may have been withdrawn for that to be taken
	// back when it turns out that this zone is blind.
	undo = 5 * time.Second
	// damped is how long a return must have lasted for the next time that the
	// address goes away to count as the first.
	damped = 10 * time.Minute
	// firstShare is the percentage of its requests that an address gets when it is
	// back, and what each shareStep adds: connections are made and caches filled
	// again by a few requests, and not by all.
	firstShare = 20
	shareStep  = 750 * time.Millisecond
	// degradedLoss is the share of lost probes from which a link is Degraded.
	degradedLoss = 0.2
	// forgotten is how long a decision holds of which nothing is heard any more.
	forgotten = 5 * time.Minute
)

// holds are how long an address that answers again is kept away still, by how
// often it went away within damped. Its probers have seen three seconds of
// success by then.
var holds = []time.Duration{0, 12 * time.Second, 48 * time.Second, 3 * time.Minute}

func hold(flaps int32) time.Duration {
	return holds[min(max(int(flaps)-1, 0), len(holds)-1)]
}

// Address is an entrance of a zone.
type Address struct {
	Mesh, Host string
	Port       int32
}

func (a Address) compare(b Address) int {
	return cmp.Or(cmp.Compare(a.Mesh, b.Mesh), cmp.Compare(a.Host, b.Host), cmp.Compare(a.Port, b.Port))
}

// Sighting is what one prober says of an address.
type Sighting struct {
	State     kind.ZoneLinkState
	RTTMillis float64
	Loss      float64
	Reason    string
}

// Observed is another zone as it appears now.
type Observed struct {
	Zone      string
	Addresses map[Address][]Sighting // every entrance, by probers that are connected
	// Closed are entrances of which the zone itself says that nobody stands behind.
	Closed map[Address]bool
	// Last is what was decided before; nil: nothing.
	Last *kind.ZoneLinkSpec
}

// Input is everything that a decision depends on.
type Input struct {
	Observer string
	Zones    []Observed
	// Global: the control plane of this zone is in contact with its global, which
	// is what tells a zone with a single other one that it is not alone.
	Global  bool
	Probers int32
}

// Judge makes decisions. It remembers what is going on between two of them, which
// may be lost: then it only takes longer. It is for one goroutine.
type Judge struct {
	at     map[place]*memory
	blind  bool
	seeing time.Time // since when this zone is not blind any more; zero: it never was
}

type place struct {
	zone string
	Address
}

// memory is of one address.
type memory struct {
	downSince, upSince, silentSince time.Time // zero: it is not
	stepped                         time.Time // when Share was last raised; zero: not known
}

// verdict is what probers say together.
type verdict struct {
	evidence   bool // anybody knows
	down       bool // most of those who know
	up         bool // not down, and somebody reaches it
	rtt, loss  float64
	reason     string
	selfClosed bool
}

// majority is the verdict about an address. known tells that it did answer once:
// then a prober that never got an answer knows as well.
func majority(list []Sighting, known, closed bool) verdict {
	v := verdict{}
	var down, up int
	var rtts []float64
	for _, s := range list {
		switch {
		case s.State == kind.LinkUp:
			up++
		case s.State == kind.LinkDown, known && s.Loss >= 1:
			down++
			v.reason = s.Reason
		default:
			continue
		}
		v.loss += s.Loss
		if s.RTTMillis > 0 {
			rtts = append(rtts, s.RTTMillis)
		}
	}
	n := down + up
	if n == 0 {
		v.down, v.selfClosed, v.evidence = closed, closed, closed
		return v
	}
	v.evidence = true
	v.down = 2*down > n
	v.up = !v.down && up > 0
	v.loss /= float64(n)
	if len(rtts) > 0 {
		slices.Sort(rtts)
		v.rtt = rtts[len(rtts)/2]
	}
	return v
}

// Decide returns the link to each zone, and when to decide again if nothing
// changes until then; zero: never.
func (j *Judge) Decide(in Input, now time.Time) (links []*kind.ZoneLinkSpec, next time.Time) {
	again := func(t time.Time) {
		if next.IsZero() || t.Before(next) {
			next = t
		}
	}
	seen := map[place]*memory{}
	verdicts := make([]map[Address]verdict, len(in.Zones))
	known, gone := 0, 0
	for i, z := range in.Zones {
		verdicts[i] = map[Address]verdict{}
		evidence, alive := false, false
		for a, list := range z.Addresses {
			v := majority(list, lastOf(z.Last, a).known(), z.Closed[a])
			verdicts[i][a] = v
			evidence, alive = evidence || v.evidence, alive || v.up
			m := j.at[place{z.Zone, a}]
			if m == nil {
				m = &memory{}
			}
			m.note(v, now)
			seen[place{z.Zone, a}] = m
		}
		if evidence {
			known++
			if !alive {
				gone++
			}
		}
	}
	j.at = seen
	blind := known > 0 && gone == known && (known > 1 || !in.Global)
	trust := time.Time{} // from when on what is away may be withdrawn
	if blind || j.blind {
		j.blind, j.seeing = blind, now
	}
	if !j.seeing.IsZero() {
		trust = j.seeing.Add(regain)
	}
	for i, z := range in.Zones {
		link := &kind.ZoneLinkSpec{Observer: in.Observer, Observed: z.Zone, Probers: in.Probers}
		for a, v := range verdicts[i] {
			m := seen[place{z.Zone, a}]
			from := m.downSince
			if known > 1 {
				from = from.Add(confirm)
			}
			if trust.After(from) {
				from = trust
			}
			x := decide(lastOf(z.Last, a), v, m, blind, from, now, again)
			x.Mesh, x.Address, x.Port = a.Mesh, a.Host, a.Port
			link.Addresses = append(link.Addresses, x)
		}
		slices.SortFunc(link.Addresses, func(a, b kind.ZoneLinkAddress) int {
			return Address{a.Mesh, a.Address, a.Port}.compare(Address{b.Mesh, b.Address, b.Port})
		})
		sum(link, z.Last, blind, now)
		links = append(links, link)
	}
	return links, next
}

func (m *memory) note(v verdict, now time.Time) {
	set := func(at *time.Time, is bool) {
		if !is {
			*at = time.Time{}
		} else if at.IsZero() {
			*at = now
		}
	}
	set(&m.downSince, v.evidence && v.down)
	set(&m.upSince, v.up)
	set(&m.silentSince, !v.evidence)
}

// last is what was decided about an address before.
type last struct {
	kind.ZoneLinkAddress
	ever bool
}

func lastOf(link *kind.ZoneLinkSpec, a Address) last {
	if link != nil {
		for _, x := range link.Addresses {
			if (Address{x.Mesh, x.Address, x.Port}) == a {
				return last{x, true}
			}
		}
	}
	return last{ZoneLinkAddress: kind.ZoneLinkAddress{State: kind.LinkUnknown}}
}

// known tells whether the address ever answered a probe.
func (l last) known() bool { return l.ever && l.State != kind.LinkUnknown }

// decide is about one address, which may be withdrawn from a moment on.
func decide(was last, v verdict, m *memory, blind bool, from, now time.Time, again func(time.Time)) kind.ZoneLinkAddress {
	x := kind.ZoneLinkAddress{
		State: was.State, Withdrawn: was.Withdrawn, Since: was.Since, Flaps: was.Flaps,
		RTTMillis: round(v.rtt, 100), Loss: round(v.loss, 100),
	}
	switch {
	case !v.evidence:
		if was.Withdrawn {
			// The last decision holds, but not for ever.
			if end := m.silentSince.Add(forgotten); now.Before(end) {
				again(end)
				x.Reason = was.Reason
				return x
			}
		} else if was.ever && was.State != kind.LinkUnknown && now.Before(m.silentSince.Add(forgotten)) {
			again(m.silentSince.Add(forgotten))
			x.Share = returning(was, m, now, again)
			return x
		}
		x.State, x.Withdrawn = kind.LinkUnknown, false
	case v.down:
		x.State, x.Reason = kind.LinkDown, v.reason
		if v.selfClosed {
			x.Reason = "the zone says that none of its entrances is ready"
		}
		switch {
		case blind:
			if was.Withdrawn && now.Sub(was.Since) < undo {
				x.Withdrawn = false
				x.Flaps = max(0, was.Flaps-1)
			}
		case was.Withdrawn:
		case now.Before(from):
			again(from)
			x.State, x.Reason, x.Share = was.State, was.Reason, was.Share
		default:
			x.Withdrawn = true
			if now.Sub(was.Since) >= damped {
				x.Flaps = 0
			}
			x.Flaps++
		}
	default:
		x.State = kind.LinkUp
		if v.loss >= degradedLoss {
			x.State, x.Reason = kind.LinkDegraded, "many probes are lost"
		}
		if was.Withdrawn {
			if end := m.upSince.Add(hold(was.Flaps)); now.Before(end) {
				again(end)
				x.Reason = "it answers again, and is kept away for a while because it went away several times"
			} else {
				x.Withdrawn = false
			}
		}
		if !x.Withdrawn {
			x.Share = returning(was, m, now, again)
		}
	}
	if !was.ever || x.State != was.State || x.Withdrawn != was.Withdrawn {
		x.Since = now
	}
	return x
}

// returning is what share of its requests an address gets that answers: a part
// right after it was withdrawn, more with each step, and 0, which is all, in the
// end.
func returning(was last, m *memory, now time.Time, again func(time.Time)) int32 {
	share := was.Share
	switch {
	case was.Withdrawn:
		share, m.stepped = firstShare, now
	case share == 0:
		return 0
	case m.stepped.IsZero():
		m.stepped = now
	case !now.Before(m.stepped.Add(shareStep)):
		share, m.stepped = share+firstShare, now
	}
	if share >= 100 {
		return 0
	}
	again(m.stepped.Add(shareStep))
	return share
}

// sum says of a zone what its addresses say together.
func sum(link, was *kind.ZoneLinkSpec, blind bool, now time.Time) {
	states := map[kind.ZoneLinkState]int{}
	away := 0
	var rtts []float64
	for _, a := range link.Addresses {
		states[a.State]++
		if a.Withdrawn {
			away++
		}
		if a.RTTMillis > 0 {
			rtts = append(rtts, a.RTTMillis)
		}
		link.Loss = max(link.Loss, a.Loss)
		link.Flaps = max(link.Flaps, a.Flaps)
		link.Reason = cmp.Or(link.Reason, a.Reason)
	}
	if len(rtts) > 0 {
		slices.Sort(rtts)
		link.RTTMillis = rtts[len(rtts)/2]
	}
	n := len(link.Addresses)
	link.Withdrawn = n > 0 && away == n
	switch {
	case n == 0 || states[kind.LinkUnknown] == n:
		link.State = kind.LinkUnknown
	case states[kind.LinkDown]+states[kind.LinkUnknown] == n:
		link.State = kind.LinkDown
	case states[kind.LinkUp]+states[kind.LinkUnknown] == n && away == 0:
		link.State = kind.LinkUp
	default:
		link.State = kind.LinkDegraded
	}
	if blind && link.State == kind.LinkDown {
		link.Reason = "no other zone can be reached, so that this one does not trust what it sees and withdraws nothing"
	}
	link.Since = now
	if was != nil && was.State == link.State && was.Withdrawn == link.Withdrawn {
		link.Since = was.Since
	}
}

func round(v float64, steps float64) float64 { return float64(int64(v*steps+0.5)) / steps }
