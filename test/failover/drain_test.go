package failover

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/atoll-mesh/atoll/test/cluster"
	"github.com/atoll-mesh/atoll/test/cluster/clustertest"
)

// noneLeft is how a drain says that all proxies, of which there are some, follow.
var noneLeft = regexp.MustCompile(`\s0 of [1-9]`)

func TestDrain(t *testing.T) {
	w := start(t)
	t.Run("nobody notices", w.drained)
	t.Run("something would break", w.refused)
}

// drained takes a zone out of the traffic and puts it back while its own clients
// and those of a zone without workloads call.
func (w *world) drained(t *testing.T) {
	rate := length().rate / 5 // of each of eight loads, beside Envoys that ramp
	type flow struct {
		name    string
		through string // the listener it calls
		*cluster.Load
	}
	var flows []flow
	for _, z := range []*zone{w.east, w.north} {
		for _, v := range usual {
			spec := v.spec(z, rate)
			flows = append(flows, flow{z.Name + " " + v.name, spec.URL + spec.Address, cluster.StartLoad(spec)})
		}
	}
	lines := map[string]*conversation{}
	for _, z := range []*zone{w.east, w.north} {
		lines[z.Name] = converse(t, talk(fmt.Sprintf("%s:%d", z.client.Spec.Address, bytesPort)))
	}
	// Nothing but the drain ends a stream.
	w.Apply(t, w.global, endless)
	lines["east, a stream"] = converse(t, listen(w.east.client.URL(webPort)+"?stream"))
	lines["east, a stream"].until(t, "east, a stream", "east/")
	ctl := func(args ...string) string {
		out, errOut, code := clustertest.Ctl(t, w.Cluster, w.global.URL, "", args...)
		if code != 0 {
			t.Errorf("atollctl %v: exit code %d\n%s%s", args, code, out, errOut)
		}
		return out
	}
	progress := ctl("zone", "drain", "east", "--ramp", "4s", "--timeout", "4s", "--watch")
	t.Log("\n" + progress)
	// All proxies said that they go elsewhere.
	if last := progress[strings.LastIndex(strings.TrimSpace(progress), "\n"):]; !noneLeft.MatchString(last) {
		t.Errorf("not all proxies are known to follow:\n%s", progress)
	}
	drained := time.Now()
	// Conversations that reached east before were ended, and go on in west.
	for name, c := range lines {
		c.until(t, name, "west/")
	}
	over := time.Now()
	quiet(t, 2*time.Second)
	undrain := time.Now()
	t.Log("\n" + ctl("zone", "undrain", "east", "--watch"))
	back := time.Now()
	quiet(t, 2*time.Second)
	// Whether a proxy uses east is counted over all flows through it: two of equal
	// rate may take turns so evenly that each meets one zone only.
	type use struct{ before, returned int }
	uses := map[string]*use{}
	for _, f := range flows {
		var before, during, away, returned, failed int
		strayed := 0
		for _, o := range f.Stop() {
			if o.Err != nil {
				failed++
				t.Errorf("%s: %v, %s after the drain began to be over", f.name, o.Err, o.Begun.Sub(drained))
			}
			east := strings.HasPrefix(o.Who, "east/")
			switch {
			case o.Begun.Before(drained):
				during++
				if east {
					before++
				}
			case o.Begun.After(drained) && o.Begun.Before(undrain):
				away++
				if east && o.Begun.After(over) {
					strayed++
				}
			case o.Begun.After(back) && east:
				returned++
			}
		}
		t.Logf("%-22s %d failed; until drained %d of %d from east; while away %d, %d of them from east; back: %d from east", f.name, failed, before, during, away, strayed, returned)
		if strayed > 0 {
			t.Errorf("%s: %d answers came from east while that was drained", f.name, strayed)
		}
		u := uses[f.through]
		if u == nil {
			u = &use{}
			uses[f.through] = u
		}
		u.before += before
		u.returned += returned
	}
	for through, u := range uses {
		if u.before == 0 || u.returned == 0 {
			t.Errorf("through %s: before the drain %d and after it %d answers came from east", through, u.before, u.returned)
		}
	}
	for name, c := range lines {
		t.Logf("conversation of %s: %d lines, %d connections", name, c.lines.Load(), c.connections.Load())
	}
}

// quiet lets traffic flow for a time, which is what is measured.
func quiet(t *testing.T, d time.Duration) {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	<-ctx.Done()
}

// refused wants a zone drained of which a service is in no other zone.
func (w *world) refused(t *testing.T) {
	w.Apply(t, w.east.ControlPlane, "type: MeshService\nmesh: "+mesh+"\nname: lonely\nlabels: {kuma.io/origin: zone}\nspec:\n  selector: {dataplaneLabels: {matchLabels: {kuma.io/workload: backend}}}\n  ports: [{port: 9090, targetPort: 8080, appProtocol: http}]\n")
	if err := w.global.WaitInSync(t.Context(), readyLimit, "east"); err != nil {
		t.Fatal(err)
	}
	out, errOut, code := clustertest.Ctl(t, w.Cluster, w.global.URL, "", "zone", "drain", "east", "--watch")
	if code == 0 || !strings.Contains(errOut, "ATL1001") || !strings.Contains(errOut, "lonely") {
		t.Errorf("exit code %d\n%s%s", code, out, errOut)
	}
	// The field of the Zone is refused by the leader, with the reasons in its status.
	w.Apply(t, w.global, "type: Zone\nname: east\nenabled: true\ndrain: {enabled: true}\n")
	out, errOut, code = clustertest.Ctl(t, w.Cluster, w.global.URL, "", "zone", "drain", "east", "--force", "--ramp", "0s", "--timeout", "0s", "--watch")
	if code != 0 || !strings.Contains(out, "Drained") {
		t.Errorf("forced: exit code %d\n%s%s", code, out, errOut)
	}
	// What is only there stays there.
	resp, err := http.Get(w.east.client.URL(webPort))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); err != nil || !strings.HasPrefix(string(b), "west/") {
		t.Errorf("%q %v", b, err)
	}
}

// endless has requests last as long as they want.
const endless = `type: MeshTimeout
mesh: shop
name: endless
spec: {to: [{targetRef: {kind: Mesh}, default: {http: {requestTimeout: 0s}}}]}
`

// conversation is an application that keeps one connection for as long as it
// lives, and connects again when it ends.
type conversation struct {
	who                chan string // who answered last; the newest only
	lines, connections atomic.Int64
}

// dialogue goes on over one connection until that ends, and tells of each answer.
// It fails when there is none.
type dialogue func(ctx context.Context, answered func(who string)) error

func converse(t *testing.T, once dialogue) *conversation {
	c := &conversation{who: make(chan string, 1)}
	done := make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() { cancel(); <-done })
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			c.connections.Add(1)
			if err := once(ctx, c.answered); err != nil && ctx.Err() == nil {
				t.Errorf("a conversation could not begin: %v", err)
				return
			}
		}
	}()
	return c
}

func (c *conversation) answered(who string) {
	c.lines.Add(1)
	select {
	case <-c.who:
	default:
	}
	c.who <- who
}

// talk is over TCP.
func talk(address string) dialogue {
	return func(ctx context.Context, answered func(string)) error {
		conn, err := net.DialTimeout("tcp", address, 5*time.Second)
		if err != nil {
			return err
		}
		defer conn.Close()
		defer context.AfterFunc(ctx, func() { conn.Close() })()
		in := bufio.NewReader(conn)
		pace := time.NewTicker(20 * time.Millisecond) // of what is said
		defer pace.Stop()
		for n := 0; ; n++ {
			if _, err := fmt.Fprintln(conn, "hello"); err != nil {
				return nil
			}
			line, err := in.ReadString('\n')
			if err != nil {
				if n == 0 {
					return errors.Join(errors.New("no answer"), err)
				}
				return nil
			}
			answered(strings.TrimSpace(line))
			select {
			case <-pace.C:
			case <-ctx.Done():
				return nil
			}
		}
	}
}

// listen is a response of HTTP that does not end.
func listen(url string) dialogue {
	return func(ctx context.Context, answered func(string)) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return errors.New(resp.Status)
		}
		for in := bufio.NewScanner(resp.Body); in.Scan(); {
			answered(in.Text())
		}
		return nil
	}
}

// until waits for an answer of somebody.
func (c *conversation) until(t *testing.T, name, prefix string) {
	t.Helper()
	limit := time.NewTimer(2 * readyLimit)
	defer limit.Stop()
	last := ""
	for {
		select {
		case last = <-c.who:
			if strings.HasPrefix(last, prefix) {
				return
			}
		case <-limit.C:
			t.Errorf("the conversation of %s is still with %s after %s", name, last, 2*readyLimit)
			return
		}
	}
}
