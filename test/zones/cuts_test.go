package zones

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/liveness"
	"github.com/atoll-mesh/atoll/test/cluster"
	"github.com/atoll-mesh/atoll/test/cluster/clustertest"
)

// cables is a world in which the ways between zones can be cut one by one. Zones
// are entered through relays, which know from which zone a connection comes.
type cables struct {
	*world
	into map[string]*cluster.Relay // by zone

	mu     sync.Mutex     // guards the rest
	owners map[int]string // Envoys to zones
	pids   []int
}

func wired(t *testing.T) *cables {
	t.Helper()
	f := clustertest.Federate(t, patience, "", "east", "west", "north")
	w := &cables{world: &world{Federation: f, global: f.Global}, into: map[string]*cluster.Relay{}, owners: map[int]string{}}
	for name, z := range map[string]**zone{"east": &w.east, "west": &w.west, "north": &w.north} {
		*z = &zone{ControlPlane: f.Zones[name]}
	}
	var g errgroup.Group
	outsides := map[*zone]string{}
	own := func(zone string, p *cluster.Proxy) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.owners[p.EnvoyPID()] = zone
		w.pids = append(w.pids, p.EnvoyPID())
	}
	for _, z := range []*zone{w.east, w.west} {
		w.serve(t, &g, z, 0)
		inside, outside := w.Address(), w.Address()
		g.Go(func() error {
			p, err := w.ZoneProxy(t, z.ControlPlane, "zone-proxy", inside)
			if err == nil {
				own(z.Zone, p)
			}
			return err
		})
		relay, err := cluster.NewRelayAt(fmt.Sprintf("%s:%d", outside, entryPort), fmt.Sprintf("%s:%d", inside, entryPort), w.from)
		if err != nil {
			t.Fatal(err)
		}
		w.into[z.Zone] = relay
		t.Cleanup(func() { relay.Close() })
		outsides[z] = outside
	}
	w.call(t, &g, w.north, 2)
	wait(t, &g)
	for _, c := range w.north.clients {
		own("north", c)
	}
	// Only now connections come, and it is known whose they are.
	for z, address := range outsides {
		w.Entrance(t, z.ControlPlane, "entrance", address, entryPort)
	}
	for _, c := range w.north.clients {
		if err := cluster.WaitAnswer(t.Context(), patience, c.URL(webPort)); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range [][2]string{{"east", "west"}, {"west", "east"}, {"north", "east"}, {"north", "west"}} {
		until(t, w.global, p[0], p[1], "up", isUp)
	}
	return w
}

// from is the zone of which a proxy opened a connection; empty when it is over.
func (w *cables) from(conn net.Conn) string {
	w.mu.Lock()
	pids := w.pids
	w.mu.Unlock()
	pid := cluster.Owner(conn, pids)
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.owners[pid]
}

// holds wants the global to say which ways are withdrawn, and who is lost, and
// that this stays so for as long as another decision would take.
func (w *cables) holds(t *testing.T, lost []string, withdrawn ...[2]string) {
	t.Helper()
	ok := func(ctx context.Context) error {
		var m liveness.Matrix
		if err := w.global.Do(ctx, http.MethodGet, "/zones/_links", nil, &m); err != nil {
			return err
		}
		var away [][2]string
		for _, l := range m.Links {
			if l.Withdrawn {
				away = append(away, [2]string{l.Observer, l.Observed})
			}
		}
		var gone []string
		for _, z := range m.Zones {
			if z.Lost {
				gone = append(gone, z.Name)
			}
		}
		if !slices.Equal(away, withdrawn) || !slices.Equal(gone, lost) {
			return fmt.Errorf("withdrawn are %v and not %v, lost %v and not %v", away, withdrawn, gone, lost)
		}
		return nil
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := cluster.Until(ctx, "the matrix", ok); err != nil {
		t.Fatal(err)
	}
	// What else would follow comes within as long as this took.
	stays, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	for stays.Err() == nil {
		if err := ok(t.Context()); err != nil {
			t.Fatalf("and does not stay so: %v", err)
		}
		look := time.NewTimer(100 * time.Millisecond) // the matrix tells nobody when it changes
		select {
		case <-look.C:
		case <-stays.Done():
		}
		look.Stop()
	}
}

// TestCuts cuts ways between zones: one way of a pair, both, those of a zone that
// then sees nobody, those to a zone that then nobody sees, and one that comes and
// goes. A way that returns a second time is kept away for a while; the order of
// the cases needs each to return once.
func TestCuts(t *testing.T) {
	w := wired(t)
	t.Run("one way of a pair", w.oneWay)
	t.Run("both ways of a pair", w.bothWays)
	t.Run("a zone that sees nobody", w.blind)
	t.Run("a zone that nobody sees", w.alone)
	t.Run("flapping", w.flapping)
}

// heal mends ways, and waits until they are used again.
func (w *cables) heal(t *testing.T, ways ...[2]string) {
	t.Helper()
	for _, p := range ways {
		w.into[p[1]].HealFor(p[0])
	}
	for _, p := range ways {
		until(t, w.global, p[0], p[1], "back", back)
	}
}

// oneWay lets what west says to east arrive, but not the answers. Nobody else is
// concerned: not east, which reaches west, and not north.
func (w *cables) oneWay(t *testing.T) {
	w.into["east"].CutBackTo("west")
	w.holds(t, nil, [2]string{"west", "east"})
	w.both(t)
}

// bothWays cuts east and west off each other altogether. Both go on to serve north.
func (w *cables) bothWays(t *testing.T) {
	w.into["east"].CutFrom("west")
	w.into["west"].CutFrom("east")
	w.holds(t, nil, [2]string{"east", "west"}, [2]string{"west", "east"})
	w.both(t)
	w.heal(t, [2]string{"east", "west"}, [2]string{"west", "east"})
}

// blind cuts north off everybody. It does not believe that all others are gone,
// and they go on to use each other.
func (w *cables) blind(t *testing.T) {
	w.into["east"].CutFrom("north")
	w.into["west"].CutFrom("north")
	for _, z := range []string{"east", "west"} {
		until(t, w.north.ControlPlane, "north", z, "down", func(l *kind.ZoneLinkSpec) bool { return l.State == kind.LinkDown })
	}
	w.holds(t, nil)
	w.heal(t, [2]string{"north", "east"}, [2]string{"north", "west"})
	w.both(t)
}

// alone cuts east off everybody, while its control plane is connected: two others
// withdraw it, so that it counts as lost, and it believes neither.
func (w *cables) alone(t *testing.T) {
	w.into["east"].CutFrom("west")
	w.into["east"].CutFrom("north")
	w.holds(t, []string{"east"}, [2]string{"north", "east"}, [2]string{"west", "east"})
	answers(t, w.north.clients[0], "west")
	w.into["east"].HealFor("west")
	w.heal(t, [2]string{"north", "east"})
	w.both(t)
}

// both wants both zones to answer north, and no request to fail.
func (w *cables) both(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err := cluster.Until(ctx, "answers of both zones", func(ctx context.Context) error {
		s := cluster.Measure(ctx, w.north.clients[0].URL(webPort), 40)
		if s.Failed > 0 || s.Answers["east"] == 0 || s.Answers["west"] == 0 {
			return fmt.Errorf("%v, %d failed: %v", s.Answers, s.Failed, s.Last)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// flapping has the way from north to east go for two seconds and come back for
// two, for ATOLL_FLAPPING such as 40s, by default twice. Requests move at most three
// times, and none fails at the end.
func (w *cables) flapping(t *testing.T) {
	long := 8 * time.Second
	if s := os.Getenv("ATOLL_FLAPPING"); s != "" {
		var err error
		if long, err = time.ParseDuration(s); err != nil {
			t.Fatalf("ATOLL_FLAPPING: %v", err)
		}
	}
	before := w.moves(t)
	half := time.NewTicker(2 * time.Second) // of the flapping
	defer half.Stop()
	for n := range int(long / (2 * time.Second)) {
		if n%2 == 0 {
			w.into["east"].CutFrom("north")
		} else {
			w.into["east"].HealFor("north")
		}
		<-half.C
	}
	w.into["east"].HealFor("north")
	moved := w.moves(t) - before
	t.Logf("in %s of flapping north moved its requests %d times", long, moved)
	if moved > 3 {
		t.Errorf("north moved its requests %d times", moved)
	}
	if s := cluster.Measure(t.Context(), w.north.clients[0].URL(webPort), 100); s.Failed > 0 {
		t.Errorf("%d of 100 requests failed: %v", s.Failed, s.Last)
	}
}

// moves counts how often north withdrew east, or used it again: each has a notice.
func (w *cables) moves(t *testing.T) int {
	t.Helper()
	var list struct {
		Items []struct {
			Spec kind.NoticeSpec `json:"spec"`
		} `json:"items"`
	}
	if err := w.north.Do(t.Context(), http.MethodGet, "/notices?size="+strconv.Itoa(1000), nil, &list); err != nil {
		t.Fatal(err)
	}
	n := 0
	for i := range list.Items {
		if strings.HasPrefix(list.Items[i].Spec.Key, "withdrawn/north/east") {
			n++
		}
	}
	return n
}
