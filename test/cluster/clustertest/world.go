// Package clustertest gives tests a whole Atoll of real processes: a global on a
// PostgreSQL of its own, the zones east and west on SQLite, and in each zone a
// client and two versions of a backend, each beside a real Envoy.
package clustertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/atoll-mesh/atoll/test/cluster"
	"github.com/atoll-mesh/atoll/tools/pgtemp"
)

const (
	// Mesh is the one in which everything happens.
	Mesh = "shop"
	// Port is where each client's Envoy offers the service "backend".
	Port = 10080
	// V1 and V2 are what the two versions of the backend answer.
	V1, V2 = "v1", "v2"
	// Patience bounds waits for what should take a moment.
	Patience = 20 * time.Second
	// logTail is how much of each log a failure shows.
	logTail = 4000
)

// World is everything that runs.
type World struct {
	*cluster.Cluster
	Postgres   *pgtemp.Server
	Global     *cluster.ControlPlane
	East, West *Zone
}

// Zone is a control plane with its proxies.
type Zone struct {
	*cluster.ControlPlane
	Client *cluster.Proxy
	V1, V2 *cluster.Proxy
}

// URL is where the zone's client calls the backend, through its Envoy.
func (z *Zone) URL() string { return z.Client.URL(Port) }

// Zones are both.
func (w *World) Zones() []*Zone { return []*Zone{w.East, w.West} }

// Options change how a world is made.
type Options struct {
	// Zone returns settings of a zone's control plane, which win over the usual.
	Zone func(t testing.TB, name string, global *cluster.ControlPlane) []string
	// Bare leaves out the proxies.
	Bare bool
}

// Start makes a world that lives as long as the test. When the test fails, the
// ends of all logs are shown and the files are kept.
func Start(t testing.TB, o Options) *World {
	t.Helper()
	ctx := t.Context()
	begun := time.Now()
	c := New(t)
	w := &World{Cluster: c}
	var err error
	if w.Postgres, err = pgtemp.Start(ctx, pgtemp.Options{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Postgres.Close() })
	w.Global, err = c.Global(ctx, Database(w.Postgres))
	must(t, err)

	names := []string{"east", "west"}
	zones := make([]*Zone, len(names))
	var g errgroup.Group
	for i, name := range names {
		g.Go(func() error {
			var env []string
			if o.Zone != nil {
				env = o.Zone(t, name, w.Global)
			}
			cp, err := c.FederatedZone(ctx, w.Global, name, env...)
			if err != nil {
				return err
			}
			zones[i] = &Zone{ControlPlane: cp}
			return w.Global.WaitInSync(ctx, Patience, name)
		})
	}
	must(t, g.Wait())
	w.East, w.West = zones[0], zones[1]

	w.MustApply(t, w.Global, "type: Mesh\nname: "+Mesh+"\n")
	for _, z := range zones {
		must(t, z.WaitFor(ctx, Patience, "/meshes/"+Mesh))
	}
	if !o.Bare {
		for _, z := range zones {
			g.Go(func() error { return w.workloads(t, z) })
		}
		must(t, g.Wait())
	}
	t.Logf("everything runs after %s", time.Since(begun).Round(time.Millisecond))
	return w
}

// New makes a cluster that lives as long as the test. ATOLL_TEST_BIN names a
// folder of other binaries than those of this repository; with ATOLL_TEST_KEEP
// the logs stay in any case.
func New(t testing.TB) *cluster.Cluster {
	t.Helper()
	c, err := cluster.New(cluster.Options{Bin: os.Getenv("ATOLL_TEST_BIN")})
	must(t, err)
	t.Cleanup(func() {
		if os.Getenv("ATOLL_TEST_KEEP") != "" {
			c.Keep = true
			t.Logf("the logs stay in %s", c.Dir)
		}
		if t.Failed() {
			c.Keep = true
			t.Logf("the logs stay in %s:\n%s", c.Dir, c.Logs(logTail))
		}
		c.Close()
	})
	return c
}

// Database is where a control plane finds a server.
func Database(s *pgtemp.Server) *cluster.Postgres {
	return &cluster.Postgres{Host: s.Host(), Port: s.Port(), User: s.User(), Password: s.Password(), DBName: s.DBName()}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (w *World) workloads(t testing.TB, z *Zone) error {
	var g errgroup.Group
	g.Go(func() (err error) {
		z.V1, err = w.Backend(t, z, "backend", V1)
		return err
	})
	g.Go(func() (err error) {
		z.V2, err = w.Backend(t, z, "backend-next", V2)
		return err
	})
	g.Go(func() (err error) {
		z.Client, err = w.Proxy(t.Context(), z.ControlPlane, w.Global, cluster.ProxySpec{
			Mesh: Mesh, Name: "client-1", Labels: map[string]string{"kuma.io/workload": "client"},
			Outbounds: map[int]string{Port: "backend"},
		})
		return err
	})
	if err := g.Wait(); err != nil {
		return err
	}
	return cluster.WaitAnswer(t.Context(), Patience, z.URL())
}

// Backend starts an application that answers with its version, and its proxy.
func (w *World) Backend(t testing.TB, z *Zone, workload, version string) (*cluster.Proxy, error) {
	app := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { io.WriteString(rw, version) }))
	t.Cleanup(app.Close)
	u, err := url.Parse(app.URL)
	if err != nil {
		return nil, err
	}
	port, err := strconv.Atoi(u.Port())
	if err != nil {
		return nil, err
	}
	return w.Proxy(t.Context(), z.ControlPlane, w.Global, cluster.ProxySpec{
		Mesh: Mesh, Name: workload + "-1", AppPort: port,
		Labels: map[string]string{"kuma.io/workload": workload},
	})
}

// Ctl runs atollctl against a control plane, with input on stdin.
func (w *World) Ctl(t testing.TB, cp *cluster.ControlPlane, input string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	return Ctl(t, w.Cluster, cp.URL, input, args...)
}

// Ctl runs atollctl of a cluster against a URL.
func Ctl(t testing.TB, c *cluster.Cluster, server, input string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), c.Bin+"/atollctl", append([]string{"--server", server}, args...)...)
	cmd.Env = append(os.Environ(), "XDG_CONFIG_HOME="+c.Dir) // nobody's contexts
	cmd.Stdin = strings.NewReader(input)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), errOut.String(), cmd.ProcessState.ExitCode()
}

// MustApply applies resources as a user would.
func (w *World) MustApply(t testing.TB, cp *cluster.ControlPlane, text string) {
	t.Helper()
	if out, errOut, code := w.Ctl(t, cp, text, "apply", "-f", "-"); code != 0 {
		t.Fatalf("atollctl apply at %s: exit code %d\n%s%s", cp.Name, code, out, errOut)
	}
}

// changeHeader is set on every response by Route.
const changeHeader = "x-change"

// Route is a policy that marks every response of the backend with a change and
// shares the requests between the versions by weight. In a zone it is the zone's
// own.
func Route(name, change string, v1, v2 int, zone bool) string {
	labels := ""
	if zone {
		labels = "labels: {kuma.io/origin: zone}\n"
	}
	return fmt.Sprintf(`type: MeshHTTPRoute
mesh: %s
name: %s
%sspec:
  to:
  - targetRef: {kind: MeshService, labels: {kuma.io/display-name: backend}}
    rules:
    - matches: [{path: {type: PathPrefix, value: /}}]
      default:
        filters:
        - type: ResponseHeaderModifier
          responseHeaderModifier: {set: [{name: %s, value: %q}]}
        backendRefs:
        - {kind: MeshService, labels: {kuma.io/display-name: backend}, port: 8080, weight: %d}
        - {kind: MeshService, labels: {kuma.io/display-name: backend-next}, port: 8080, weight: %d}
`, Mesh, name, labels, changeHeader, change, v1, v2)
}

// AwaitChange waits until a response in a zone carries a change.
func AwaitChange(ctx context.Context, limit time.Duration, url, change string) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return cluster.Until(ctx, url, func(ctx context.Context) error {
		got, err := Change(ctx, url)
		if err == nil && got != change {
			err = fmt.Errorf("the response carries change %q and not %q", got, change)
		}
		return err
	})
}

// Change is the newest change in a response.
func Change(ctx context.Context, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s", resp.Status, body)
	}
	return resp.Header.Get(changeHeader), err
}

// AwaitLog waits until one line of a process' log has all texts. It is for what
// shows nowhere else.
func AwaitLog(ctx context.Context, limit time.Duration, p *cluster.Process, texts ...string) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return cluster.Until(ctx, p.Name+"'s log", func(context.Context) error {
		b, err := os.ReadFile(p.Log)
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(b)) {
			found := 0
			for _, text := range texts {
				if strings.Contains(line, text) {
					found++
				}
			}
			if found == len(texts) {
				return nil
			}
		}
		return fmt.Errorf("no line with %q; its end:\n%s", texts, p.Tail(logTail))
	})
}
