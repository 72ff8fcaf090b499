package zoneprobe

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// far is another zone whose entrance does what the test says.
type far struct {
	mu     sync.Mutex
	mode   string // ok, refuse, hang, blind
	asked  int
	taken  bool // reports are
	states []string
	last   []Finding
}

func (f *far) set(mode string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mode = mode
}

func (f *far) ask(ctx context.Context, _ Target) error {
	f.mu.Lock()
	mode := f.mode
	f.asked++
	f.mu.Unlock()
	wait := func(d time.Duration) {
		select {
		case <-time.After(d):
		case <-ctx.Done():
		}
	}
	switch mode {
	case "refuse":
		return errors.New("refused")
	case "hang":
		wait(time.Second) // which is when Envoy gives up
		return errors.New("timeout")
	case "blind":
		return ErrBlind
	}
	wait(3 * time.Millisecond)
	return nil
}

func (f *far) report(_ context.Context, list []Finding) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.taken {
		return errors.New("away")
	}
	f.last = list
	for _, x := range list {
		if n := len(f.states); n == 0 || f.states[n-1] != string(x.State) {
			f.states = append(f.states, string(x.State))
		}
	}
	return nil
}

func (f *far) state() State {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.last) == 0 {
		return ""
	}
	return f.last[0].State
}

// start runs a prober with one target.
func (f *far) start(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	p := &Prober{
		Targets: func(context.Context) ([]Target, error) {
			return []Target{{Zone: "east", Address: "192.0.2.1", Port: 10001, Path: "/east/192.0.2.1:10001"}}, nil
		},
		Ask: f.ask, Report: f.report, Log: slog.New(slog.DiscardHandler),
	}
	go func() { defer close(done); p.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
}

// until lets time pass until the state is as wanted, and says how long it took.
func (f *far) until(t *testing.T, want State, limit time.Duration) time.Duration {
	t.Helper()
	begin := time.Now()
	for f.state() != want {
		if time.Since(begin) > limit {
			t.Fatalf("still %q after %v, want %q", f.state(), limit, want)
		}
		time.Sleep(10 * time.Millisecond) // of virtual time
		synctest.Wait()
	}
	return time.Since(begin)
}

// Losing an address is noticed within three seconds however it is lost, and its
// return after three seconds of success.
func TestProber(t *testing.T) {
	for _, mode := range []string{"refuse", "hang"} {
		t.Run(mode, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &far{mode: "ok", taken: true}
				f.start(t)
				f.until(t, Up, 5*time.Second)
				for range 20 { // at any phase
					if took := f.after(t, mode, Down); took > 3*time.Second {
						t.Errorf("noticed after %v", took)
					}
					if took := f.after(t, "ok", Up); took < successToUp || took > successToUp+2*time.Second {
						t.Errorf("back after %v", took)
					}
					time.Sleep(137 * time.Millisecond)
				}
				if x := f.last[0]; x.RTTMillis < 3 || x.RTTMillis > 4 || x.Zone != "east" || x.Port != 10001 {
					t.Errorf("found %+v", x)
				}
			})
		})
	}
}

func (f *far) after(t *testing.T, mode string, want State) time.Duration {
	t.Helper()
	f.set(mode)
	return f.until(t, want, 20*time.Second)
}

// One lost probe is nothing, and an address that never answered is not Down.
func TestProberStaysCalm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &far{mode: "refuse", taken: true}
		f.start(t)
		time.Sleep(20 * time.Second)
		synctest.Wait()
		if f.state() != Unknown || f.last[0].Loss != 1 || f.last[0].Reason != "refused" {
			t.Errorf("never answered: %+v", f.last)
		}
		f.set("ok")
		f.until(t, Up, 5*time.Second)
		f.mu.Lock()
		before := f.asked
		f.mu.Unlock()
		time.Sleep(time.Minute)
		f.mu.Lock()
		calm := f.asked - before
		f.mu.Unlock()
		if calm < 55 || calm > 62 {
			t.Errorf("%d probes in a calm minute", calm)
		}
		for range 10 {
			f.set("refuse")
			time.Sleep(900 * time.Millisecond) // at most two probes
			f.set("ok")
			time.Sleep(5 * time.Second)
		}
		if len(f.states) != 2 || f.state() != Up {
			t.Errorf("states %v", f.states)
		}
	})
}

// An agent whose own Envoy does not answer says so and nothing about others, and
// what nobody took is told when somebody does.
func TestProberBlindAndUnheard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &far{mode: "ok", taken: true}
		f.start(t)
		f.until(t, Up, 5*time.Second)
		f.set("blind")
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if f.state() != Up {
			t.Errorf("a short restart of Envoy made it %s", f.state())
		}
		f.until(t, Unknown, 10*time.Second)
		if f.last[0].Loss != 0 {
			t.Errorf("lost %v", f.last[0].Loss)
		}
		f.set("ok")
		f.until(t, Up, 5*time.Second)

		f.mu.Lock()
		f.taken = false
		f.mu.Unlock()
		f.set("refuse")
		time.Sleep(time.Minute)
		if f.state() != Up {
			t.Fatal("a report was taken")
		}
		f.mu.Lock()
		f.taken = true
		f.mu.Unlock()
		if took := f.until(t, Down, 10*time.Second); took > retryMax {
			t.Errorf("told after %v", took)
		}
	})
}
