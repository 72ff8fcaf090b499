package drain_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	system_proto "github.com/atoll-mesh/atoll/api/kuma/system/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/drain"
	"github.com/atoll-mesh/atoll/pkg/kind"
)

// clock plays a drain in virtual time.
type clock struct {
	t           *testing.T
	now         time.Time
	zone        *system_proto.Zone
	status      *kind.ZoneTrafficStatus
	reasons     map[drain.Target][]string
	recheck     bool
	behind      []string
	offline     map[string]bool
	connections *int64
	proxies     *kind.DrainProxies
	due         time.Time
	traffic     *kind.ZoneTrafficSpec
}

func start(t *testing.T, d *system_proto.ZoneDrain) *clock {
	return &clock{
		t: t, now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), zone: &system_proto.Zone{Drain: d},
		reasons: map[drain.Target][]string{},
	}
}

func (c *clock) step() {
	before := c.status
	c.status, c.due = drain.Step(drain.Facts{
		Now: c.now, Drain: c.zone.GetDrain(), Want: drain.Wanted(c.zone), Status: c.status,
		Reasons: func(t drain.Target) []string { return c.reasons[t] }, Recheck: c.recheck,
		Behind: c.behind, Offline: c.offline,
		Connections: func(drain.Target) *int64 { return c.connections },
		Proxies:     func() *kind.DrainProxies { return c.proxies },
	})
	c.traffic = drain.Traffic(c.traffic, before, c.status)
}

// play steps whenever a step is due, for a time, and tells what changed when.
func (c *clock) play(d time.Duration) []string {
	var out []string
	start, end := c.now, c.now.Add(d)
	for {
		was := c.text()
		c.step()
		if is := c.text(); is != was {
			out = append(out, fmt.Sprintf("%gs %s", c.now.Sub(start).Seconds(), is))
		}
		if c.due.IsZero() || c.due.After(end) {
			c.now = end
			return out
		}
		if !c.due.After(c.now) {
			c.t.Fatalf("due at %s, now %s: a step makes no progress", c.due, c.now)
		}
		c.now = c.due
	}
}

func (c *clock) text() string {
	if c.status == nil {
		return "none"
	}
	s := ""
	for _, d := range c.status.Drains {
		s += fmt.Sprintf("%s %s %d ", d.Service, d.Phase, d.Share)
	}
	return s
}

func (c *clock) want(what string, got []string, want ...string) {
	c.t.Helper()
	if !slices.Equal(got, want) {
		c.t.Errorf("%s:\ngot  %q\nwant %q", what, got, want)
	}
}

func whole() *system_proto.ZoneDrain {
	return &system_proto.ZoneDrain{Enabled: true, Ramp: durationpb.New(8 * time.Second), Timeout: durationpb.New(30 * time.Second)}
}

func TestDrainAndBack(t *testing.T) {
	c := start(t, whole())
	c.want("nobody knows of connections", c.play(time.Minute),
		"0s  Draining 75 ", "2s  Draining 50 ", "4s  Draining 25 ", "6s  Draining 10 ", "8s  Waiting 0 ", "38s  Drained 0 ")
	if !c.due.IsZero() {
		t.Errorf("something is due at %s after the end", c.due)
	}
	if tr := c.traffic; tr.Share != 0 || tr.Closed != 1 {
		t.Errorf("%+v", tr)
	}
	c.zone.Drain = nil
	c.want("back", c.play(time.Minute),
		"0s  Undraining 10 ", "2s  Undraining 25 ", "4s  Undraining 50 ", "6s  Undraining 75 ", "8s none")
	if tr := c.traffic; tr == nil || tr.Share != 100 || tr.Closed != 1 {
		t.Errorf("connections would be closed once more: %+v", tr)
	}
	c.zone.Drain = whole()
	c.play(time.Minute)
	if tr := c.traffic; tr.Closed != 2 {
		t.Errorf("connections are not closed the second time: %+v", tr)
	}
}

func TestDrainEndsWhenEmpty(t *testing.T) {
	c := start(t, whole())
	c.connections = new(int64(3))
	c.play(15 * time.Second)
	c.connections = new(int64(0))
	c.want("empty", c.play(time.Minute), "0s  Drained 0 ")
}

// Zones that do not obey are waited for, offline ones only until the timeout.
func TestDrainWaitsForZones(t *testing.T) {
	c := start(t, whole())
	c.connections, c.behind = new(int64(0)), []string{"north"}
	c.play(100 * time.Second)
	c.want("a zone that is online", []string{c.text()}, " Waiting 0 ")
	c.offline = map[string]bool{"north": true}
	c.want("it goes away", c.play(time.Second), "0s  Drained 0 ")

	c = start(t, whole())
	c.connections, c.behind, c.offline = new(int64(0)), []string{"north"}, map[string]bool{"north": true}
	c.play(37 * time.Second)
	c.want("an offline zone", []string{c.text()}, " Waiting 0 ")
	c.want("its time is over", c.play(10*time.Second), "1s  Drained 0 ")
}

// Each proxy that acknowledges what it was told is waited for, until the timeout.
func TestDrainWaitsForProxies(t *testing.T) {
	c := start(t, whole())
	c.connections, c.proxies = new(int64(0)), &kind.DrainProxies{Connected: 214, Behind: 3, Zones: []string{"north"}}
	c.play(20 * time.Second)
	c.want("some do not follow", []string{c.text()}, " Waiting 0 ")
	if p := c.status.Drains[0].Proxies; p == nil || p.Behind != 3 || p.Connected != 214 {
		t.Errorf("the progress says %+v", p)
	}
	c.proxies = &kind.DrainProxies{Connected: 214}
	c.want("they do", c.play(time.Second), "0s  Drained 0 ")

	c = start(t, whole())
	c.connections, c.proxies = new(int64(0)), &kind.DrainProxies{Connected: 2, Behind: 1}
	c.want("its time is over", c.play(time.Minute)[4:], "8s  Waiting 0 ", "38s  Drained 0 ")
	if p := c.status.Drains[0].Proxies; p == nil || p.Behind != 1 {
		t.Errorf("who did not follow until the end is not told: %+v", p)
	}
	c.zone.Drain = nil
	c.play(time.Second)
	if p := c.status.Drains[0].Proxies; p != nil {
		t.Errorf("on the way back there is %+v", p)
	}
}

func TestDrainRefused(t *testing.T) {
	c := start(t, whole())
	c.reasons[drain.Target{}] = []string{"ATL1001 something"}
	c.want("refused", c.play(time.Minute), "0s  Refused 100 ")
	if tr := c.traffic; tr.Share != 100 || len(c.status.Drains[0].Reasons) != 1 {
		t.Errorf("%+v %+v", tr, c.status)
	}
	delete(c.reasons, drain.Target{})
	c.want("nobody looked", c.play(time.Second))
	c.recheck = true
	c.want("mended", c.play(time.Second), "0s  Draining 75 ")

	c = start(t, whole())
	c.reasons[drain.Target{}] = []string{"ATL1001 something"}
	c.play(time.Second)
	c.zone.Drain.Force = true
	c.want("forced", c.play(time.Second), "0s  Draining 75 ")
	if !c.status.Drains[0].Forced || len(c.status.Drains[0].Reasons) != 1 {
		t.Errorf("what was accepted is not told: %+v", c.status.Drains[0])
	}

	c = start(t, whole())
	c.reasons[drain.Target{}] = []string{"ATL1001 something"}
	c.play(time.Second)
	c.zone.Drain = nil
	c.want("wish withdrawn", c.play(time.Second), "0s none")
}

// Whoever changes their mind halfway goes on from where it is.
func TestDrainTurnsAround(t *testing.T) {
	c := start(t, whole())
	c.play(4 * time.Second)
	c.zone.Drain = nil
	c.want("back halfway", c.play(3*time.Second), "0s  Undraining 50 ", "2s  Undraining 75 ")
	c.zone.Drain = whole()
	c.want("down again", c.play(3*time.Second), "0s  Draining 50 ", "2s  Draining 25 ")
}

// A process that starts anew finds all in the status.
func TestDrainSurvivesRestart(t *testing.T) {
	c := start(t, whole())
	c.play(5 * time.Second)
	c.now = c.now.Add(time.Hour) // nobody led
	c.want("goes on", c.play(4*time.Second), "0s  Draining 10 ", "2s  Waiting 0 ")
}

func TestDrainOfServices(t *testing.T) {
	c := start(t, &system_proto.ZoneDrain{
		Services: []*system_proto.ZoneDrainService{{Mesh: "m", Name: "b"}, {Mesh: "m", Name: "a"}},
		Ramp:     durationpb.New(4 * time.Second), Timeout: durationpb.New(0),
	})
	c.reasons[drain.Target{Mesh: "m", Service: "a"}] = []string{"no"}
	c.want("one of two is refused", c.play(time.Second/2), "0s a Refused 100 b Draining 75 ")
	tr := c.traffic
	if tr.Share != 100 || len(tr.Services) != 1 || tr.Services[0].Name != "b" || tr.Services[0].Share != 75 {
		t.Errorf("%+v", tr)
	}
	c.zone.Drain.Enabled = true
	c.play(20 * time.Second)
	c.want("and all of the zone", []string{c.text()}, " Drained 0 a Refused 100 b Drained 0 ")
	c.zone.Drain.Enabled = false
	c.play(20 * time.Second)
	c.want("the zone is back", []string{c.text()}, "a Refused 100 b Drained 0 ")
}
