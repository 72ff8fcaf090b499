package zones

import (
	"bufio"
	"errors"
	"net"
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/test/cluster"
)

// within logs how long something took. Machines are busy: it is an error only when
// that is far from what is promised.
func within(t *testing.T, what string, took, promised time.Duration) {
	t.Helper()
	t.Logf("%s: %v (promised: %v)", what, took.Round(10*time.Millisecond), promised)
	if took > 3*promised {
		t.Errorf("%s took %v", what, took)
	}
}

func TestZones(t *testing.T) {
	w := start(t)
	for _, z := range []*zone{w.east, w.west, w.north} {
		for _, other := range []*zone{w.east, w.west} {
			if z != other {
				until(t, w.global, z.Zone, other.Zone, "up", isUp)
			}
		}
	}
	until(t, w.global, "east", "east", "says that it is open", func(l *kind.ZoneLinkSpec) bool { return l.State == kind.LinkUp })

	t.Run("one of two zone proxies", w.oneEntrance)
	t.Run("zone proxy killed", w.kill)
	t.Run("zone hangs", w.hang)
	t.Run("an entrance that answers no probes", w.stranger)
}

// Of a zone with two zone proxies only the one that is gone is withdrawn, by who
// has zone proxies and by who has none.
func (w *world) oneEntrance(t *testing.T) {
	gone := w.east.entrances[1]
	one := func(want bool) func(*kind.ZoneLinkSpec) bool {
		return func(l *kind.ZoneLinkSpec) bool {
			n := 0
			for _, a := range l.Addresses {
				if a.Withdrawn {
					n++
				}
				if a.Withdrawn && a.Address != gone.Spec.Address {
					return false
				}
			}
			return !l.Withdrawn && (n == 1) == want && len(l.Addresses) == 2
		}
	}
	begin := time.Now()
	gone.KillAll()
	for _, z := range []*zone{w.west, w.north} {
		until(t, z.ControlPlane, z.Zone, "east", "one address withdrawn", one(true))
		within(t, z.Zone+" withdraws one of two addresses", time.Since(begin), 4*time.Second)
	}
	if err := gone.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	begin = time.Now()
	for _, z := range []*zone{w.west, w.north} {
		until(t, z.ControlPlane, z.Zone, "east", "both addresses are back", one(false))
		within(t, z.Zone+" uses it again", time.Since(begin), 5*time.Second)
	}
}

// A zone whose only zone proxy is gone is withdrawn by the others, connections to
// it are closed, and it is used again when it is back. It knows itself that
// nobody can enter.
func (w *world) kill(t *testing.T) {
	c := w.north.clients[0]
	conn := connect(t, c, "west")
	begin := time.Now()
	w.west.entrances[0].KillAll()
	until(t, w.north.ControlPlane, "north", "west", "withdrawn", withdrawn)
	within(t, "north withdraws west", time.Since(begin), 4*time.Second)
	answers(t, c, "east")
	closed(t, conn)
	within(t, "a connection of TCP to west is closed", time.Since(begin), 5*time.Second)
	until(t, w.east.ControlPlane, "east", "west", "withdrawn", withdrawn)
	until(t, w.global, "north", "west", "withdrawn", withdrawn)
	until(t, w.global, "west", "west", "says that nobody can enter", func(l *kind.ZoneLinkSpec) bool { return l.State == kind.LinkDown })

	if err := w.west.entrances[0].Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	begin = time.Now()
	until(t, w.north.ControlPlane, "north", "west", "back", back)
	within(t, "north uses west again", time.Since(begin), 5*time.Second)
	until(t, w.east.ControlPlane, "east", "west", "back", back)
	connect(t, c, "west").Close()
}

// A zone that hangs is withdrawn as fast, and what was decided survives the death
// of who decided it and of the global. That moves no traffic either.
func (w *world) hang(t *testing.T) {
	c := w.north.clients[0]
	conn := connect(t, c, "east")
	proxies := append([]*cluster.Proxy{w.east.backend}, w.east.entrances...)
	all := func(s syscall.Signal) {
		for _, p := range proxies {
			p.SignalAll(s)
		}
		w.east.Signal(s)
	}
	begin := time.Now()
	all(syscall.SIGSTOP)
	until(t, w.north.ControlPlane, "north", "east", "withdrawn", withdrawn)
	within(t, "north withdraws east", time.Since(begin), 4*time.Second)
	closed(t, conn)
	within(t, "a connection of TCP to east is closed", time.Since(begin), 6*time.Second)
	answers(t, c, "west")

	was, err := link(t.Context(), w.north.ControlPlane, "north", "east")
	if err != nil {
		t.Fatal(err)
	}
	w.global.Kill()
	w.north.ControlPlane.Kill()
	if s := cluster.Measure(t.Context(), c.URL(webPort), 50); s.Answers["west"] != 50 {
		t.Errorf("without control planes: %v, %d failed: %v", s.Answers, s.Failed, s.Last)
	}
	if err := w.north.ControlPlane.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	// Until its probers have said more than once that the zone is away.
	until(t, w.north.ControlPlane, "north", "west", "up after the restart", isUp)
	until(t, w.north.ControlPlane, "north", "east", "still withdrawn", func(l *kind.ZoneLinkSpec) bool {
		if !l.Withdrawn || !l.Since.Equal(was.Since) {
			t.Fatalf("the decision did not survive: %+v", l)
		}
		return l.Probers == 2
	})
	all(syscall.SIGCONT)
	begin = time.Now()
	until(t, w.north.ControlPlane, "north", "east", "back", back)
	within(t, "north uses east again, without the global", time.Since(begin), 5*time.Second)
	connect(t, c, "east").Close()
	if err := w.global.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// closed waits until the other side closes a connection.
func closed(t *testing.T, conn net.Conn) {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("a connection to the zone that was withdrawn stays open")
	}
}

// connect opens a connection of TCP until one leads to that zone.
func connect(t *testing.T, c *cluster.Proxy, zone string) net.Conn {
	t.Helper()
	for end := time.Now().Add(patience); ; {
		conn, err := net.Dial("tcp", net.JoinHostPort(c.Spec.Address, strconv.Itoa(bytesPort)))
		if err != nil {
			t.Fatal(err)
		}
		if err := conn.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(conn).ReadString('\n')
		if line == zone+"\n" {
			t.Cleanup(func() { conn.Close() })
			return conn
		}
		conn.Close()
		if time.Now().After(end) {
			t.Fatalf("no connection leads to %s: last %q, %v", zone, line, err)
		}
	}
}

// An entrance that takes connections but does not answer probes, as that of a
// zone of the reference, is left alone.
func (w *world) stranger(t *testing.T) {
	l, err := net.Listen("tcp", w.Address()+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	asked := make(chan struct{}, 1)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Close()
			select {
			case asked <- struct{}{}:
			default:
			}
		}
	}()
	w.Entrance(t, w.west.ControlPlane, "stranger", l.Addr().(*net.TCPAddr).IP.String(), portOf(l))
	for range 10 {
		select {
		case <-asked:
		case <-time.After(patience):
			t.Fatal("nobody asks the new entrance")
		}
	}
	until(t, w.north.ControlPlane, "north", "west", "unknown address", func(l *kind.ZoneLinkSpec) bool {
		unknown := 0
		for _, a := range l.Addresses {
			if a.State == kind.LinkUnknown && !a.Withdrawn {
				unknown++
			}
		}
		return unknown == 1 && len(l.Addresses) == 2 && !l.Withdrawn
	})
}
