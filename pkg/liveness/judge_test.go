package liveness

import (
	"fmt"
	"testing"
	"time"

	"github.com/atoll-mesh/atoll/pkg/kind"
)

// bench drives a Judge through virtual time, with what it decided as what it
// decided before, as the store does.
type bench struct {
	t     *testing.T
	judge *Judge
	now   time.Time
	in    Input
	zones map[string]map[string][]Sighting // zone → address → what probers say
	close map[string]bool                  // zones that say they have no ingress
	last  map[string]*kind.ZoneLinkSpec
	moves map[string]int // changes of Withdrawn, by zone or zone/address
}

func newBench(t *testing.T) *bench {
	return &bench{
		t: t, judge: &Judge{}, now: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC), in: Input{Observer: "north"},
		zones: map[string]map[string][]Sighting{}, close: map[string]bool{}, last: map[string]*kind.ZoneLinkSpec{}, moves: map[string]int{},
	}
}

func says(states ...kind.ZoneLinkState) (list []Sighting) {
	for _, s := range states {
		x := Sighting{State: s}
		switch s {
		case kind.LinkUp:
			x.RTTMillis = 2
		case kind.LinkDown:
			x.Loss, x.Reason = 1, "timeout"
		}
		list = append(list, x)
	}
	return list
}

// see sets what probers say of an address, without a decision.
func (b *bench) see(zone, address string, states ...kind.ZoneLinkState) {
	if b.zones[zone] == nil {
		b.zones[zone] = map[string][]Sighting{}
	}
	b.zones[zone][address] = says(states...)
}

// step decides now and whenever the judge asks for it, for d.
func (b *bench) step(d time.Duration) {
	end := b.now.Add(d)
	for {
		b.in.Zones = nil
		for _, zone := range sortedKeys(b.zones) {
			o := Observed{Zone: zone, Addresses: map[Address][]Sighting{}, Closed: map[Address]bool{}, Last: b.last[zone]}
			for host, list := range b.zones[zone] {
				a := Address{"default", host, 10001}
				o.Addresses[a], o.Closed[a] = list, b.close[zone]
			}
			b.in.Zones = append(b.in.Zones, o)
		}
		links, next := b.judge.Decide(b.in, b.now)
		for _, l := range links {
			was := b.last[l.Observed]
			if was != nil && was.Withdrawn != l.Withdrawn {
				b.moves[l.Observed]++
			}
			b.last[l.Observed] = l
		}
		if next.IsZero() || next.After(end) {
			b.now = end
			return
		}
		if !next.After(b.now) {
			b.t.Fatalf("asked to decide again at %v, which is past", next)
		}
		b.now = next
	}
}

func (b *bench) want(zone string, state kind.ZoneLinkState, withdrawn bool) {
	b.t.Helper()
	if l := b.last[zone]; l.State != state || l.Withdrawn != withdrawn {
		b.t.Fatalf("%s is %s, withdrawn %t (%s); want %s, %t", zone, l.State, l.Withdrawn, l.Reason, state, withdrawn)
	}
}

const up, down, unknown = kind.LinkUp, kind.LinkDown, kind.LinkUnknown

func TestWithdrawAndReturn(t *testing.T) {
	b := newBench(t)
	b.see("east", "10.0.0.1", up)
	b.see("west", "10.0.0.2", up)
	b.step(time.Minute)
	b.want("east", up, false)
	b.see("east", "10.0.0.1", down)
	b.step(0)
	b.want("east", up, false) // it is not yet known whether the others are there
	b.step(confirm)
	b.want("east", down, true)
	if l := b.last["east"]; l.Reason != "timeout" || !l.Since.Equal(b.now) || l.Flaps != 1 {
		t.Errorf("%+v", l)
	}
	b.step(time.Hour)
	b.want("east", down, true)
	b.see("east", "10.0.0.1", up)
	b.step(0)
	b.want("east", up, false)
	if b.moves["east"] != 2 || b.moves["west"] != 0 {
		t.Errorf("moves %v", b.moves)
	}
}

// Most of those who know decide; who does not know does not count.
// What was withdrawn gets a part of its requests first, more with each step, and
// all in the end; what was not gets all at any time.
func TestReturnBySteps(t *testing.T) {
	b := newBench(t)
	b.see("east", "10.0.0.1", up)
	b.see("west", "10.0.0.2", up)
	b.step(time.Minute)
	share := func(zone string) int32 { return b.last[zone].Addresses[0].Share }
	if share("east") != 0 {
		t.Fatal("an address that was never away gets a part only")
	}
	b.see("east", "10.0.0.1", down)
	b.step(time.Minute)
	b.want("east", down, true)
	b.see("east", "10.0.0.1", up)
	b.step(0)
	for _, want := range []int32{20, 40, 60, 80, 0, 0} {
		b.want("east", up, false)
		if share("east") != want || share("west") != 0 {
			t.Fatalf("it gets %d%%, want %d; the other %d", share("east"), want, share("west"))
		}
		if want == 40 {
			b.step(shareStep / 3) // who looks in between changes nothing
			b.step(shareStep - shareStep/3)
			continue
		}
		if want == 60 {
			b.judge = &Judge{} // another leader
			b.step(0)
		}
		b.step(shareStep)
	}
	// Away again on its way back.
	b.see("east", "10.0.0.1", down)
	b.step(time.Minute)
	b.see("east", "10.0.0.1", up)
	b.step(hold(2))
	if share("east") != 20 {
		t.Fatalf("it gets %d%%", share("east"))
	}
	b.see("east", "10.0.0.1", down)
	b.step(0)
	if share("east") != 20 {
		t.Errorf("it gets %d%% while it is in doubt", share("east"))
	}
	b.step(confirm)
	b.want("east", down, true)
	if share("east") != 0 {
		t.Errorf("what is withdrawn gets %d%%", share("east"))
	}
	// Nobody knows of it any more.
	b.see("east", "10.0.0.1", unknown)
	b.step(forgotten)
	b.want("east", unknown, false)
	if share("east") != 0 {
		t.Errorf("it gets %d%% for ever", share("east"))
	}
}

func TestMajority(t *testing.T) {
	for _, c := range []struct {
		states    []kind.ZoneLinkState
		withdrawn bool
	}{
		{[]kind.ZoneLinkState{down}, true},
		{[]kind.ZoneLinkState{down, up}, false},
		{[]kind.ZoneLinkState{down, down, up}, true},
		{[]kind.ZoneLinkState{down, up, up}, false},
		{[]kind.ZoneLinkState{down, unknown, unknown}, true},
		{[]kind.ZoneLinkState{unknown, unknown}, false},
		{nil, false},
	} {
		t.Run(fmt.Sprint(c.states), func(t *testing.T) {
			b := newBench(t)
			b.see("east", "10.0.0.1", up, up, up)
			b.see("west", "10.0.0.2", up)
			b.step(time.Second)
			b.see("east", "10.0.0.1", c.states...)
			b.step(time.Second)
			if b.last["east"].Withdrawn != c.withdrawn {
				t.Errorf("withdrawn %t", b.last["east"].Withdrawn)
			}
		})
	}
}

// A prober that never got an answer counts for an address that did answer once,
// and for no other: that may be of a zone that answers no probes.
func TestNeverAnswered(t *testing.T) {
	b := newBench(t)
	b.see("west", "10.0.0.2", up)
	b.zones["east"] = map[string][]Sighting{"10.0.0.1": {{State: unknown, Loss: 1}}}
	b.step(time.Minute)
	b.want("east", unknown, false)
	b.see("east", "10.0.0.1", up)
	b.step(time.Minute)
	b.zones["east"]["10.0.0.1"] = []Sighting{{State: unknown, Loss: 1}} // a new prober
	b.step(time.Minute)
	b.want("east", down, true)
}

func TestBlind(t *testing.T) {
	b := newBench(t)
	for _, z := range []string{"east", "south", "west"} {
		b.see(z, "10.0.0.1", up)
	}
	b.step(time.Minute)
	b.see("east", "10.0.0.1", down)
	b.step(2 * time.Second)
	b.want("east", down, true)
	b.see("south", "10.0.0.1", down)
	b.see("west", "10.0.0.1", down)
	b.step(time.Minute)
	b.want("south", down, false)
	b.want("west", down, false)
	b.want("east", down, false) // it was the first sign of the same thing
	// When one is there again, the others are really away.
	b.see("west", "10.0.0.1", up)
	b.step(regain - time.Second)
	b.want("west", up, false)
	b.want("south", down, false) // it may only come back into sight a little later
	b.step(time.Second)
	b.want("south", down, true)

	// What was decided long before this zone became blind stays.
	b.step(time.Minute)
	b.see("west", "10.0.0.1", down)
	b.step(time.Minute)
	b.want("west", down, false)
	b.want("south", down, true)
}

// With a single other zone it takes contact with the global to know that it is
// the other one that is away.
func TestOnlyOneOther(t *testing.T) {
	for _, contact := range []bool{false, true} {
		b := newBench(t)
		b.in.Global = contact
		b.see("east", "10.0.0.1", up)
		b.step(time.Minute)
		b.see("east", "10.0.0.1", down)
		b.step(time.Minute)
		b.want("east", down, contact)
	}
}

func TestAddressesLeaveAlone(t *testing.T) {
	b := newBench(t)
	b.see("east", "10.0.0.1", up, up)
	b.see("east", "10.0.0.2", up, up)
	b.step(time.Minute)
	b.see("east", "10.0.0.2", down, down)
	b.step(time.Second)
	b.want("east", kind.LinkDegraded, false)
	if a := b.last["east"].Addresses; a[0].Withdrawn || !a[1].Withdrawn {
		t.Errorf("%+v", a)
	}
	b.in.Global = true
	b.see("east", "10.0.0.1", down, down)
	b.step(time.Second)
	b.want("east", down, true)
	b.see("east", "10.0.0.2", up, up)
	b.step(time.Second)
	b.want("east", kind.LinkDegraded, false)
}

// Each time that a zone goes away again soon, it stays away for longer; after a
// quiet time that is forgotten.
func TestDamping(t *testing.T) {
	b := newBench(t)
	b.see("west", "10.0.0.2", up)
	b.see("east", "10.0.0.1", up)
	b.step(time.Hour)
	for i, held := range append(holds, holds[len(holds)-1]) {
		b.see("east", "10.0.0.1", down)
		b.step(5 * time.Second)
		b.want("east", down, true)
		b.see("east", "10.0.0.1", up)
		if held > 0 {
			b.step(held - time.Second)
			if !b.last["east"].Withdrawn {
				t.Fatalf("flap %d: back before %v", i, held)
			}
		}
		b.step(time.Second)
		b.want("east", up, false)
		b.step(10 * time.Second)
	}
	b.step(damped)
	b.see("east", "10.0.0.1", down)
	b.step(5 * time.Second)
	b.see("east", "10.0.0.1", up)
	b.step(0)
	b.want("east", up, false)
}

// A judge that is new, as after a restart, keeps what was decided until it knows.
func TestRestart(t *testing.T) {
	b := newBench(t)
	b.see("east", "10.0.0.1", up)
	b.see("west", "10.0.0.2", up)
	b.step(time.Minute)
	b.see("east", "10.0.0.1", down)
	b.step(time.Minute)
	moves := b.moves["east"]
	b.judge = &Judge{}
	b.see("east", "10.0.0.1") // no prober has connected yet
	b.see("west", "10.0.0.2")
	b.step(time.Minute)
	b.want("east", down, true)
	b.want("west", up, false)
	b.see("east", "10.0.0.1", down)
	b.see("west", "10.0.0.2", up)
	b.step(time.Minute)
	b.want("east", down, true)
	if b.moves["east"] != moves {
		t.Errorf("a restart moved traffic: %v", b.moves)
	}
	// What nobody can tell any more is not held against a zone for ever.
	b.see("east", "10.0.0.1")
	b.step(2 * forgotten)
	b.want("east", unknown, false)
}

// What a zone says of itself counts where nobody knows better.
func TestClosed(t *testing.T) {
	b := newBench(t)
	b.see("west", "10.0.0.2", up)
	b.see("east", "10.0.0.1")
	b.close["east"] = true
	b.step(time.Second)
	b.want("east", down, true)
	b.see("east", "10.0.0.1", up) // its control plane is mistaken
	b.step(time.Second)
	b.want("east", up, false)
}

func TestVanished(t *testing.T) {
	b := newBench(t)
	b.see("west", "10.0.0.2", up)
	b.see("east", "10.0.0.1", up)
	b.step(time.Minute)
	delete(b.zones, "east")
	b.step(time.Minute)
	if len(b.in.Zones) != 1 || len(b.judge.at) != 1 {
		t.Errorf("%d addresses are remembered", len(b.judge.at))
	}
}
