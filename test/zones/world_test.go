// Package zones loses zones, and ways to them, and watches what the other zones
// decide about them.
package zones

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/test/cluster"
	"github.com/atoll-mesh/atoll/test/cluster/clustertest"
)

const (
	webPort   = clustertest.WebPort
	bytesPort = clustertest.BytesPort
	entryPort = clustertest.EntryPort
	// patience bounds waits. What is promised about time is measured and logged;
	// it fails the test when it is off by far, since machines are busy.
	patience = 40 * time.Second
)

// world is a global and three zones: east with two zone proxies, west with one,
// and north with clients only.
type world struct {
	*clustertest.Federation
	global            *cluster.ControlPlane
	east, west, north *zone
}

type zone struct {
	*cluster.ControlPlane
	backend   *cluster.Proxy
	entrances []*cluster.Proxy
	clients   []*cluster.Proxy
	bytes     net.Listener
}

func start(t *testing.T) *world {
	t.Helper()
	f := clustertest.Federate(t, patience, "", "east", "west", "north")
	w := &world{Federation: f, global: f.Global}
	for name, z := range map[string]**zone{"east": &w.east, "west": &w.west, "north": &w.north} {
		*z = &zone{ControlPlane: f.Zones[name]}
	}
	var g errgroup.Group
	w.serve(t, &g, w.east, 2)
	w.serve(t, &g, w.west, 1)
	w.call(t, &g, w.north, 3)
	wait(t, &g)
	for _, c := range w.north.clients {
		if err := cluster.WaitAnswer(t.Context(), patience, c.URL(webPort)); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

func wait(t *testing.T, g *errgroup.Group) {
	t.Helper()
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
}

// serve adds a workload, which answers with its zone, and zone proxies.
func (w *world) serve(t *testing.T, g *errgroup.Group, z *zone, entrances int) {
	t.Helper()
	app := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { fmt.Fprint(rw, z.Zone) }))
	t.Cleanup(app.Close)
	var err error
	if z.bytes, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { z.bytes.Close() })
	go greet(z.bytes, z.Zone)
	g.Go(func() (err error) {
		z.backend, err = w.BackendOf(t, z.ControlPlane, "backend-1", portOf(app.Listener), portOf(z.bytes))
		return err
	})
	z.entrances = make([]*cluster.Proxy, entrances)
	for i := range entrances {
		address := w.Address()
		w.Entrance(t, z.ControlPlane, fmt.Sprintf("entrance-%d", i+1), address, entryPort)
		g.Go(func() (err error) {
			z.entrances[i], err = w.ZoneProxy(t, z.ControlPlane, fmt.Sprintf("zone-proxy-%d", i+1), address)
			return err
		})
	}
}

// greet sends the zone's name to who connects, and holds the connection.
func greet(l net.Listener, name string) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			if _, err := fmt.Fprintln(c, name); err != nil {
				return
			}
			_, _ = c.Read(make([]byte, 1)) // until the other side is gone
		}()
	}
}

func portOf(l net.Listener) int { return l.Addr().(*net.TCPAddr).Port }

// call adds clients.
func (w *world) call(t *testing.T, g *errgroup.Group, z *zone, n int) {
	z.clients = make([]*cluster.Proxy, n)
	for i := range n {
		g.Go(func() (err error) {
			z.clients[i], err = w.ClientOf(t, z.ControlPlane, fmt.Sprintf("client-%d", i+1), nil)
			return err
		})
	}
}

// link is what a control plane has of a link; an error when it has none.
func link(ctx context.Context, at *cluster.ControlPlane, observer, observed string) (*kind.ZoneLinkSpec, error) {
	var out struct {
		Items []struct {
			Spec kind.ZoneLinkSpec `json:"spec"`
		} `json:"items"`
	}
	if err := at.Do(ctx, http.MethodGet, "/zonelinks?size=1000", nil, &out); err != nil {
		return nil, err
	}
	for i := range out.Items {
		if s := &out.Items[i].Spec; s.Observer == observer && s.Observed == observed {
			return s, nil
		}
	}
	return nil, fmt.Errorf("no link from %s to %s", observer, observed)
}

// until waits until a link is as it should be, and says how long that took.
func until(t *testing.T, at *cluster.ControlPlane, observer, observed, what string, ok func(*kind.ZoneLinkSpec) bool) time.Duration {
	t.Helper()
	begin := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err := cluster.Until(ctx, fmt.Sprintf("at %s, %s→%s: %s", at.Name, observer, observed, what), func(ctx context.Context) error {
		l, err := link(ctx, at, observer, observed)
		if err == nil && !ok(l) {
			err = fmt.Errorf("it is %+v", *l)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return time.Since(begin)
}

func isUp(l *kind.ZoneLinkSpec) bool {
	return l.State == kind.LinkUp && !l.Withdrawn && l.RTTMillis > 0
}
func withdrawn(l *kind.ZoneLinkSpec) bool { return l.Withdrawn }
func back(l *kind.ZoneLinkSpec) bool      { return !l.Withdrawn && l.State != kind.LinkDown }

// answers waits until only that zone answers a client.
func answers(t *testing.T, c *cluster.Proxy, zone string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err := cluster.Until(ctx, "answers of "+zone, func(ctx context.Context) error {
		s := cluster.Measure(ctx, c.URL(webPort), 20)
		if s.Answers[zone] != 20 {
			return errors.Join(fmt.Errorf("%v, %d failed", s.Answers, s.Failed), s.Last)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
