package liveness

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atoll-mesh/atoll/pkg/agent/zoneprobe"
	"github.com/atoll-mesh/atoll/pkg/kind"
)

// observer is a zone whose probers really probe, in virtual time, links that the
// test turns on and off.
type observer struct {
	mu    sync.Mutex
	judge Judge
	cut   map[string]bool // zones that cannot be reached
	hang  bool            // what is cut does not refuse but is silent
	said  map[string]map[string]Sighting
	last  map[string]*kind.ZoneLinkSpec
	moves map[string]int
	wake  *time.Timer
}

func observe(t *testing.T, hang bool, probers int, zones ...string) *observer {
	o := &observer{hang: hang, cut: map[string]bool{}, said: map[string]map[string]Sighting{}, last: map[string]*kind.ZoneLinkSpec{}, moves: map[string]int{}}
	var targets []zoneprobe.Target
	for _, z := range zones {
		o.said[z] = map[string]Sighting{}
		targets = append(targets, zoneprobe.Target{Zone: z, Address: "192.0.2.1", Port: 10001, Path: "/" + z})
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	t.Cleanup(func() { cancel(); running.Wait() })
	for i := range probers {
		name := string(rune('a' + i))
		p := &zoneprobe.Prober{
			Targets: func(context.Context) ([]zoneprobe.Target, error) { return targets, nil },
			Ask:     o.ask,
			Report: func(_ context.Context, found []zoneprobe.Finding) error {
				o.mu.Lock()
				defer o.mu.Unlock()
				for _, f := range found {
					o.said[f.Zone][name] = Sighting{State: kind.ZoneLinkState(f.State), RTTMillis: f.RTTMillis, Loss: f.Loss, Reason: f.Reason}
				}
				o.decide()
				return nil
			},
			Log: slog.New(slog.DiscardHandler),
		}
		running.Go(func() { p.Run(ctx) })
	}
	return o
}

func (o *observer) ask(ctx context.Context, target zoneprobe.Target) error {
	o.mu.Lock()
	cut, hang := o.cut[target.Zone], o.hang
	o.mu.Unlock()
	d := 2 * time.Millisecond
	if cut && hang {
		d = time.Second
	}
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
	if cut {
		return errors.New("cut off")
	}
	return nil
}

// decide is called with mu held.
func (o *observer) decide() {
	in := Input{Observer: "north"}
	for _, z := range sortedKeys(o.said) {
		x := Observed{Zone: z, Addresses: map[Address][]Sighting{{"default", "192.0.2.1", 10001}: nil}, Last: o.last[z]}
		for _, s := range o.said[z] {
			for a := range x.Addresses {
				x.Addresses[a] = append(x.Addresses[a], s)
			}
		}
		in.Zones = append(in.Zones, x)
	}
	links, next := o.judge.Decide(in, time.Now())
	for _, l := range links {
		if was := o.last[l.Observed]; was != nil && was.Withdrawn != l.Withdrawn {
			o.moves[l.Observed]++
		}
		o.last[l.Observed] = l
	}
	if o.wake != nil {
		o.wake.Stop()
		o.wake = nil
	}
	if !next.IsZero() {
		o.wake = time.AfterFunc(time.Until(next), func() {
			o.mu.Lock()
			defer o.mu.Unlock()
			o.decide()
		})
	}
}

func (o *observer) set(zone string, cut bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.cut[zone] = cut
}

func (o *observer) withdrawn(zone string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.last[zone] != nil && o.last[zone].Withdrawn
}

// A link that is up and down every few seconds moves traffic at most three times
// in ten minutes, whatever its rhythm and whether it refuses or is silent, and
// the zone is used again once it stays up.
func TestFlappingLink(t *testing.T) {
	for _, c := range []struct {
		name     string
		up, down time.Duration
		hang     bool
	}{
		{"2s refusing", 2 * time.Second, 2 * time.Second, false},
		{"2s silent", 2 * time.Second, 2 * time.Second, true},
		{"4s refusing", 4 * time.Second, 4 * time.Second, false},
		{"4s silent", 4 * time.Second, 4 * time.Second, true},
		{"10s refusing", 10 * time.Second, 10 * time.Second, false},
		{"mostly up", 5 * time.Second, 3 * time.Second, false},
		{"mostly down", 3500 * time.Millisecond, 5 * time.Second, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := observe(t, c.hang, 2, "east", "west")
				time.Sleep(10 * time.Second)
				for end := time.Now().Add(10 * time.Minute); time.Now().Before(end); {
					o.set("east", true)
					time.Sleep(c.down)
					o.set("east", false)
					time.Sleep(c.up)
				}
				o.mu.Lock()
				moves, other := o.moves["east"], o.moves["west"]
				o.mu.Unlock()
				t.Logf("%d changes of routing in ten minutes", moves)
				if moves > 3 || other > 0 {
					t.Errorf("traffic moved %d times, and %d times for a zone that was always there", moves, other)
				}
				time.Sleep(10 * time.Minute)
				if o.withdrawn("east") {
					t.Error("the zone is withdrawn though it has been there for ten minutes")
				}
			})
		})
	}
}

// A zone that is lost is withdrawn within four seconds, and used again within
// five of being there again.
func TestReaction(t *testing.T) {
	for _, hang := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			o := observe(t, hang, 2, "east", "west")
			time.Sleep(20 * time.Second)
			until := func(want bool) time.Duration {
				begin := time.Now()
				for o.withdrawn("east") != want && time.Since(begin) < time.Minute {
					time.Sleep(10 * time.Millisecond) // of virtual time
				}
				return time.Since(begin)
			}
			o.set("east", true)
			lost := until(true)
			o.set("east", false)
			back := until(false)
			t.Logf("silent %t: withdrawn after %v, back after %v", hang, lost, back)
			if lost > 4*time.Second || back > 5*time.Second {
				t.Errorf("withdrawn after %v, back after %v", lost, back)
			}
		})
	}
}

// A zone that loses its own way out withdraws nobody.
func TestPartitionedObserver(t *testing.T) {
	for _, hang := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			o := observe(t, hang, 3, "east", "south", "west")
			time.Sleep(20 * time.Second)
			for range 5 {
				for _, z := range []string{"east", "south", "west"} {
					o.set(z, true)
				}
				time.Sleep(30 * time.Second)
				for _, z := range []string{"east", "south", "west"} {
					if o.withdrawn(z) {
						t.Errorf("%s is withdrawn by a zone that sees nobody", z)
					}
					o.set(z, false)
				}
				time.Sleep(30*time.Second + 170*time.Millisecond)
			}
			o.mu.Lock()
			defer o.mu.Unlock()
			for z, n := range o.moves {
				t.Errorf("%s was moved %d times", z, n)
			}
		})
	}
}
