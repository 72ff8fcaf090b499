// Package faults kills, stops and cuts off the parts of a running Atoll, and
// proves that no acknowledged write is lost, that requests go on, and that all is
// in sync again soon.
package faults

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/atoll-mesh/atoll/test/cluster"
	"github.com/atoll-mesh/atoll/test/cluster/clustertest"
)

// TestFaults lets one world live through one fault after the other.
func TestFaults(t *testing.T) {
	t.Parallel()
	var cable *cluster.Relay // between west and the global
	w := clustertest.Start(t, clustertest.Options{Zone: func(t testing.TB, name string, global *cluster.ControlPlane) []string {
		if name != "west" {
			return nil
		}
		cable = newRelay(t, fmt.Sprintf("127.0.0.1:%d", global.KDSPort))
		return []string{"ATOLL_MULTIZONE_ZONE_GLOBAL_ADDRESS=grpcs://" + cable.Address()}
	}})
	w.MustApply(t, w.Global, clustertest.Route("canary", "start", 1, 1, false))
	for _, z := range w.Zones() {
		if err := clustertest.AwaitChange(t.Context(), clustertest.Patience, z.URL(), "start"); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []struct {
		name string
		run  func(*scenario)
	}{
		{"stop in good order", stopInOrder},
		{"kill the global", killGlobal},
		{"kill a zone", killZone},
		{"kill PostgreSQL", killPostgres},
		{"kill Envoys", killEnvoys},
		{"cut off a zone", func(s *scenario) { cutOff(s, cable) }},
		{"freeze a zone", freezeZone},
		{"restart a zone without its global", restartAlone},
		{"kill everything but Envoys", killAll},
		{"a listener that Envoy refuses", refusedListener},
	} {
		ok := t.Run(f.name, func(t *testing.T) { f.run(begin(t, w)) })
		if !ok {
			t.FailNow() // the others would only show the same
		}
	}
}

func restart(s *scenario, cp *cluster.ControlPlane) time.Time {
	s.Helper()
	begun := time.Now()
	if err := cp.Start(s.Context()); err != nil {
		s.Fatal(err)
	}
	s.Logf("%s is ready %s after its start", cp.Name, time.Since(begun).Round(time.Millisecond))
	return begun
}

// stopInOrder restarts control planes and one of two proxies of a service, as an
// upgrade does: nobody notices.
func stopInOrder(s *scenario) {
	// Less than what a stop that waits for something in vain takes, with room for a
	// disk that hangs for a moment.
	const soon = 8 * time.Second
	stop := func(p *cluster.Process) {
		begun := time.Now()
		if err := p.Stop(); err != nil {
			s.Fatal(err)
		}
		took := time.Since(begun)
		s.Logf("%s stopped after %s", p.Name, took.Round(time.Millisecond))
		if took > soon {
			s.Errorf("%s took %s to stop; its log ends:\n%s", p.Name, took, p.Tail(1000))
		}
	}
	// What begins only now, such as the first route to a service, is not what is
	// looked at.
	for _, z := range s.w.Zones() {
		ctx, cancel := context.WithTimeout(s.Context(), clustertest.Patience)
		err := cluster.Until(ctx, z.URL(), func(ctx context.Context) error {
			if split := cluster.Measure(ctx, z.URL(), 50); split.Failed > 0 {
				return split.Last
			}
			return nil
		})
		cancel()
		if err != nil {
			s.Fatal(err)
		}
	}
	for _, cp := range []*cluster.ControlPlane{s.w.East.ControlPlane, s.w.Global} {
		stop(cp.Process)
		restart(s, cp)
	}
	// A proxy is an endpoint a moment before its Envoy listens; retries, which
	// meshes have by default, make up for it.
	const retry = "type: MeshRetry\nmesh: " + clustertest.Mesh + `
name: join
spec:
  to:
  - targetRef: {kind: Mesh}
    default:
      http: {numRetries: 5, perTryTimeout: 16s, backOff: {baseInterval: 25ms, maxInterval: 250ms}}
`
	s.w.MustApply(s, s.w.Global, retry)
	if err := s.w.East.Has(s.Context(), clustertest.Patience, "/meshes/"+clustertest.Mesh+"/meshretries", "join"); err != nil {
		s.Fatal(err)
	}
	one := s.w.East.V1
	two, err := s.w.Proxy(s.Context(), s.w.East.ControlPlane, s.w.Global, cluster.ProxySpec{
		Mesh: clustertest.Mesh, Name: "backend-2", AppPort: one.Spec.AppPort, Labels: one.Spec.Labels,
	})
	if err != nil {
		s.Fatal(err)
	}
	for _, p := range []*cluster.Proxy{one, two} {
		stop(p.Process)
		if err := p.Start(s.Context()); err != nil {
			s.Fatal(err)
		}
	}
	if _, errOut, code := s.w.Ctl(s, s.w.Global, "", "delete", "meshretry", "join", "-m", clustertest.Mesh); code != 0 {
		s.Fatal(errOut)
	}
	s.recovered(time.Now())
	s.end(nil)
}

func killGlobal(s *scenario) {
	s.w.Global.Kill()
	s.pass(away)
	s.recovered(restart(s, s.w.Global))
	s.end(nil)
}

func killZone(s *scenario) {
	s.w.East.Kill()
	s.pass(away)
	s.recovered(restart(s, s.w.East.ControlPlane))
	s.end(nil)
}

// killPostgres also looks at what the global says meanwhile: reads are answered,
// writes are refused in clear words.
func killPostgres(s *scenario) {
	if err := s.w.Postgres.Kill(); err != nil {
		s.Fatal(err)
	}
	s.pass(away)
	if err := s.w.Global.Do(s.Context(), http.MethodGet, "/meshes/"+clustertest.Mesh, nil, nil); err != nil {
		s.Errorf("a read while PostgreSQL is away: %v", err)
	}
	refusal := put(s.w.Global, "while-away", 1)
	for _, word := range []string{"503", "store is unavailable", "127.0.0.1"} {
		if refusal == nil || !strings.Contains(refusal.Error(), word) {
			s.Errorf("what a write says while PostgreSQL is away has no %q: %v", word, refusal)
		}
	}
	begun := time.Now()
	if err := s.w.Postgres.Start(s.Context()); err != nil {
		s.Fatal(err)
	}
	s.Logf("PostgreSQL takes connections %s after its start", time.Since(begun).Round(time.Millisecond))
	s.recovered(time.Now()) // how long it recovers its files is not ours
	s.end(nil)
}

// killEnvoys kills the Envoy of a backend and then that of the client.
func killEnvoys(s *scenario) {
	const excuse = 3 * time.Second
	east := s.w.East
	var kills []time.Time
	for _, p := range []*cluster.Proxy{east.V1, east.Client} {
		kills = append(kills, time.Now())
		if err := p.KillEnvoy(); err != nil {
			s.Fatal(err)
		}
		s.pass(excuse + every)
	}
	s.recovered(time.Now())
	s.end(func(f cluster.Failure) bool {
		if f.URL != east.URL() {
			return false
		}
		for _, k := range kills {
			if since := f.Time.Sub(k); since > -every && since < excuse {
				return true
			}
		}
		return false
	})
}

// cutOff pulls the cable between a zone and the global, without a word to
// either. The zone can still be changed.
func cutOff(s *scenario, cable *cluster.Relay) {
	cable.Cut()
	west := s.w.West
	ctx, cancel := context.WithTimeout(s.Context(), 20*time.Second)
	defer cancel()
	begun := time.Now()
	err := cluster.Until(ctx, "the global does not notice", func(ctx context.Context) error {
		online, _, err := s.w.Global.Online(ctx, west.Name)
		if err == nil && online {
			err = errors.New("zone west is still online")
		}
		return err
	})
	if err != nil {
		s.Fatal(err)
	}
	s.Logf("the global noticed after %s", time.Since(begun).Round(time.Millisecond))
	s.w.MustApply(s, west.ControlPlane, clustertest.Route("canary-west", "alone", 1, 1, true))
	if err := clustertest.AwaitChange(ctx, clustertest.Patience, west.URL(), "alone"); err != nil {
		s.Fatal(err)
	}
	if _, errOut, code := s.w.Ctl(s, west.ControlPlane, "", "delete", "meshhttproute", "canary-west", "-m", clustertest.Mesh); code != 0 {
		s.Fatal(errOut)
	}
	cable.Heal()
	s.recovered(time.Now())
	s.end(nil)
}

// freezeZone stops a control plane without ending it: its connections stay, its
// lease runs out, and its clock jumps.
func freezeZone(s *scenario) {
	s.w.East.Signal(syscall.SIGSTOP)
	s.pass(away + time.Second)
	s.w.East.Signal(syscall.SIGCONT)
	s.recovered(time.Now())
	s.end(nil)
}

// restartAlone kills the global and a zone. The zone comes back alone and serves
// what it had, and what is changed in it.
func restartAlone(s *scenario) {
	east := s.w.East
	s.w.Global.Kill()
	east.Kill()
	begun := restart(s, east.ControlPlane)
	ctx, cancel := context.WithDeadline(s.Context(), begun.Add(recovery))
	defer cancel()
	if err := online(ctx, east); err != nil {
		s.Fatalf("without its global: %v", err)
	}
	s.w.MustApply(s, east.ControlPlane, clustertest.Route("canary-east", "alone", 1, 1, true))
	if err := clustertest.AwaitChange(ctx, recovery, east.URL(), "alone"); err != nil {
		s.Fatal(err)
	}
	if _, errOut, code := s.w.Ctl(s, east.ControlPlane, "", "delete", "meshhttproute", "canary-east", "-m", clustertest.Mesh); code != 0 {
		s.Fatal(errOut)
	}
	// An Envoy that starts now gets what it needs from the zone alone.
	kill := time.Now()
	if err := east.Client.KillEnvoy(); err != nil {
		s.Fatal(err)
	}
	if err := cluster.WaitAnswer(ctx, recovery, east.URL()); err != nil {
		s.Fatal(err)
	}
	s.recovered(restart(s, s.w.Global))
	s.end(func(f cluster.Failure) bool {
		return f.URL == east.URL() && f.Time.After(kill.Add(-every)) && f.Time.Before(kill.Add(3*time.Second))
	})
}

// killAll takes every control plane and the database away at once. What depends
// on others starts before them: it has to wait and not to fail.
func killAll(s *scenario) {
	if err := s.w.Postgres.Kill(); err != nil {
		s.Fatal(err)
	}
	s.w.Global.Kill()
	for _, z := range s.w.Zones() {
		z.Kill()
	}
	for _, z := range s.w.Zones() {
		restart(s, z.ControlPlane)
	}
	if err := s.w.Global.Process.Start(); err != nil {
		s.Fatal(err)
	}
	if err := clustertest.AwaitLog(s.Context(), clustertest.Patience, s.w.Global.Process, "waiting for the database"); err != nil {
		s.Fatal(err)
	}
	if err := s.w.Postgres.Start(s.Context()); err != nil {
		s.Fatal(err)
	}
	begun := time.Now()
	if err := s.w.Global.WaitReady(s.Context()); err != nil {
		s.Fatal(err)
	}
	s.recovered(begun)
	s.end(nil)
}

// refusedListener gives a proxy an outbound whose port is taken, so that Envoy
// refuses that listener. Everything else must reach the proxy, before and after.
func refusedListener(s *scenario) {
	const taken = 10081
	east, address := s.w.East, s.w.Address()
	l, err := net.Listen("tcp", fmt.Sprintf("%s:%d", address, taken))
	if err != nil {
		s.Fatal(err)
	}
	defer l.Close()
	p, err := s.w.Proxy(s.Context(), east.ControlPlane, s.w.Global, cluster.ProxySpec{
		Mesh: clustertest.Mesh, Name: "client-2", Address: address,
		Outbounds: map[int]string{clustertest.Port: "backend", taken: "backend-next"},
	})
	if err != nil {
		s.Fatal(err)
	}
	if err := cluster.WaitAnswer(s.Context(), clustertest.Patience, p.URL(clustertest.Port)); err != nil {
		s.Fatal(err)
	}
	var rejected struct {
		Insight struct {
			Subscriptions []struct {
				Status struct {
					LDS struct{ ResponsesRejected string } `json:"lds"`
				}
			}
		} `json:"dataplaneInsight"`
	}
	ctx, cancel := context.WithTimeout(s.Context(), clustertest.Patience)
	defer cancel()
	err = cluster.Until(ctx, "the refusal is not shown", func(ctx context.Context) error {
		if err := east.Do(ctx, http.MethodGet, "/meshes/"+clustertest.Mesh+"/dataplanes/client-2/_overview", nil, &rejected); err != nil {
			return err
		}
		for _, sub := range rejected.Insight.Subscriptions {
			if n := sub.Status.LDS.ResponsesRejected; n != "" && n != "0" {
				return nil
			}
		}
		return fmt.Errorf("%+v", rejected)
	})
	if err != nil {
		s.Fatal(err)
	}
	s.recovered(time.Now()) // of the others
	for i := range 3 {      // and this proxy still follows
		change := fmt.Sprint("despite-", i)
		s.w.MustApply(s, s.w.Global, clustertest.Route("canary", change, 1, 1, false))
		if err := clustertest.AwaitChange(ctx, clustertest.Patience, p.URL(clustertest.Port), change); err != nil {
			s.Fatal(err)
		}
	}
	if err := p.Stop(); err != nil {
		s.Error(err)
	}
	s.end(nil)
}
